#!/usr/bin/env python3
"""Speed and memory of training, ours beside PyTorch + transformers + PEFT: train.py OUT [CASE ...]

Runs every case (or those whose names contain one of CASE) by mora-train and by peer.py, both on the same model shape, tokens,
precision and threads, and prints a table in Markdown; OUT keeps the runs and results.json, which has every turn. The two take
turns of a step or a second, one stopped while the other works (turns.py): a ratio is the median over the turns, its range
beside it. A case's peer runs in each of its ways (eager and torch.compile; bf16 weights and autocast) and the fastest counts; a
way that takes twice the time of the best one ends after its first turn. MoRA also takes turns with our own LoRA of the same r.

    --threads N (all)   --turns N (7, after two steps that warm up)   --build DIR (build)
    --no-compile, --no-eager: peers in fewer ways   --ours: without peers
    --device cuda: the cases of a GPU instead, both sides on the first one; memory is then what each holds there

To be run by a Python that has torch, transformers and peft. "share" is the part of the machine's matrix-product speed
(the best of a few torch products, in the same turns) that the floating-point operations of our whole step come to.
"""

import argparse
import json
import math
import os
import re
import statistics
import sys
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from turns import Answering, Failed, Ours, Peer

ROOT = Path(__file__).resolve().parents[2]
SHAPES = {
    # SmolLM2-135M
    "135M": {"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
             "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True},
    # the ReLoRA family's
    "60M": {"vocab_size": 32000, "hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8,
            "num_attention_heads": 8, "num_key_value_heads": 8, "tie_word_embeddings": False},
    "250M": {"vocab_size": 32000, "hidden_size": 768, "intermediate_size": 2560, "num_hidden_layers": 24,
             "num_attention_heads": 16, "num_key_value_heads": 16, "tie_word_embeddings": False},
    "1.3B": {"vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5461, "num_hidden_layers": 24,
             "num_attention_heads": 32, "num_key_value_heads": 32, "tie_word_embeddings": False},
    # Llama-2-7B
    "7B": {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
           "num_attention_heads": 32, "num_key_value_heads": 32, "tie_word_embeddings": False},
    "20M": {"vocab_size": 32000, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4,
            "num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": False},
}
# A batch of instruction data, from short questions to long answers.
LENGTHS = [20, 31, 44, 58, 73, 90, 108, 131, 157, 188, 226, 270, 322, 377, 441, 500]


@dataclass
class Case:
    name: str
    shape: str
    adapter: str
    dtype: str = "fp32"
    r: int = 8
    sequences: int = 4
    length: int = 512
    lengths: list = field(default_factory=list)
    recompute: str = "none"

    @property
    def peer(self):
        """What the peer computes."""
        return (self.shape, self.adapter, self.dtype, self.r, self.sequences, self.length, *self.lengths)

    @property
    def tokens(self):
        return sum(self.lengths) or self.sequences * self.length


CPU_CASES = [
    *[Case(f"{a} r=8, 135M, 4 x 512, {d}", "135M", a, d) for d in ("fp32", "bf16") for a in ("lora", "mora rotation")],
    *[Case(f"lora r=8, 135M, 4 x 512, {d}, recompute block", "135M", "lora", d, recompute="block")
      for d in ("fp32", "bf16")],
    *[Case(f"full, 60M, 8 x 256, {d}", "60M", "full", d, sequences=8, length=256) for d in ("fp32", "bf16")],
    *[Case(f"lora r=8, 135M, lengths 20 to 500, {d}", "135M", "lora", d, lengths=LENGTHS) for d in ("fp32", "bf16")],
    *[Case(f"{a} r=128, 135M, 4 x 512, {d}", "135M", a, d, r=128)
      for d in ("fp32", "bf16") for a in ("lora", "mora sharing")],
    *[Case(f"lora r=8, 20M, 1 x {n}, bf16", "20M", "lora", "bf16", sequences=1, length=n) for n in (256, 2048, 8192)],
]
GPU_CASES = [
    *[Case(f"{a} r=8, 7B, 2 x 2048, bf16", "7B", a, "bf16", sequences=2, length=2048)
      for a in ("lora", "mora rotation", "mora sharing")],
    Case("lora r=8, 7B, 2 x 2048, bf16, recompute block", "7B", "lora", "bf16", sequences=2, length=2048,
         recompute="block"),
    *[Case(f"full, {shape}, {n} x 256, bf16", shape, "full", "bf16", sequences=n, length=256)
      for shape, n in (("250M", 64), ("1.3B", 32))],
    *[Case(f"lora r=8, 135M, 16 x 512, {d}", "135M", "lora", d, sequences=16) for d in ("fp32", "bf16")],
]
CASES = {"cpu": CPU_CASES, "cuda": GPU_CASES}


def write_shape(out, shape):
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
              "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "bos_token_id": 1,
              "eos_token_id": 2, "attention_bias": False, "mlp_bias": False, **SHAPES[shape]}
    path = out / f"{shape}.json"
    path.write_text(json.dumps(config))
    return path


def adapter_of(case):
    if case.adapter == "full":
        return {"method": "full"}
    if case.adapter == "lora":
        return {"method": "lora", "r": case.r, "lora_alpha": 16}
    return {"method": "mora", "r": case.r, "operator": case.adapter.split()[1]}


def name_of(case):
    return re.sub(r"\W+", "-", case.name)


def prepare_ours(out, case, device):
    """The configuration of a run, and its data: documents of exactly a sequence's tokens."""
    lengths = case.lengths or [case.length] * case.sequences
    name = name_of(case)
    data = out / f"{name}.jsonl"
    with data.open("w") as f:
        for step in range(8):
            for i, length in enumerate(lengths):
                ids = [3 + (step * 7919 + i * 104729 + t * 31) % 397 for t in range(length)]
                row = {"input_ids": ids}
                f.write(json.dumps(row) + "\n")
    packed = bool(case.lengths)
    config = {
        "task": "instruction" if packed else "continual", "output_dir": f"run-{name}", "dtype": case.dtype, "device": device,
        "model": {"config": f"{case.shape}.json", "tokenizer": str(ROOT / "data/base"),
                  "dtype": "bfloat16" if case.dtype == "bf16" and case.adapter != "full" else "float32"},
        "adapter": adapter_of(case),
        "data": {"train_files": [data.name], "validation_files": [], "cache_dir": ""},
        "train": {"max_steps": 1000000, "learning_rate": 1e-4, "logging_steps": 1, "max_grad_norm": 1.0,
                  "recompute": case.recompute,
                  "per_device_train_batch_size": 1 if packed else case.sequences},
        "eval": {"benchmarks": []},
    }
    if packed:  # one buffer that holds the batch, with nothing left over
        config["data"] |= {"max_length": case.tokens, "packing": True, "chat_template": "plain"}
    else:
        config["data"] |= {"block_size": case.length, "add_bos": "never"}
    path = out / f"{name}.json"
    path.write_text(json.dumps(config))
    return path


def command_of(args, config):
    return [str(args.build / "mora-train"), "--config", str(config), "--overwrite", "--threads", str(args.threads)]


def profile_of(args, config):
    """The operations of a step and the most memory it takes, by a short run of its own."""
    short = ["--profile", "--set", "train.max_steps=3", "--set", "output_dir=profile"]
    done = subprocess.run([*command_of(args, config), *short], stderr=subprocess.PIPE, text=True, cwd=config.parent)
    if done.returncode != 0:
        raise Failed(done.stderr)
    profile = json.loads((config.parent / "profile/profile.json").read_text())
    summary = json.loads((config.parent / "profile/summary.json").read_text())
    return {"flops_per_step": sum(op["flops"] for op in profile["ops"].values()) / 2,  # the first step is not profiled
            "peak_memory_bytes": summary["peak_memory_bytes" if args.device == "cpu" else "planned_memory_bytes"]}


def python(args, script, *arguments):
    """The command and the environment of a script of this folder."""
    env = dict(os.environ, OMP_NUM_THREADS=str(args.threads), HF_HUB_OFFLINE="1")
    return [sys.executable, str(ROOT / "scripts/bench" / script), *arguments], env


def start_ours(args, out, case):
    return Ours(command_of(args, prepare_ours(out, case, args.device)), out)


def start_peer(args, out, case, way):
    job = {"model": str(out / f"{case.shape}.json"), "adapter": case.adapter, "r": case.r, "sequences": case.sequences,
           "length": case.length, "lengths": case.lengths, "dtype": way[0], "compile": way[1], "threads": args.threads,
           "device": args.device}
    command, env = python(args, "peer.py", json.dumps(job))
    return Peer(command, out / f"{name_of(case)}.peer.log", env)


def start_products(args, out, dtype):
    command, env = python(args, "products.py", str(args.threads), args.device, dtype)
    return Answering(command, out / "products.log", env)


def ways_of(args, case, known_ways):
    """What the peer may run as: precision, and whether compiled. Where a case of the same peer was measured, its fastest."""
    if args.ours:
        return []
    if case.peer in known_ways:
        return [known_ways[case.peer]]
    dtypes = ["fp32"] if case.dtype == "fp32" else ["bf16 weights", "bf16 autocast"]
    compiled = [False] * (not args.no_eager) + [True] * (not args.no_compile)
    return [(d, c) for d in dtypes for c in compiled]


def in_turn(turns, ours, other, enough=lambda ratio: False):
    """Steps a second of both in each turn; ends after the first turn where enough(its ratio)."""
    pairs = []
    for _ in range(turns):
        pairs.append((ours.turn(), other.turn()))
        if enough(pairs[0][0] / pairs[0][1]):
            break
    return pairs


def ratio_of(pairs):
    return statistics.median(a / b for a, b in pairs)


def beside_peer(args, out, case, ways, ours):
    """The turns with the peer in its fastest way, or None where it has none."""
    best = None
    for way in ways:
        try:
            with start_peer(args, out, case, way) as peer:
                peer.warm_up()
                bound = 2 * best["ratio"] if best else math.inf
                pairs = in_turn(args.turns, ours, peer, lambda ratio: ratio > bound)
        except Failed as failed:
            print(f"  {way} of the peer failed: {failed}", file=sys.stderr)
            continue
        if not best or ratio_of(pairs) < best["ratio"]:
            best = {"way": way, "ratio": ratio_of(pairs), "pairs": pairs, "peak_memory_bytes": peer.peak_memory_bytes,
                    "first_step_seconds": peer.first_step_seconds}
    return best


def beside_lora(args, out, case, ours):
    """The turns with our own LoRA of the same r."""
    with start_ours(args, out, replace(case, name=f"{case.name} beside lora", adapter="lora")) as lora:
        lora.warm_up()
        return in_turn(args.turns, ours, lora)


def beside_products(args, products, ours):
    """Steps a second beside GFLOP/s of the best product."""
    return [(ours.turn(), products.ask("")["gflops"]) for _ in range(args.turns)]


def measure(args, out, case, known_ways):
    write_shape(out, case.shape)
    result = {"case": case.name, "tokens": case.tokens, **profile_of(args, prepare_ours(out, case, args.device))}
    with ExitStack() as stack:
        ours = stack.enter_context(start_ours(args, out, case))
        ours.warm_up()
        result["first_step_seconds"] = ours.first_step_seconds
        products = stack.enter_context(start_products(args, out, case.dtype))
        result["products"] = beside_products(args, products, ours)
        if peer := beside_peer(args, out, case, ways_of(args, case, known_ways), ours):
            result["peer"] = peer
            known_ways[case.peer] = peer["way"]
        if case.adapter.startswith("mora"):
            result["lora"] = beside_lora(args, out, case, ours)
    return result


def with_range(ratios):
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def row(result):
    peer, lora = result.get("peer"), result.get("lora")
    pairs = peer["pairs"] if peer else result["products"]
    speeds = [result["tokens"] * statistics.median(side) for side in zip(*pairs)]
    shares = [steps * result["flops_per_step"] * 1e-9 / gflops for steps, gflops in result["products"]]
    product = statistics.median(gflops for _, gflops in result["products"])
    way = f"{peer['way'][0]}, {'compiled' if peer['way'][1] else 'eager'}" if peer else ""
    cells = [result["case"], f"{speeds[0]:.0f}",
             f"{speeds[1]:.0f} ({way})" if peer else "-",
             with_range([a / b for a, b in pairs]) if peer else "-",
             f"{ratio_of(lora):.2f}" if lora else "-",
             f"{100 * statistics.median(shares):.0f} % of {product:.0f}",
             f"{result['peak_memory_bytes'] / 2**20:.0f}",
             f"{result['peak_memory_bytes'] / peer['peak_memory_bytes']:.2f}" if peer else "-",
             f"{result['first_step_seconds']:.1f} / " + (f"{peer['first_step_seconds']:.1f}" if peer else "-")]
    return "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--device", choices=CASES, default="cpu")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--no-eager", action="store_true")
    parser.add_argument("--ours", action="store_true")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    args.build = args.build.resolve()
    print("| case | ours, tokens/s | peer, tokens/s | ratio | of our LoRA | share, GFLOP/s | ours, MiB | of the peer's "
          "| first step, s |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    results, known_ways = [], {}
    for case in CASES[args.device]:
        if args.cases and not any(part in case.name for part in args.cases):
            continue
        try:
            results.append(measure(args, out, case, known_ways))
        except Failed as failed:
            sys.exit(f"{case.name}: {failed}")
        print(row(results[-1]), flush=True)
        (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
