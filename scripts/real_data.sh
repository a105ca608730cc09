#!/usr/bin/env bash
# Trains and evaluates every task on real data where they lie, and prints one table.
#
#   scripts/real_data.sh DATA MODEL [OUT] [STEPS] [QUESTIONS]
#
# DATA has the folders instruction, math, continual, pretrain and eval with openly licensed sets (docs/real_data.md names
# each, and what came out); MODEL is a Hugging Face folder, such as scripts/fetch_smollm2.sh makes; runs go to OUT
# (default runs/real), finished ones are not trained again. STEPS (default 30) steps of training, QUESTIONS (default 40)
# of each benchmark: a proof that every part works on real files, not a result. MMLU's 5-shot questions, the longest, are
# asked of one of the two instruction runs. Needs the programs in build/.
set -euo pipefail

if [ $# -lt 2 ] || [ $# -gt 5 ]; then
  sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
root=$(cd "$(dirname "$0")/.." && pwd)
data=$(cd "$1" && pwd)
model=$(cd "$2" && pwd)
out=${3:-$root/runs/real}
steps=${4:-30}
questions=${5:-40}
mkdir -p "$out"
out=$(cd "$out" && pwd)

# train NAME CONFIG [KEY=VALUE ...]
train() {
  local name=$1 config=$2 set=()
  shift 2
  for value in "$@"; do set+=(--set "$value"); done
  printf '\n== %s\n' "$name"
  "$root/build/mora-train" --config "$root/configs/$config" --resume --set "output_dir=$out/$name" \
    --set "train.max_steps=$steps" --set train.logging_steps=10 "${set[@]}"
}

# evaluate NAME BENCHMARKS: what the run is scored by, as in a configuration
evaluate() {
  printf '\n== %s: evaluation\n' "$1"
  "$root/build/mora-eval" --config "$out/$1/run_config.json" --set "eval.benchmarks=$2" --set eval.num_samples=64
}

on_model=("model.path=$model" train.per_device_train_batch_size=4 train.learning_rate=3e-4 train.warmup_steps=5
  data.max_length=512 data.packing=true)
few=$(((questions + 56) / 57))  # of each of MMLU's 57 subjects
some=$(((questions + 6) / 7))   # of each of MATH's 7 types

mmlu="{\"name\": \"mmlu\", \"data\": \"$data/eval/mmlu\", \"num_samples\": $few"
for layout in t0 alpaca; do
  file=$data/instruction/t0-prompt-completion.jsonl.gz
  [ $layout = t0 ] || file=$data/instruction/alpaca-format.jsonl.gz
  train "instruction-$layout" instruction_mora.json "${on_model[@]}" "data.train_files=[\"$file\"]"
  fewshot=""
  [ $layout = t0 ] || fewshot=", $mmlu, \"num_fewshot\": 5}"
  evaluate "instruction-$layout" "[$mmlu}$fewshot]"
done

train math math_mora.json "${on_model[@]}" eval.num_samples=64 \
  "data.train_files=[\"$data/math/gsm8k-train.jsonl.gz\"]" "data.validation_files=[\"$data/math/gsm8k-test.jsonl.gz\"]"
train math-competition math_mora.json "${on_model[@]}" \
  "data.train_files=[\"$data/math/math-train-part.jsonl.gz\"]" "data.validation_files=[]"
for name in math math-competition; do
  evaluate $name "[
    {\"name\": \"gsm8k\", \"data\": \"$data/math/gsm8k-test.jsonl.gz\", \"prompt\": \"metamath\", \"num_samples\": $questions,
     \"max_new_tokens\": 256},
    {\"name\": \"math\", \"data\": \"$data/math/math-test.jsonl.gz\", \"num_samples\": $some, \"max_new_tokens\": 256}]"
done

on_text=("model.path=$model" train.per_device_train_batch_size=4 train.learning_rate=3e-4 train.warmup_steps=5
  data.block_size=512 "data.validation_files=[]")
train continual-biomedicine continual_mora.json "${on_text[@]}" "data.train_files=[\"$data/continual/biomedicine.jsonl.gz\"]"
evaluate continual-biomedicine "[
  {\"name\": \"pubmedqa\", \"data\": \"$data/eval/pubmedqa\", \"num_samples\": $questions},
  {\"name\": \"medqa\", \"data\": \"$data/eval/medqa/usmle-test.jsonl.gz\", \"num_samples\": $questions}]"
train continual-finance continual_mora.json "${on_text[@]}" "data.train_files=[\"$data/continual/finance.jsonl.gz\"]"
evaluate continual-finance "[
  {\"name\": \"fiqa\", \"data\": \"$data/eval/fiqa\", \"num_samples\": $questions},
  {\"name\": \"convfinqa\", \"data\": \"$data/eval/convfinqa/convfinqa_dataset.json.gz\", \"num_samples\": $questions}]"

# From scratch, so many more and much smaller steps.
books=$(printf '"%s",' "$data"/pretrain/books-train-*.jsonl.gz)
for method in full remora; do
  train "pretrain-$method" "pretrain_$method.json" "data.train_files=[${books%,}]" \
    "data.validation_files=[\"$data/pretrain/wikitext-2-test.txt.gz\"]" "train.max_steps=$((steps * 20))"
  evaluate "pretrain-$method" "[]"
done

train uuid uuid_mora.json "model.path=$model" data.pairs=32 "train.max_steps=$((steps * 2))" train.learning_rate=1e-3
evaluate uuid "[]"

printf '\n'
runs=("$out"/*/summary.json)
"$root/build/mora-eval" --compare "${runs[@]%/summary.json}"
