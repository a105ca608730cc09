#!/usr/bin/env bash
# Makes folders of a random model for load.sh: scripts/bench/make_model.sh OUT [HIDDEN] [LAYERS]
#
#   OUT/float32 (one file), OUT/shards (the same in 300 MB files), OUT/bfloat16, OUT/float16
#
# By the project's own programs: a model of 0.44 billion numbers is initialised and trained for one step, an adapter of it
# is merged into each type. Needs 8 GB of memory and 6 GB of disk; BUILD names another build folder.
set -euo pipefail
out=$(mkdir -p "$1" && realpath "$1")
hidden=${2:-1536} layers=${3:-12}
cd "$(dirname "$0")/../.."
build=$(realpath "${BUILD:-build}")

cat > "$out/config.json" <<EOF
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32000, "hidden_size": $hidden,
 "intermediate_size": $((hidden * 8 / 3)), "num_hidden_layers": $layers, "num_attention_heads": $((hidden / 64)),
 "max_position_embeddings": 512, "tie_word_embeddings": false}
EOF
seq -f 'line %g of a text' 100 > "$out/text.txt"
cat > "$out/full.json" <<EOF
{"task": "pretrain", "output_dir": "full", "model": {"config": "config.json", "tokenizer": "$PWD/data/base"},
 "adapter": {"method": "full"}, "data": {"train_files": ["text.txt"], "block_size": 16},
 "train": {"max_steps": 1, "per_device_train_batch_size": 1}}
EOF
sed 's|"config": "config.json", "tokenizer": "[^"]*"|"path": "full/model"|; s|"full"}|"lora", "r": 2}|; s|"output_dir": "full"|"output_dir": "lora"|' \
  "$out/full.json" > "$out/lora.json"
"$build/mora-train" --config "$out/full.json" --overwrite
"$build/mora-train" --config "$out/lora.json" --overwrite
merge() { "$build/mora-convert" merge --model "$out/full/model" --adapter "$out/lora/adapter" --out "$out/$1" "${@:2}"; }
merge float32 --dtype float32
merge shards --dtype float32 --max-shard-size 300MB
merge bfloat16 --dtype bfloat16
merge float16 --dtype float16
rm -r "$out/full" "$out/lora"
