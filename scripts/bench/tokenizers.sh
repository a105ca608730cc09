#!/bin/sh
# How fast tokenizers encode, and how fast the reference does, on one core:
#
#   scripts/bench/tokenizers.sh TEXT.gz TOKENIZER...
#
# For each tokenizer.json, tokenizer.model or folder, and for a unigram model that spm_train makes of
# the text: MB/s on the text and on a megabyte of one character (scripts/check_tokenizers.py --speed
# has the details and what it needs). MORA_BUILD names the build folder (default: build), PYTHON the
# interpreter. Run it on an idle machine.
set -eu

if [ $# -lt 1 ]; then
  echo "usage: tokenizers.sh TEXT.gz TOKENIZER..." >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
text=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
gzip -dc "$text" >"$work/corpus.txt"
spm_train --input="$work/corpus.txt" --model_prefix="$work/unigram" --model_type=unigram --vocab_size=8000 --hard_vocab_limit=false \
  --input_sentence_size=20000 --num_threads=1 --minloglevel=2 >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
rm "$work/corpus.txt"
OMP_NUM_THREADS=1 taskset -c 0 "${PYTHON:-python3}" "$here/../check_tokenizers.py" --speed --text "$text" "$@" "$work/unigram.model"
