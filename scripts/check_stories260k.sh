#!/bin/sh
# Checks conversion, tokenizer and generation against a real model: check_stories260k.sh STORIES_DIR
#
# STORIES_DIR holds llama2.c's stories260K.bin and tok512.bin. They are converted into a temporary
# folder; the greedy continuation must be the one that llama2.c prints. MORA_BUILD names the build
# folder with mora-continue-text (default: build).
set -eu

if [ $# -ne 1 ]; then
  echo "usage: check_stories260k.sh STORIES_DIR" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
tool=${MORA_BUILD:-$here/../build}/mora-continue-text
if [ ! -x "$tool" ]; then
  echo "check_stories260k.sh: $tool is missing; build the target mora-continue-text" >&2
  exit 2
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

prompt="Once upon a time"
expected="Once upon a time, there was a little girl named Lily. She loved to play outside in the park. \
One day, she saw a big, red ball."
status=0

"$here/convert_llama2c.py" "$1" "$work/model"
found=$("$tool" "$work/model" "$prompt" 80)
case $found in
  "$expected"*) ;;
  *)
    printf 'expected: %s\nfound:    %s\n' "$expected" "$found"
    status=1
    ;;
esac

# The model has 512 positions: more is an error of the data (3), in words.
code=0
message=$("$tool" "$work/model" "$prompt" 512 2>&1) || code=$?
case $code:$message in
  3:*"512 positions"*) ;;
  *)
    printf 'beyond 512 positions: exit code %s, expected 3; message: %s\n' "$code" "$message"
    status=1
    ;;
esac

if [ $status -eq 0 ]; then echo OK; fi
exit $status
