#!/usr/bin/env python3
"""Speed and memory of training, ours beside PyTorch + transformers + PEFT: train.py OUT [CASE ...]

Runs every case (or those whose names contain one of CASE) by mora-train and by peer.py in turn, both on the same model
shape, tokens, precision and threads, and prints a table in Markdown; OUT keeps the runs and results.json. A case's peer
runs in each of its ways (eager and torch.compile; bf16 weights and autocast) and the fastest counts; a way whose second
step takes twice the time of another way's ends there. Cases with recompute are ours alone: they stand beside the peer of
the same case without.

    --threads N (all)   --steps N (8; the first two warm up)   --rounds N (2: each side runs so often, alternating)
    --build DIR (build)   --no-compile   --ours (without peers)
    --device cuda: the cases of a GPU instead, both sides on the first one; memory is then what each holds there

To be run by a Python that has torch, transformers and peft. "share" is the part of the machine's matrix-product speed
(the best of a few torch products in the same run) that the floating-point operations of our whole step come to.
"""

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

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


def prepare_ours(out, case, steps, device):
    """The configuration of a run, and its data: documents of exactly a sequence's tokens."""
    lengths = case.lengths or [case.length] * case.sequences
    name = re.sub(r"\W+", "-", case.name)
    data = out / f"{name}.jsonl"
    with data.open("w") as f:
        for step in range(steps):
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
        "train": {"max_steps": steps, "learning_rate": 1e-4, "logging_steps": 1, "max_grad_norm": 1.0,
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


def run_ours(args, config, *more):
    command = [str(args.build / "mora-train"), "--config", str(config), "--overwrite", "--threads", str(args.threads)]
    start, first = time.time(), 0
    with subprocess.Popen([*command, *more], stderr=subprocess.PIPE, text=True, cwd=config.parent) as process:
        said = []
        for line in process.stderr:
            said.append(line)
            if not first and line.startswith("step 1/"):
                first = time.time() - start
    if process.returncode != 0:
        sys.exit("".join(said))
    folder = config.parent / json.loads(config.read_text())["output_dir"]
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    speeds = [m["tokens_per_second"] for m in metrics if "loss" in m]
    summary = json.loads((folder / "summary.json").read_text())
    memory = summary["peak_memory_bytes" if args.device == "cpu" else "planned_memory_bytes"]
    return {"tokens_per_second": statistics.median(speeds[2:]), "peak_memory_bytes": memory,
            "first_step_seconds": first}


def flops_per_step(args, config):
    run_ours(args, config, "--profile")
    settings = json.loads(config.read_text())
    profile = json.loads((config.parent / settings["output_dir"] / "profile.json").read_text())
    return sum(op["flops"] for op in profile["ops"].values()) / (settings["train"]["max_steps"] - 1)


def peer_ways(args, dtype):
    dtypes = ["fp32"] if dtype == "fp32" else ["bf16 weights", "bf16 autocast"]
    return [(d, c) for d in dtypes for c in ([False] if args.no_compile else [False, True])]


def run_peer(args, out, case, way, give_up_seconds):
    job = {"model": str(out / f"{case.shape}.json"), "adapter": case.adapter, "r": case.r, "sequences": case.sequences,
           "length": case.length, "lengths": case.lengths, "dtype": way[0], "compile": way[1], "threads": args.threads, "device": args.device,
           "steps": args.steps, "give_up_seconds": give_up_seconds}
    env = dict(os.environ, OMP_NUM_THREADS=str(args.threads), HF_HUB_OFFLINE="1")
    done = subprocess.run([sys.executable, str(ROOT / "scripts/bench/peer.py"), json.dumps(job)], env=env,
                          capture_output=True, text=True)
    if done.returncode != 0:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    result = json.loads(done.stdout.splitlines()[-1])
    result["seconds_per_step"] = statistics.median(result["seconds"][2:] or result["seconds"][1:])
    result["tokens_per_second"] = result["tokens"] / result["seconds_per_step"]
    return result


def ceilings(threads, device):
    """GFLOP/s of the best torch product, by dtype, and whose."""
    code = """
import torch, time, sys
torch.set_num_threads(int(sys.argv[1]))
device = sys.argv[2]
sync = torch.cuda.synchronize if device == "cuda" else lambda: None
shapes = {"cpu": ((2048, 2048, 2048), (2048, 576, 1536), (2048, 1536, 576)),
          "cuda": ((4096, 4096, 4096), (8192, 8192, 8192), (4096, 4096, 11008))}
print(torch.cuda.get_device_name() if device == "cuda" else f"{sys.argv[1]} threads")
for dtype in (torch.float32, torch.bfloat16):
    best = 0
    for m, k, n in shapes[device]:
        a, b = torch.randn(m, k, device=device).to(dtype), torch.randn(k, n, device=device).to(dtype)
        for _ in range(10):
            sync()
            begin = time.time()
            a @ b
            sync()
            best = max(best, 2 * m * k * n / (time.time() - begin) * 1e-9)
    print(best)
"""
    command = [sys.executable, "-c", code, str(threads), device]
    whose, *best = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {"fp32": float(best[0]), "bf16": float(best[1]), "whose": whose}


def median_of(runs):
    return {key: statistics.median(run[key] for run in runs)
            for key in ("tokens_per_second", "peak_memory_bytes", "first_step_seconds")}


def measure(args, out, case, known_peers):
    write_shape(out, case.shape)
    config = prepare_ours(out, case, args.steps, args.device)
    ways = [] if args.ours or case.recompute != "none" else peer_ways(args, case.dtype)
    ours, peers = [], {way: [] for way in ways}
    best = math.inf  # seconds of a step
    for _ in range(args.rounds):
        ours.append(run_ours(args, config))
        for way in ways:
            result = run_peer(args, out, case, way, 2 * best)
            if "failed" in result:
                print(f"  {way} of the peer failed: {result['failed']}", file=sys.stderr)
            else:
                peers[way].append(result)
                best = min(best, result["seconds_per_step"])
    peers = {way: median_of(runs) for way, runs in peers.items() if runs} or known_peers.get(case.peer, {})
    known_peers[case.peer] = peers
    result = {"case": case.name, "dtype": case.dtype, "flops_per_step": flops_per_step(args, config),
              "tokens": case.tokens, "ours": median_of(ours)}
    if peers:
        fastest = max(peers, key=lambda way: peers[way]["tokens_per_second"])
        smallest = min(peer["peak_memory_bytes"] for peer in peers.values())
        result |= {"peer": peers[fastest] | {"way": fastest[0] + (", compiled" if fastest[1] else ", eager"),
                                             "smallest_peak_memory_bytes": smallest}}
    return result


def row(result, ceiling):
    ours, peer = result["ours"], result.get("peer")
    speed = result["flops_per_step"] / result["tokens"] * ours["tokens_per_second"] * 1e-9
    cells = [result["case"], f"{ours['tokens_per_second']:.0f}"]
    if peer:
        cells += [f"{peer['tokens_per_second']:.0f} ({peer['way']})",
                  f"{ours['tokens_per_second'] / peer['tokens_per_second']:.2f}"]
    else:
        cells += ["-", "-"]
    cells += [f"{100 * speed / ceiling[result['dtype']]:.0f} %", f"{ours['peak_memory_bytes'] / 2**20:.0f}"]
    cells += [f"{ours['peak_memory_bytes'] / peer['peak_memory_bytes']:.2f}" if peer else "-"]
    cells += [f"{ours['first_step_seconds']:.1f} / {peer['first_step_seconds']:.1f}" if peer
              else f"{ours['first_step_seconds']:.1f}"]
    return "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--device", choices=CASES, default="cpu")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--ours", action="store_true")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    args.build = args.build.resolve()
    ceiling = ceilings(args.threads, args.device)
    print(f"matrix products of torch: {ceiling['fp32']:.0f} GFLOP/s in fp32, {ceiling['bf16']:.0f} in bf16; "
          f"{ceiling['whose']}\n")
    print("| case | ours, tokens/s | peer, tokens/s | ratio | share | ours, MiB | of the peer's | first step, s |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    results, known_peers = [], {}
    for case in CASES[args.device]:
        if args.cases and not any(part in case.name for part in args.cases):
            continue
        results.append(measure(args, out, case, known_peers))
        print(row(results[-1], ceiling), flush=True)
        (out / "results.json").write_text(json.dumps({"ceiling": ceiling, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
