#!/usr/bin/env bash
# How fast a Hugging Face folder loads, beside plain reading of its files, and in how much memory:
#
#   scripts/bench/load.sh DIR [auto|float32]
#
# Cold runs come first, with the system's cache of files dropped, where that is allowed (root); BUILD names another build
# folder. "peak" is the largest memory while loading, over the size of the files.
set -euo pipefail
dir=$1 type=${2:-auto}
tool=${BUILD:-$(dirname "$0")/../../build}/mora-load-model
files=("$dir"/*.safetensors)

forget() { sync && { echo 3 > /proc/sys/vm/drop_caches; } 2> /dev/null; }
seconds_of() { local start=$EPOCHREALTIME; "$@" > /dev/null; awk "BEGIN {print $EPOCHREALTIME - $start}"; }

measure() {
  local read load
  [ "$1" = cold ] && forget
  read=$(seconds_of cat "${files[@]}" | tail -1)
  [ "$1" = cold ] && forget
  load=$("$tool" "$dir" "$type")
  awk -v kind="$1" -v read="$read" '
    {value[$1] = $2}
    END {
      mb = value["stored_bytes"] / 1e6
      printf "%-5s %9.1f MB stored  loaded in %7.3f s  %7.0f MB/s  cat %7.0f MB/s  peak %.4f of stored (weights %.4f)\n",
        kind, mb, value["seconds"], mb / value["seconds"], mb / read, value["peak_bytes"] / value["stored_bytes"],
        value["memory_bytes"] / value["stored_bytes"]
    }' <<< "$load"
}

if forget; then measure cold; else echo "cold: the cache of files cannot be dropped here"; fi
measure warm
measure warm
