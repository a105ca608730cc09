#!/usr/bin/env python3
"""Writes gguf_blocks.safetensors: what the `gguf` package makes of blocks of random bytes.

    python3 -m venv env && env/bin/pip install gguf==0.19.0 numpy==2.4.6 safetensors==0.8.0
    env/bin/python make_gguf_goldens.py

For each element type T, `T.blocks` (U8, [n, bytes of a block]) and `T.values` (F32, [n, values of a
block]). The first blocks have scales of the size that models have; the others are random bytes
throughout, so that their scales are of any size, subnormal, infinite and NaN among them.

`quantize.values` (F32, [n, 32]) and what they become: `quantize.Q8_0` (U8, [n, 34]), `quantize.F16`
and `quantize.BF16` (U8, [n, 64]).
"""

import pathlib

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file

SANE, WILD = 8, 24
HALF_SCALES = {  # where a block has its F16 scales
    "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q6_K": [208],
}
TYPES = ["F32", "F16", "BF16", *HALF_SCALES]


def blocks_of(rng, name):
    _, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    count = SANE + WILD if name in HALF_SCALES else 256
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for offset in HALF_SCALES.get(name, []):
        scales = (rng.standard_normal(SANE) * 0.02).astype(np.float16)
        blocks[:SANE, offset:offset + 2] = scales.view(np.uint8).reshape(SANE, 2)
        # Zero, the smallest subnormal, the largest number, infinity and NaN occur for certain.
        edges = np.array([0x0000, 0x8000, 0x0001, 0x83FF, 0x7BFF, 0xFC00, 0x7E00], np.uint16)
        blocks[SANE:SANE + 7, offset:offset + 2] = edges.view(np.uint8).reshape(7, 2)
    return blocks


def values_to_quantize(rng):
    rows = [rng.standard_normal(32) * 10.0 ** power for power in range(-9, 5)]
    rows.append(np.zeros(32))
    rows.append(np.arange(32) - 16.0)
    rows.append(np.full(32, 1e-41))  # a scale that is subnormal
    rows.append(np.linspace(-127, 127, 32).round() + 0.5)  # ties
    return np.array(rows, np.float32)


def main():
    rng = np.random.default_rng(7)
    tensors = {}
    with np.errstate(all="ignore"):
        for name in TYPES:
            blocks = blocks_of(rng, name)
            tensors[f"{name}.blocks"] = blocks
            tensors[f"{name}.values"] = dequantize(blocks, GGMLQuantizationType[name])
        values = values_to_quantize(rng)
        tensors["quantize.values"] = values
        for name in ("Q8_0", "F16", "BF16"):
            tensors[f"quantize.{name}"] = quantize(values, GGMLQuantizationType[name]).view(np.uint8)
    folder = pathlib.Path(__file__).parent
    save_file(tensors, folder / "gguf_blocks.safetensors",
              {"format": "pt", "made_by": "make_gguf_goldens.py, gguf 0.19.0"})


main()
