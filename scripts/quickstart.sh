#!/usr/bin/env bash
# The main job, from nothing: installs what is missing, builds, then fine-tunes the embedded base model on memorizing
# UUID pairs with LoRA and with MoRA at the same number of trainable parameters, and prints one table.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

ensure_packages $base_packages
if [ ! -f build/build.ninja ]; then
  cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF
fi
echo "Building (the first time takes a few minutes)"
ninja -C build mora-train mora-eval

for method in lora mora; do
  echo
  echo "== mora-train --config configs/uuid_$method.json"
  build/mora-train --config "configs/uuid_$method.json" --overwrite
done
echo
build/mora-eval --compare runs/uuid_lora runs/uuid_mora
