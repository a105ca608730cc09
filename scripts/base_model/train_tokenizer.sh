#!/bin/sh
# Trains the tokenizer of the embedded base model: train_tokenizer.sh DATA_DIR OUT_DIR
#
# DATA_DIR holds the public-domain books (books-train-*.jsonl.gz, field "text"); OUT_DIR receives
# tokenizer.model. Needs spm_train (Debian package "sentencepiece") and python3. One thread and
# relative paths only, so that the model's bytes depend on the data and nothing else.
#
# The options make decode(encode(x)) == x for any valid UTF-8: identity normalisation, white space
# kept as it is, no dummy prefix, bytes for what has no piece. The newline is a piece of its own,
# because the trainer reads line by line and would never see one.
set -eu

if [ $# -ne 2 ]; then
  echo "usage: train_tokenizer.sh DATA_DIR OUT_DIR" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
data=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 "$here/make_hex_text.py" --bytes 900000 --seed 2 "$work/hex.jsonl"
python3 - "$data" "$work" <<'PYTHON'
import glob
import gzip
import json
import sys

data, work = sys.argv[1:]
files = sorted(glob.glob(f"{data}/books-train-*.jsonl.gz"))
if not files:
    sys.exit(f"{data}: no books-train-*.jsonl.gz")
slice_characters = 160_000  # a slice of every book rather than a few whole ones: 29 MB together
with open(f"{work}/text.txt", "w", encoding="utf-8") as out:
    for name in files:
        with gzip.open(name, "rt", encoding="utf-8") as lines:
            for line in lines:
                text = json.loads(line)["text"].replace("\ufeff", "")
                start = max(0, len(text) // 3 - slice_characters // 3)
                out.write(text[start : start + slice_characters] + "\n")
    with open(f"{work}/hex.jsonl", encoding="utf-8") as lines:
        for line in lines:
            out.write(json.loads(line)["text"])
PYTHON

cd "$work"
newline='
'
spm_train --input=text.txt --model_prefix=tokenizer --model_type=bpe --vocab_size=1024 \
  --num_threads=1 --max_sentence_length=200000 --minloglevel=2 \
  --byte_fallback=true --split_digits=true --character_coverage=0.9998 \
  --required_chars=0123456789abcdef:-ABCDEF --user_defined_symbols="$newline" \
  --normalization_rule_name=identity --add_dummy_prefix=false --remove_extra_whitespaces=false \
  --allow_whitespace_only_pieces=true --unk_id=0 --bos_id=1 --eos_id=2 --pad_id=-1
mv tokenizer.model "$out/tokenizer.model"
