#!/bin/sh
# How fast a model is loaded and how much memory that takes: load.sh FOLDER...
#
# For each Hugging Face folder (weights in safetensors): the bytes stored, the time that `cat` needs to
# read them, the time that mora-load (a test program) needs to have them in memory, and that
# program's peak memory over the bytes stored. Both read once from the disk, when the page cache can be
# dropped (root), and once from the page cache. MORA_BUILD names the build folder (default: build).
set -eu

if [ $# -eq 0 ]; then
  echo "usage: load.sh FOLDER..." >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
load=${MORA_BUILD:-$here/../../build}/mora-load

now() { date +%s.%N; }
cold() { sync; echo 3 >/proc/sys/vm/drop_caches 2>/dev/null; }

for folder; do
  for cache in disk memory; do
    if [ $cache = disk ] && ! cold; then
      echo "$folder: the page cache cannot be dropped here; only read from memory"
      continue
    fi
    begin=$(now)
    cat "$folder"/*.safetensors >/dev/null
    cat=$(echo "$(now) - $begin" | bc)
    [ $cache = disk ] && cold
    printf '%s, from %s: cat %.2f s; ' "$folder" "$cache" "$cat"
    "$load" "$folder"
  done
done
