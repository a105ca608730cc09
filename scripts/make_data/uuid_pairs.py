#!/usr/bin/env python3
"""Pairs of random UUIDs to memorize.

    uuid_pairs.py DIR [--pairs 128] [--seed 1]

writes DIR/pairs.jsonl ({"key", "value"}), for `data.file` of the task uuid. Without a file the task makes its own
pairs from `data.pairs` and `data.data_seed`. The same seed gives the same file.
"""
import argparse
import json
import pathlib
import random
import uuid


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--pairs", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    args.folder.mkdir(parents=True, exist_ok=True)
    with open(args.folder / "pairs.jsonl", "w", encoding="utf-8") as file:
        for _ in range(args.pairs):
            key, value = (str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(2))
            print(json.dumps({"key": key, "value": value}), file=file)


if __name__ == "__main__":
    main()
