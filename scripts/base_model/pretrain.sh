#!/bin/sh
# Pretrains the embedded base model: pretrain.sh DATA_DIR OUT_DIR
#
# DATA_DIR holds the public-domain books (books-train-*.jsonl.gz, books-validation.jsonl.gz, field "text"); OUT_DIR
# receives the run, with the model in OUT_DIR/model. Uses the tokenizer in data/base (see train_tokenizer.sh). The
# result's bits depend on the data and the configuration, not on the number of threads.
set -eu

if [ $# -ne 2 ]; then
  echo "usage: pretrain.sh DATA_DIR OUT_DIR" >&2
  exit 2
fi
root=$(cd "$(dirname "$0")/../.." && pwd)
data=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)

python3 "$root/scripts/base_model/make_hex_text.py" "$out/hex.jsonl"
files=$(ls "$data"/books-train-*.jsonl.gz | sed 's/.*/"&",/' | tr -d '\n')
exec "$root/build/mora-train" --config "$root/configs/base_pretrain.json" \
  --set "output_dir=$out" \
  --set "data.train_files=[$files\"$out/hex.jsonl\"]" \
  --set "data.validation_files=[\"$data/books-validation.jsonl.gz\"]"
