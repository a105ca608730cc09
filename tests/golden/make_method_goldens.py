#!/usr/bin/env python3
"""Makes methods.safetensors: twenty AdamW steps by DoRA, LoRA+, AsyLoRA's start and modules_to_save as stock
PEFT computes them, and the singular vectors that AsyLoRA's start is made of.

    env/bin/python make_method_goldens.py

Versions, seeds, precision and the training itself are those of make_goldens.py, whose functions it uses;
README.md lists the tensors. The bases are llama_untied/ and llama_tied/ beside this script.
"""

import numpy
import peft
import torch
from make_goldens import (ALPHA, MAX_NORM, OUT, PEAK_LR, PROJECTIONS, RANK, STEPS, TIED, TRAIN_LENGTHS, UNTIED, WARMUP,
                          WEIGHT_DECAY, f32, f64, generator, i32, load_model, make_optimizer, packed_logits,
                          run_in_own_dtype, target_modules, token_mean_loss, training_data, write_safetensors)
from peft.optimizers import create_loraplus_optimizer
from torch import nn
from transformers import get_scheduler

RATIO = 4.0
EMBHEAD = ["embed_tokens", "lm_head", "norm", "input_layernorm", "post_attention_layernorm"]
CASES = {  # base, PEFT's settings, what else
    "dora": ("untied", dict(use_dora=True), {}),
    "rsdora": ("untied", dict(use_dora=True, use_rslora=True), {}),
    "dora_tied": ("tied", dict(use_dora=True), {}),
    "loraplus": ("untied", {}, dict(ratio=RATIO)),
    "loraplus_dora": ("untied", dict(use_dora=True), dict(ratio=RATIO)),
    "asymmetric": ("untied", {}, dict(start="asymmetric")),
    "saved": ("untied", dict(modules_to_save=EMBHEAD), {}),
    "saved_tied": ("tied", dict(modules_to_save=["norm", "1.mlp.down_proj"]), {}),
}
STORED = ("model.layers.1.self_attn.q_proj", "model.layers.1.mlp.down_proj")
STORED_WHOLE = ("lm_head.weight", "model.embed_tokens.weight", "model.norm.weight",
                "model.layers.1.input_layernorm.weight", "model.layers.1.mlp.down_proj.weight")


def frame(matrix, r):
    """The first r columns of V^T, transposed, as the MoRA authors' train.py takes them; row 0 not negative."""
    rows = numpy.linalg.svd(matrix)[2][:, :r].T
    return rows * numpy.where(rows[0] < 0, -1.0, 1.0)


def initial_a(width, start, g):
    if start == "asymmetric":
        matrix = torch.rand(max(width, 64), width, generator=g, dtype=torch.float64)
        return torch.from_numpy(frame(matrix.numpy(), RANK)).float()
    return (2 * torch.rand(RANK, width, generator=g) - 1) / width**0.5


def prepare(base, settings, start, dtype):
    model = load_model(OUT / f"llama_{base}", dtype)
    paths = target_modules(model)
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=list(PROJECTIONS),
                             task_type="CAUSAL_LM", **settings)
    model = peft.get_peft_model(model, config)
    initial = {}
    for i, path in enumerate(paths):
        module = model.base_model.model.get_submodule(path)
        if not hasattr(module, "lora_A"):
            continue  # trained whole
        initial[path] = initial_a(module.in_features, start, generator(500 + i))
        with torch.no_grad():
            module.lora_A["default"].weight.copy_(initial[path])
        assert module.lora_A["default"].weight.dtype == dtype
    return model, initial


def optimizer_of(model, ratio):
    if ratio is None:
        return make_optimizer(model)
    return create_loraplus_optimizer(model, torch.optim.AdamW, lr=PEAK_LR, loraplus_lr_ratio=ratio,
                                     loraplus_weight_decay=WEIGHT_DECAY, betas=(0.9, 0.999), eps=1e-8, foreach=False)


def train(case, dtype, ids, labels):
    base, settings, extra = CASES[case]
    model, initial = prepare(base, settings, extra.get("start"), dtype)
    optimizer = optimizer_of(model, extra.get("ratio"))
    scheduler = get_scheduler("cosine", optimizer, WARMUP, STEPS)
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(trained) == len([p for p in model.parameters() if p.requires_grad])
    losses, norms = [], []
    for step in range(STEPS):
        loss = token_mean_loss(packed_logits(model, ids[step], TRAIN_LENGTHS), labels[step])
        loss.backward()
        losses.append(loss.item())
        norms.append(nn.utils.clip_grad_norm_(trained, MAX_NORM, foreach=False).item())
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    return losses, norms, initial, finals(model)


def finals(model):
    found = {}
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        name = name.removeprefix("base_model.model.").replace(".modules_to_save.default", "")
        name = name.replace(".lora_magnitude_vector.default.weight", ".lora_magnitude_vector").replace(".default", "")
        if name in STORED_WHOLE or (name.startswith(STORED) and ".lora_" in name):
            found[name] = p
    return found


def relative(a, b):
    return max(abs(x - y) / abs(y) for x, y in zip(a, b))


def main():
    run_in_own_dtype()
    tensors = {"segment_lengths": i32(TRAIN_LENGTHS)}
    data = {"untied": training_data(UNTIED["vocab_size"], 52), "tied": training_data(TIED["vocab_size"], 53)}
    for base, (ids, labels) in data.items():
        tensors[f"{base}.input_ids"], tensors[f"{base}.labels"] = ids, labels
    for case, (base, _, extra) in CASES.items():
        start = extra.get("start", base)
        losses, norms, initial, final = train(case, torch.float64, *data[base])
        single = train(case, torch.float32, *data[base])
        worst = max(((single[3][n] - p).abs().max() / p.abs().max()).item() for n, p in final.items())
        print(f"{case:14s} loss {losses[0]:.4f} -> {losses[-1]:.4f}, norm {min(norms):.3f}..{max(norms):.3f}; "
              f"float32: loss {relative(single[0], losses):.1e} norm {relative(single[1], norms):.1e} final {worst:.1e}")
        assert relative(single[0], losses) < 2e-6, case
        tensors[f"{case}.losses"], tensors[f"{case}.grad_norm"] = f64(losses), f64(norms)
        tensors |= {f"{start}.init.{path}.lora_A.weight": f32(a) for path, a in initial.items()}
        tensors |= {f"{case}.final.{name}": f32(p) for name, p in final.items()}
    for i, (m, n, r) in enumerate([(30, 17, 5), (24, 24, 24), (64, 1, 1), (9, 2, 1), (200, 60, 8)]):
        matrix = torch.rand(m, n, generator=generator(60 + i), dtype=torch.float64)
        tensors[f"frame{i}.matrix"] = matrix
        tensors[f"frame{i}.rows"] = torch.from_numpy(frame(matrix.numpy(), r))
    write_safetensors(OUT / "methods.safetensors", tensors)
    print((OUT / "methods.safetensors").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
