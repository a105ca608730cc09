#!/bin/sh
# Checks whole real models against the numbers of transformers: check_real_models.sh STORIES_DIR DIR
#
# STORIES_DIR holds llama2.c's stories260K.bin and tok512.bin; DIR receives SmolLM2-135M-Instruct
# (fetch_smollm2.sh) and its conversions, about 2 GB. Each model must give the logits of
# tests/golden/model_*.safetensors within 1e-4 of the largest and the same 64 greedy tokens: as it
# is, after a round trip through GGUF, and in shards; an adapter trained on it must merge to the
# same function. MORA_BUILD names the build folder (default: build).
set -eu

if [ $# -ne 2 ]; then
  echo "usage: check_real_models.sh STORIES_DIR DIR" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
build=${MORA_BUILD:-$here/../build}
goldens=$here/../tests/golden
mkdir -p "$2"
work=$(mktemp -d "$2/check.XXXXXX")
trap 'rm -rf "$work"' EXIT

check() {
  printf '%s: ' "$1"
  "$build/mora-check-model" "$2" "$goldens/$3"
}

"$here/convert_llama2c.py" "$1" "$work/stories"
check "stories260K" "$work/stories" model_stories260k.safetensors

"$here/fetch_smollm2.sh" "$2"
smollm2=$2/SmolLM2-135M-Instruct
check "SmolLM2" "$smollm2" model_smollm2.safetensors

"$build/mora-convert" hf-to-gguf --model "$smollm2" --out "$work/smollm2.gguf" --type f32
"$build/mora-convert" gguf-to-hf --model "$work/smollm2.gguf" --out "$work/smollm2"
rm "$work/smollm2.gguf"
check "SmolLM2 through GGUF" "$work/smollm2" model_smollm2.safetensors
rm -r "$work/smollm2"

for method in lora mora; do
  "$build/mora-train" --config "$here/../configs/uuid_$method.json" --set "model.path=$smollm2" \
    --set "output_dir=$work/$method" --set data.pairs=8 --set train.max_steps=4 \
    --set train.per_device_train_batch_size=2 --set train.save_steps=0 --set "train.save_at=[]" \
    --set eval.num_samples=1 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
  printf '%s, merged in shards: ' "$method"
  "$build/mora-convert" merge --model "$smollm2" --adapter "$work/$method/adapter" \
    --out "$work/$method-merged" --dtype float32 --max-shard-size 200MB
  rm -r "$work/$method-merged"
done
