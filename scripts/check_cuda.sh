#!/usr/bin/env bash
# Checks the CUDA backend on a machine with an NVIDIA GPU: check_cuda.sh [OUT]
#
# Builds it, runs its tests on the device (ctest -L cuda), runs them again under compute-sanitizer (memcheck and
# racecheck) where that is installed, and, with OUT and a Python that has torch, transformers and peft, measures training
# beside PyTorch on the same card (scripts/bench/train.py --device cuda). Stops at the first failure.
set -euo pipefail
cd "$(dirname "$0")/.."

cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=ON -DMORA_CUDA=ON
ninja -C build mora-cuda-tests mora-train mora-eval mora-generate
ctest --test-dir build --output-on-failure -L cuda

if command -v compute-sanitizer > /dev/null; then
  for tool in memcheck racecheck; do
    echo "compute-sanitizer --tool $tool"
    compute-sanitizer --tool "$tool" --error-exitcode 9 build/tests/mora-cuda-tests --test-suite="cuda op"
  done
else
  echo "compute-sanitizer is not installed: memory and races were not checked"
fi

if [ $# -gt 0 ]; then
  "${PYTHON:-python3}" scripts/bench/train.py "$1" --device cuda
fi
