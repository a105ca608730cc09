#!/usr/bin/env python3
"""One training run by PyTorch, transformers and PEFT, for train.py: peer.py JOB, a JSON object.

    {"model": CONFIG.json, "adapter": "full" | "lora" | "mora rotation" | "mora sharing", "r": 8, "sequences": 4,
     "length": 512, "dtype": "fp32" | "bf16 weights" | "bf16 autocast", "compile": false, "threads": 2, "device": "cpu" | "cuda"}

With "lengths", a list of a batch's lengths, sequences are padded to the longest. Weights and tokens are random: speed does not
depend on them. Attention is torch's scaled_dot_product_attention, transformers' default. MoRA is written as plainly as its
formula. For every number that it reads, a line each, it makes so many steps and prints {"seconds": they took,
"peak_memory_bytes": so far}.
"""

import json
import math
import resource
import sys
import time

import torch
import transformers

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Mora(torch.nn.Module):
    """A linear layer with MoRA (arXiv 2405.12130): rotation (Eq. 9) or sharing, both over strided blocks."""

    def __init__(self, base, r, operator):
        super().__init__()
        self.base, self.operator = base, operator
        size = round(math.sqrt((base.in_features + base.out_features) * r))
        self.size = size // 2 * 2 if operator == "rotation" else size
        self.matrix = torch.nn.Parameter(torch.zeros(self.size, self.size))
        self.blocks = -(-base.in_features // self.size)
        self.results = -(-base.out_features // self.size)
        angles = torch.outer(torch.arange(self.blocks).float(),
                             10000.0 ** (-torch.arange(0, self.size, 2).float() / self.size))
        self.register_buffer("cos", torch.cat([angles.cos(), angles.cos()], -1), persistent=False)
        self.register_buffer("sin", torch.cat([angles.sin(), angles.sin()], -1), persistent=False)

    def forward(self, x):
        y = self.base(x)
        padding = self.blocks * self.size - x.shape[-1]
        a = torch.cat([x, x[..., :padding]], -1) if padding else x
        a = a.to(self.matrix.dtype).view(*x.shape[:-1], self.blocks, self.size)
        if self.operator == "rotation":
            half = self.size // 2
            turned = torch.cat([-a[..., half:], a[..., :half]], -1)
            a = a * self.cos + turned * self.sin
            z = a @ self.matrix.T
            z = z[..., :self.results, :] if self.results <= self.blocks else z.repeat(
                *[1] * (z.dim() - 2), -(-self.results // self.blocks), 1)[..., :self.results, :]
        else:
            z = (a.sum(-2) @ self.matrix.T).unsqueeze(-2).expand(*x.shape[:-1], self.results, self.size)
        return y + z.reshape(*x.shape[:-1], -1)[..., :y.shape[-1]].to(y.dtype)


def adapted(model, job):
    if job["adapter"] == "full":
        return model
    if job["adapter"] == "lora":
        from peft import LoraConfig, get_peft_model
        return get_peft_model(model, LoraConfig(r=job["r"], lora_alpha=16, target_modules=TARGETS))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if name in TARGETS:
                setattr(module, name, Mora(child, job["r"], job["adapter"].split()[1]))
    return model


def batch_of(job):
    lengths = job.get("lengths") or [job["length"]] * job["sequences"]
    longest = max(lengths)
    ids = torch.randint(1, 400, (len(lengths), longest))
    mask = torch.arange(longest)[None, :] < torch.tensor(lengths)[:, None]
    batch = {"input_ids": ids, "labels": torch.where(mask, ids, -100)}
    if job.get("lengths"):
        batch["attention_mask"] = mask.long()
    return {name: tensor.to(job["device"]) for name, tensor in batch.items()}


def main():
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    config = transformers.AutoConfig.from_pretrained(job["model"])
    dtype = torch.bfloat16 if job["dtype"] == "bf16 weights" else torch.float32
    device = job["device"]
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
        model.config.use_cache = False
        model = adapted(model, job)
    sync = torch.cuda.synchronize if device == "cuda" else lambda: None
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    model.train()
    run = torch.compile(model) if job["compile"] else model
    batch = batch_of(job)
    for line in sys.stdin:
        begin = time.time()
        for _ in range(int(line)):
            with torch.autocast(device, torch.bfloat16, enabled=job["dtype"] == "bf16 autocast"):
                loss = run(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            sync()
        peak = (torch.cuda.max_memory_allocated() if device == "cuda"
                else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        print(json.dumps({"seconds": time.time() - begin, "peak_memory_bytes": peak}), flush=True)


if __name__ == "__main__":
    main()
