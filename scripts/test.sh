#!/usr/bin/env bash
# Installs what is missing, builds everything and runs every test. Ends with ctest's summary and its exit code.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

ensure_packages $base_packages $test_packages
cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=ON
ninja -C build
ctest --test-dir build --output-on-failure -j 2
