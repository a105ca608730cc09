#!/bin/sh
# Checks whole real models against the numbers of transformers: check_real_models.sh STORIES_DIR DIR
#
# STORIES_DIR holds llama2.c's stories260K.bin and tok512.bin; DIR receives SmolLM2-135M-Instruct
# (fetch_smollm2.sh) and conversions, about 2 GB. These two and the embedded model must give the
# logits of tests/golden/model_*.safetensors within 1e-4 of the largest and the same 64 greedy
# tokens: as they are, and after a round trip through GGUF (F32). Adapters trained on each must
# merge to the same function, in shards. check_peft.py compares adapters and merged models with
# PEFT. MORA_BUILD names the build folder (default: build).
set -eu

if [ $# -ne 2 ]; then
  echo "usage: check_real_models.sh STORIES_DIR DIR" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
build=${MORA_BUILD:-$here/../build}
mkdir -p "$2"
work=$(mktemp -d "$2/check.XXXXXX")
trap 'rm -rf "$work"' EXIT

# check NAME FOLDER GOLDEN
check() {
  printf '%s: ' "$1"
  "$build/mora-check-model" "$2" "$here/../tests/golden/model_$3.safetensors"
}

# check_merge NAME FOLDER SHARD
check_merge() {
  for method in lora mora; do
    "$build/mora-train" --config "$here/../configs/uuid_$method.json" --set "model.path=$2" \
      --set "output_dir=$work/run" --set data.pairs=8 --set train.max_steps=4 \
      --set train.per_device_train_batch_size=2 --set train.save_steps=0 --set "train.save_at=[]" \
      --set eval.num_samples=1 --overwrite 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
    printf '%s with %s, merged in shards: ' "$1" "$method"
    "$build/mora-convert" merge --model "$2" --adapter "$work/run/adapter" --out "$work/merged" \
      --dtype float32 --max-shard-size "$3"
    rm -r "$work/merged"
  done
}

# check_all NAME FOLDER GOLDEN SHARD
check_all() {
  check "$1" "$2" "$3"
  "$build/mora-convert" hf-to-gguf --model "$2" --out "$work/model.gguf" --type f32
  "$build/mora-convert" gguf-to-hf --model "$work/model.gguf" --out "$work/back"
  check "$1 through GGUF" "$work/back" "$3"
  rm -r "$work/model.gguf" "$work/back"
  check_merge "$1" "$2" "$4"
}

"$here/convert_llama2c.py" "$1" "$work/stories"
"$here/fetch_smollm2.sh" "$2"
check_all "stories260K" "$work/stories" stories260k 500KB
check_all "the embedded model" "$here/../data/base" base 500KB
check_all "SmolLM2" "$2/SmolLM2-135M-Instruct" smollm2 200MB
