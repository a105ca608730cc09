#!/usr/bin/env python3
"""The speed of matrix products by torch, for train.py: products.py THREADS cpu|cuda fp32|bf16

For every line that it reads it prints {"gflops": of the best product among a few shapes, each made a few times}.
"""

import json
import sys
import time

import torch

SHAPES = {"cpu": ((2048, 2048, 2048), (2048, 576, 1536), (2048, 1536, 576)),
          "cuda": ((4096, 4096, 4096), (8192, 8192, 8192), (4096, 4096, 11008))}


def main():
    threads, device, dtype = sys.argv[1:]
    torch.set_num_threads(int(threads))
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    sync = torch.cuda.synchronize if device == "cuda" else lambda: None
    operands = [(torch.randn(m, k, device=device).to(dtype), torch.randn(k, n, device=device).to(dtype))
                for m, k, n in SHAPES[device]]
    for _ in sys.stdin:
        best = 0
        for a, b in operands:
            for _ in range(6):
                sync()
                begin = time.time()
                a @ b
                sync()
                best = max(best, 2 * a.shape[0] * a.shape[1] * b.shape[1] / (time.time() - begin) * 1e-9)
        print(json.dumps({"gflops": best}), flush=True)


if __name__ == "__main__":
    main()
