#!/usr/bin/env python3
"""Makes restarts.safetensors: ReLoRA's schedule and optimizer resets as its code computes them, and runs of ReLoRA
and ReMoRA over several merges.

    env/bin/python make_restart_goldens.py --relora DIR --mora-repo DIR

DIRs are checkouts of github.com/Guitaricet/relora at 176f376 and github.com/kongds/MoRA at de5df31: their
training_utils.py are imported and run (both, and compared), none of it is copied. The training runs are written here
from the formulas: a layer's matrix is W + delta with delta dense, and a merge adds it to W.

Versions, seeds, precision, data and the optimizer's settings are those of make_goldens.py, whose functions it uses;
README.md lists the tensors. The base is llama_untied/ beside this script.
"""

import argparse
import importlib.util
import sys
import types

import torch
from make_goldens import (ALPHA, MAX_NORM, OUT, PEAK_LR, RANK, STEPS, TRAIN_LENGTHS, UNTIED, f32, f64, generator, i32,
                          load_model, make_optimizer, packed_logits, run_in_own_dtype, square_size, target_modules,
                          token_mean_loss, training_data, write_safetensors)
from torch import nn

WARMUP, CYCLE, REWARM = 3, 5, 2
PRUNED_EPS = 1e-3  # a first moment whose second is pruned makes a step of its size / eps: 1e-8 would be chaos
SCHEDULES = [  # total steps, cycle, warm-up, restart warm-up, smallest ratio, adjust_step
    (20, 5, 3, 2, 0.1, 0), (40, 10, 0, 0, 0.1, 0), (40, 10, 10, 3, 0.25, 0), (60, 20, 5, 4, 0.1, 7),
    (60, 20, 5, 20, 1.0, 15), (30, 30, 6, 5, 0.05, 0), (50, 10, 1, 25, 0.1, 2), (100, 25, 25, 1, 0.001, 0),
    (10, 1, 0, 1, 0.1, 0), (12, 4, 2, 1, 0.5, 2), (2000, 400, 100, 50, 0.1, 0),
]
PRUNED = [("magnitude", 0.9), ("magnitude", 0.8), ("magnitude", 0.999), ("magnitude", 0.5), ("magnitude", 0.01),
          ("random", 0.999), ("random", 0.5), ("random", 0.1)]
SHAPES = {"a": (7, 23), "b": (20, 21), "c": (1, 1), "d": (3, 1), "e": (11, 1)}
SEED = 20240520  # of the random pruning
STORED = ("model.layers.1.self_attn.q_proj", "model.layers.1.mlp.down_proj")
EMBHEAD = ("embed_tokens", "lm_head", "norm")
CASES = {  # groupings in turn or LoRA, delay of a merge in steps, reset of the moments, what else is trained
    "relora": (None, 1, ("none", None), ()),
    "relora_full": (None, 0, ("full", None), ()),
    "remora_two": (("strided", "contiguous"), 0, ("full", None), ()),
    "remora_four": (("strided", "contiguous", "contiguous_strided", "strided_contiguous"), 0, ("full", None), ()),
    "remora_late": (("contiguous", "strided"), 1, ("magnitude", 0.437), ()),
    "remora_saved": (("strided", "contiguous"), 0, ("full", None), EMBHEAD),
}


def load_training_utils(file, name):
    """Without the logging and the model that the file imports and the functions here do not need."""
    quiet = types.SimpleNamespace(info=lambda *_: None, warning=lambda *_: None)
    stubs = {"wandb": {}, "loguru": {"logger": quiet}, "peft_pretraining": {},
             "peft_pretraining.modeling_llama": {"LlamaDecoderLayer": object}}
    for module, contents in stubs.items():
        sys.modules.setdefault(module, types.ModuleType(module)).__dict__.update(contents)
    spec = importlib.util.spec_from_file_location(name, file)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def schedule(utils, total, cycle, warmup, rewarm, ratio, adjust):
    """The multiplier in force after 0, 1, ... steps."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = utils.get_scheculer(optimizer, scheduler_type="cosine_restarts", num_training_steps=total,
                                    warmup_steps=warmup, min_lr_ratio=ratio, cycle_length=cycle,
                                    restart_warmup_steps=rewarm, adjust_step=adjust)
    factors = []
    for _ in range(total):
        factors.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return factors


# ---- Philox4x32-10 and the numbers that mora makes of it (include/mora/core/random.hpp).


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def stream_of(name):
    value = 2166136261
    for byte in name.encode():
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value


def uniforms(seed, stream, count):
    words = [philox((i & 0xFFFFFFFF, i >> 32, stream, 7), (seed & 0xFFFFFFFF, seed >> 32)) for i in range(count)]
    return torch.tensor([((w[0] << 32 | w[1]) >> 11) * 2.0**-53 for w in words], dtype=torch.float64)


def pruned(utils, kind, ratio, dtype):
    """ReLoRA's optimizer_reset of moments that AdamW made; its random numbers are mora's."""
    parameters = {n: nn.Parameter(torch.zeros(shape, dtype=dtype)) for n, shape in SHAPES.items()}
    optimizer = torch.optim.AdamW(list(parameters.values()), lr=1e-3)
    g = generator(70)
    for _ in range(3):
        for p in parameters.values():
            p.grad = torch.randn(p.shape, generator=g, dtype=torch.float64).to(dtype)
        optimizer.step()
    keys = ["exp_avg", "exp_avg_sq"]
    before = {f"{k}.{n}": optimizer.state[p][k].clone() for n, p in parameters.items() for k in keys}
    drawn = iter([f"{k}.{n}" for n in parameters for k in keys])
    original = torch.rand_like
    torch.rand_like = lambda t: uniforms(SEED, stream_of(next(drawn)), t.numel()).reshape(t.shape)
    try:
        utils.optimizer_reset(optimizer, reset_params=list(parameters.values()), optimizer_state_keys=keys,
                              reset_optimizer_on_relora=kind == "random" and ratio == 0.999,
                              optimizer_random_pruning=ratio if kind == "random" and ratio != 0.999 else 0.0,
                              optimizer_magnitude_pruning=ratio if kind == "magnitude" else 0.0)
    finally:
        torch.rand_like = original
    return before, {f"{k}.{n}": optimizer.state[p][k].clone() for n, p in parameters.items() for k in keys}


# ---- Training runs.


def groups(kind, features, size):
    """[features, size]: how often a feature is in a group of mod-R or contiguous groups."""
    members = torch.zeros(features, size, dtype=torch.float64)
    small, larger = divmod(features, size)
    for j in range(features):
        contiguous = j // (small + 1) if j < larger * (small + 1) else larger + (j - larger * (small + 1)) // small
        members[j, contiguous if kind == "contiguous" else j % size] = 1
    return members


def sharing(grouping, out, width, size):
    left, _, right = grouping.partition("_")
    inputs, outputs = groups(left, width, size), groups(right or left, out, size)
    if left == "strided":  # the authors' padding: the first features once more
        for position in range(width, -(-width // size) * size):
            inputs[position % width, position % size] += 1
    return inputs, outputs


class Adapted(nn.Module):
    """A linear layer with LoRA's A and B or MoRA's M, whose change can become part of W."""

    def __init__(self, linear, groupings, draws):
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach().clone(), requires_grad=False)
        out, width = self.weight.shape
        self.groupings, self.draws, self.merges = groupings, draws, 0
        options = dict(dtype=self.weight.dtype)
        if groupings is None:
            self.a = nn.Parameter(draws[0].to(**options))
            self.b = nn.Parameter(torch.zeros(out, RANK, **options))
        else:
            size = square_size(width, out, RANK)
            self.m = nn.Parameter(torch.zeros(size, size, **options))
            self.maps = [[t.to(**options) for t in sharing(g, out, width, size)] for g in groupings]

    def adapters(self):
        return {"lora_A": self.a, "lora_B": self.b} if self.groupings is None else {"lora_A": self.m}

    def delta(self):
        if self.groupings is None:
            return self.b @ self.a * (ALPHA / RANK)
        inputs, outputs = self.maps[self.merges % len(self.maps)]
        return outputs @ self.m @ inputs.T

    def forward(self, x):
        return nn.functional.linear(x, self.weight + self.delta())

    @torch.no_grad()
    def merge(self):
        self.weight += self.delta()
        self.merges += 1
        if self.groupings is None:
            self.a.copy_(self.draws[self.merges])
            self.b.zero_()
        else:
            self.m.zero_()


def prepare(groupings, saved, dtype):
    model = load_model(OUT / "llama_untied", dtype).requires_grad_(False)
    adapted = {}
    for i, path in enumerate(target_modules(model)):
        linear = model.get_submodule(path)
        draws = [(2 * torch.rand(RANK, linear.in_features, generator=generator(600 + 50 * k + i)) - 1)
                 / linear.in_features**0.5 for k in range(4)]
        adapted[path] = Adapted(linear, groupings, draws)
        model.set_submodule(path, adapted[path])
    for name, p in model.named_parameters():
        if name.split(".")[-1] in ("a", "b", "m") or (saved and name.endswith(tuple(f"{s}.weight" for s in saved))):
            p.requires_grad_(True)
    return model, adapted


def reset(utils, optimizer, parameters, kind, ratio):
    if kind == "full":
        for p in parameters:
            del optimizer.state[p]
    if kind != "magnitude":
        return
    utils.optimizer_reset(optimizer, reset_params=parameters, optimizer_state_keys=["exp_avg", "exp_avg_sq"],
                          reset_optimizer_on_relora=False, optimizer_random_pruning=0.0,
                          optimizer_magnitude_pruning=ratio)


def train(utils, case, dtype, ids, labels):
    groupings, delay, (kind, ratio), saved = CASES[case]
    model, adapted = prepare(groupings, saved, dtype)
    optimizer = make_optimizer(model)
    if kind == "magnitude":
        optimizer.param_groups[0]["eps"] = PRUNED_EPS
    trained = [p for p in model.parameters() if p.requires_grad]
    adapters = [p for layer in adapted.values() for p in layer.adapters().values()]
    scheduler = utils.get_scheculer(optimizer, scheduler_type="cosine_restarts", num_training_steps=STEPS,
                                    warmup_steps=WARMUP, min_lr_ratio=0.1, cycle_length=CYCLE,
                                    restart_warmup_steps=REWARM)
    losses, norms = [], []
    for step in range(1, STEPS + 1):
        loss = token_mean_loss(packed_logits(model, ids[step - 1], TRAIN_LENGTHS), labels[step - 1])
        loss.backward()
        losses.append(loss.item())
        norms.append(nn.utils.clip_grad_norm_(trained, MAX_NORM, foreach=False).item())
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        if step > CYCLE + delay - 1 and step % CYCLE == delay and step < STEPS:
            for layer in adapted.values():
                layer.merge()
            reset(utils, optimizer, adapters, kind, ratio)
    return losses, norms, adapted, finals(model, adapted)


def finals(model, adapted):
    found = {}
    for path in STORED:
        found |= {f"{path}.{name}.weight": p for name, p in adapted[path].adapters().items()}
        found[f"{path}.weight"] = adapted[path].weight
    return found | {name: p for name, p in model.named_parameters()
                    if p.requires_grad and name.endswith(tuple(f"{s}.weight" for s in EMBHEAD))}


def relative(a, b):
    return max(abs(x - y) / abs(y) for x, y in zip(a, b))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--relora", required=True)
    parser.add_argument("--mora-repo", required=True)
    arguments = parser.parse_args()
    relora = load_training_utils(f"{arguments.relora}/peft_pretraining/training_utils.py", "relora_utils")
    authors = load_training_utils(f"{arguments.mora_repo}/training_utils.py", "mora_utils")
    tensors = {"segment_lengths": i32(TRAIN_LENGTHS)}
    for i, settings in enumerate(SCHEDULES):
        factors = schedule(relora, *settings)
        assert factors == schedule(authors, *settings), settings
        tensors[f"schedule{i}.settings"], tensors[f"schedule{i}.factors"] = f64(settings), f64(factors)
    for i, (kind, ratio) in enumerate(PRUNED):
        for dtype in (torch.float32, torch.float64):
            before, after = pruned(relora, kind, ratio, dtype)
            suffix = str(dtype).removeprefix("torch.float")
            tensors |= {f"moments.f{suffix}.{name}": t for name, t in before.items()}
            tensors |= {f"{kind}.{ratio}.f{suffix}.{name}": t for name, t in after.items()}
    run_in_own_dtype()
    ids, labels = training_data(UNTIED["vocab_size"], 52)
    tensors["input_ids"], tensors["labels"] = ids, labels
    for case, (groupings, *_) in CASES.items():
        losses, norms, adapted, final = train(relora, case, torch.float64, ids, labels)
        single = train(relora, case, torch.float32, ids, labels)
        worst = max(((single[3][n] - p).abs().max() / p.abs().max()).item() for n, p in final.items())
        print(f"{case:14s} loss {losses[0]:.4f} -> {losses[-1]:.4f}, norm {min(norms):.3f}..{max(norms):.3f}, "
              f"{next(iter(adapted.values())).merges} merges; "
              f"float32: loss {relative(single[0], losses):.1e} norm {relative(single[1], norms):.1e} final {worst:.1e}")
        tensors[f"{case}.losses"], tensors[f"{case}.grad_norm"] = f64(losses), f64(norms)
        tensors |= {f"{case}.final.{name}": f32(p) for name, p in final.items()}
        if groupings is None:
            tensors |= {f"draw{k}.{path}.lora_A.weight": f32(a) for path, layer in adapted.items()
                        for k, a in enumerate(layer.draws)}
    write_safetensors(OUT / "restarts.safetensors", tensors)
    print((OUT / "restarts.safetensors").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
