#!/usr/bin/env python3
"""Makes the golden numbers that mora's C++ tests compare with.

Command (from anywhere; the files go to the folder this script lies in):

    python3 make_goldens.py --mora-repo PATH

PATH is a checkout of the MoRA authors' code, github.com/kongds/MoRA at commit de5df31.
Their layer is imported from there and run; none of it is copied into this repository.

Versions the committed files were made with (each file's metadata repeats them):
    Python 3.11.7, torch 2.15.0, transformers 5.23.0, peft 0.21.2 (upstream, for LoRA and
    rsLoRA), safetensors 0.8.0, numpy 2.4.6, accelerate 1.15.0; MoRA code: the authors' fork of
    peft 0.9.0.
    python3 -m venv env && env/bin/pip install torch==2.15.0 transformers==5.23.0 \
        peft==0.21.2 safetensors==0.8.0 numpy==2.4.6 accelerate==1.15.0

Everything random comes from fixed seeds on the CPU. Models run in float64; results are stored
as float32, except those that README.md names as float64. README.md lists every tensor.

Two places in the Hugging Face LLaMA code compute in float32 whatever the model's type: RMSNorm
and the softmax of attention. `run_in_own_dtype` replaces both by the same formulas in the
model's own type, so that the float64 run is float64 throughout. The RoPE tables (LLaMA's and
MoRA type 6's) stay as those codes define them: angles, cos and sin in float32.
"""

import argparse
import copy
import importlib
import json
import math
import struct
import sys
from pathlib import Path

import numpy
import peft
import torch
import torch.nn.functional as F
import transformers
from safetensors import safe_open
from torch import nn
from transformers import LlamaForCausalLM, Trainer, get_scheduler
from transformers.models.llama import modeling_llama

OUT = Path(__file__).resolve().parent
COMMAND = "python3 make_goldens.py --mora-repo PATH"
IGNORE = -100
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

# mora's operator names and the authors' mora_type numbers.
AUTHORS_TYPES = {
    "mora_sharing_strided": 1,
    "mora_sharing_contiguous": 2,
    "mora_sharing_contiguous_strided": 3,
    "mora_sharing_strided_contiguous": 4,
    "mora_rotation": 6,
}


# ---------------------------------------------------------------------------------------------
# Writing files
# ---------------------------------------------------------------------------------------------

SAFETENSORS_TYPES = {torch.float32: "F32", torch.float64: "F64", torch.int32: "I32"}


def write_safetensors(path, tensors, **extra_metadata):
    """Writes a safetensors file whose bytes depend on nothing but the arguments.

    (The safetensors package orders the metadata differently from run to run.)
    """
    metadata = {
        "format": "pt",
        "command": COMMAND,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        **extra_metadata,
    }
    header, blobs, offset = {"__metadata__": metadata}, [], 0
    # Widest type first, so that every tensor is aligned to its own size.
    for name, tensor in sorted(tensors.items(), key=lambda kv: (-kv[1].element_size(), kv[0])):
        blob = tensor.detach().contiguous().numpy().tobytes()
        header[name] = {
            "dtype": SAFETENSORS_TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(blob)],
        }
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def f32(tensor):
    return tensor.detach().to(torch.float32).clone()


def f64(values):
    return torch.as_tensor(values, dtype=torch.float64).detach().clone()


def i32(values):
    return torch.as_tensor(values, dtype=torch.int32)


def generator(seed):
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------------------------------------
# The Hugging Face model, in its own dtype throughout
# ---------------------------------------------------------------------------------------------


def rms_norm_in_own_dtype(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def attention_in_own_dtype(module, query, key, value, attention_mask, scaling, **_):
    """Causal attention on [batch, heads, time, head_dim]; key and value have fewer heads."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = query @ key.transpose(-1, -2) * scaling
    time = query.shape[2]
    future = torch.ones(time, time, dtype=torch.bool).triu(1)
    weights = scores.masked_fill(future, -math.inf).softmax(dim=-1)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def run_in_own_dtype():
    modeling_llama.LlamaRMSNorm.forward = rms_norm_in_own_dtype
    modeling_llama.eager_attention_forward = attention_in_own_dtype


def load_model(folder, dtype):
    model = LlamaForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    return model.to(dtype).train()  # no dropout in these models, so train() changes nothing


def packed_logits(model, ids, lengths):
    """Each sequence on its own, positions from 0, no padding; logits [T, vocab] concatenated."""
    parts = [
        model(input_ids=part[None].long(), use_cache=False).logits[0]
        for part in ids.split(list(lengths))
    ]
    return torch.cat(parts)


def token_mean_loss(logits, labels):
    return F.cross_entropy(logits, labels.long(), ignore_index=IGNORE, reduction="mean")


def shifted_labels(ids, lengths):
    """labels[t] = the next token of the same sequence; IGNORE at each sequence's last token."""
    parts = [
        torch.cat([part[1:], part.new_full((1,), IGNORE)]) for part in ids.split(list(lengths))
    ]
    return torch.cat(parts)


# ---------------------------------------------------------------------------------------------
# (a) Two tiny models: forward, loss, gradients, greedy continuation
# ---------------------------------------------------------------------------------------------


def llama_config(**overrides):
    """config.json in the key style of transformers 4 (rope_theta at top level)."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "max_position_embeddings": 128,
        "mlp_bias": False,
        "model_type": "llama",
        "pretraining_tp": 1,
        "rope_scaling": None,
        "torch_dtype": "float32",
        "use_cache": True,
    }
    config.update(overrides)
    return dict(sorted(config.items()))


UNTIED = llama_config(
    vocab_size=97,
    hidden_size=32,
    intermediate_size=173,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,  # not hidden_size / num_attention_heads
    tie_word_embeddings=False,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
)
TIED = llama_config(
    vocab_size=101,
    hidden_size=48,
    intermediate_size=80,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=3,
    tie_word_embeddings=True,
    rms_norm_eps=1e-6,
    rope_theta=500000.0,
)


def model_weights(config, seed):
    """Random weights under the Hugging Face names: matrices N(0, 0.2), norms 1 + N(0, 0.2)."""
    hidden, inter, vocab = (
        config["hidden_size"],
        config["intermediate_size"],
        config["vocab_size"],
    )
    head = config.get("head_dim", hidden // config["num_attention_heads"])
    q, kv = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    shapes = {"model.embed_tokens.weight": (vocab, hidden)}
    for layer in range(config["num_hidden_layers"]):
        p = f"model.layers.{layer}"
        shapes[f"{p}.input_layernorm.weight"] = (hidden,)
        shapes[f"{p}.self_attn.q_proj.weight"] = (q, hidden)
        shapes[f"{p}.self_attn.k_proj.weight"] = (kv, hidden)
        shapes[f"{p}.self_attn.v_proj.weight"] = (kv, hidden)
        shapes[f"{p}.self_attn.o_proj.weight"] = (hidden, q)
        shapes[f"{p}.post_attention_layernorm.weight"] = (hidden,)
        shapes[f"{p}.mlp.gate_proj.weight"] = (inter, hidden)
        shapes[f"{p}.mlp.up_proj.weight"] = (inter, hidden)
        shapes[f"{p}.mlp.down_proj.weight"] = (hidden, inter)
    shapes["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (vocab, hidden)
    g = generator(seed)
    return {
        name: 0.2 * torch.randn(shape, generator=g) + (1.0 if len(shape) == 1 else 0.0)
        for name, shape in shapes.items()
    }


def make_model(folder, config, seed):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    write_safetensors(folder / "model.safetensors", model_weights(config, seed))


def check_config(model, config):
    """The written config.json must mean to transformers what it says."""
    seen = model.config
    assert seen.rope_parameters["rope_theta"] == config["rope_theta"]
    assert seen.rope_parameters["rope_type"] == "default"
    assert seen.rms_norm_eps == config["rms_norm_eps"]
    assert seen.tie_word_embeddings == config["tie_word_embeddings"]
    head = config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
    assert seen.head_dim == head
    tied = model.lm_head.weight is model.model.embed_tokens.weight
    assert tied == config["tie_word_embeddings"]


def greedy(model, prompt, count):
    """Argmax continuation, no stop token; also the smallest gap between first and second."""
    ids, gap = prompt.long().clone(), math.inf
    with torch.no_grad():
        for _ in range(count):
            top = model(input_ids=ids[None], use_cache=False).logits[0, -1].topk(2)
            gap = min(gap, (top.values[0] - top.values[1]).item())
            ids = torch.cat([ids, top.indices[:1]])
    return i32(ids[len(prompt) :]), gap


def hugging_face_logits(folder, ids, lengths):
    """float32 logits of the Hugging Face code as it is (called before run_in_own_dtype)."""
    with torch.no_grad():
        return packed_logits(load_model(folder, torch.float32), ids, lengths)


def model_input(config, seed):
    lengths = [1, 7, 13]
    ids = torch.randint(0, config["vocab_size"], (sum(lengths),), generator=generator(seed))
    labels = shifted_labels(ids, lengths)
    labels[[2, 5, 8, 9, 15]] = IGNORE  # a few more than each sequence's last token
    return i32(ids), lengths, i32(labels)


def make_model_golden(folder, config, seed, reference_logits):
    ids, lengths, labels = model_input(config, seed)
    model = load_model(folder, torch.float64)
    check_config(model, config)
    logits = packed_logits(model, ids, lengths)
    loss = token_mean_loss(logits, labels)
    loss.backward()
    prompt = i32(torch.randint(0, config["vocab_size"], (5,), generator=generator(seed + 1)))
    continuation, gap = greedy(model, prompt, 16)
    tensors = {
        "input_ids": ids,
        "segment_lengths": i32(lengths),
        "labels": labels,
        "logits": f32(logits),
        "loss": f64([loss.item()]),
        "greedy.prompt": prompt,
        "greedy.continuation": continuation,
    }
    for name, parameter in model.named_parameters():
        tensors[f"grad.{name}"] = f32(parameter.grad)
    write_safetensors(folder / "golden.safetensors", tensors)

    single = load_model(folder, torch.float32)
    single_logits = packed_logits(single, ids, lengths)
    single_loss = token_mean_loss(single_logits, labels)
    single_loss.backward()
    grads = dict(single.named_parameters())
    worst = max(
        ((grads[n].grad - p.grad).abs().max() / p.grad.abs().max()).item()
        for n, p in model.named_parameters()
    )
    print(f"{folder.name}: loss {loss.item():.12f}, {int((labels != IGNORE).sum())} labels")
    print(
        f"  unchanged HF float32 logits against float64: "
        f"{(reference_logits - logits).abs().max().item():.2e} of {logits.abs().max().item():.2f}"
    )
    print(
        f"  float32 against float64: logits {(single_logits - logits).abs().max().item():.2e}, "
        f"loss {abs(single_loss.item() - loss.item()):.2e}, gradients {worst:.2e} of each maximum"
    )
    print(f"  greedy {continuation.tolist()}, smallest top-2 gap {gap:.4f}")
    assert (reference_logits - logits).abs().max() < 2e-5 and gap > 0.01


# ---------------------------------------------------------------------------------------------
# MoRA layers: the authors', and our own for the two kinds that they do not publish
# ---------------------------------------------------------------------------------------------


def load_authors_layer(repo):
    """Their layer module. Their package is called peft too, so upstream's is put aside."""
    source = Path(repo) / "peft-mora" / "src"
    assert (source / "peft").is_dir(), f"no peft-mora/src/peft in {repo}"

    def is_peft(name):
        return name == "peft" or name.startswith("peft.")

    upstream = {name: sys.modules.pop(name) for name in list(sys.modules) if is_peft(name)}
    sys.path.insert(0, str(source))
    try:
        layer = importlib.import_module("peft.tuners.lora.layer")
    finally:
        sys.path.remove(str(source))
        for name in [name for name in sys.modules if is_peft(name)]:
            del sys.modules[name]
        sys.modules.update(upstream)
    assert source.resolve() in Path(layer.__file__).resolve().parents
    return layer


def authors_linear(layer, base, r, mora_type):
    module = layer.Linear(base, "default", r=r, lora_alpha=8, use_mora=True, mora_type=mora_type)
    module.lora_A["default"].to(base.weight.dtype)
    return module


def square_size(in_features, out_features, r):
    """r_hat: as the authors' code has it, but never forced even."""
    return int(math.sqrt((in_features + out_features) * r) + 0.5)


class Decoupling(nn.Module):
    """The same M on each block of r_hat inputs: ceil(in / r_hat) blocks, no rotation.

    The input is continued circularly to whole blocks (position j reads x[j mod in]); the blocks'
    outputs, one after another, are cut to `out`, or repeated from the start until `out`.
    """

    def __init__(self, base, r):
        super().__init__()
        self.base = base
        self.size = square_size(base.in_features, base.out_features, r)
        dtype = base.weight.dtype
        self.M = nn.Parameter(torch.zeros(self.size, self.size, dtype=dtype))

    def delta(self, x):
        blocks = -(-self.base.in_features // self.size)
        source = torch.arange(blocks * self.size) % self.base.in_features
        y = x[..., source].unflatten(-1, (blocks, self.size)) @ self.M.T
        return y.flatten(-2)[..., torch.arange(self.base.out_features) % (blocks * self.size)]

    def forward(self, x):
        return self.base(x) + self.delta(x)


class Truncation(Decoupling):
    """delta W = [[M, 0], [0, 0]]: M on the first r_hat inputs gives the first r_hat outputs.

    Where r_hat > in the missing inputs are zeros; where r_hat > out the outputs are cut.
    """

    def delta(self, x):
        first = x[..., : self.size]
        y = F.pad(first, (0, self.size - first.shape[-1])) @ self.M.T
        return F.pad(y, (0, self.base.out_features - self.size))  # negative padding cuts


OUR_TYPES = {"decoupling": Decoupling, "truncation": Truncation}


# ---------------------------------------------------------------------------------------------
# (b) Twenty AdamW steps for each method
# ---------------------------------------------------------------------------------------------

STEPS, WARMUP, PEAK_LR, MAX_NORM, WEIGHT_DECAY = 20, 5, 5e-3, 0.5, 0.1
TRAIN_LENGTHS = [11, 6, 9]
RANK, ALPHA = 4, 8
CASES = ["full", "lora", "rslora", *AUTHORS_TYPES, "mora_decoupling", "mora_truncation"]
STORED_MODULES = ("model.layers.1.self_attn.q_proj", "model.layers.1.mlp.down_proj")


def training_data(vocab, seed):
    """[20, 26] tokens; mostly a fixed successor rule, so that there is something to learn."""
    g = generator(seed)
    rows, targets = [], []
    for _ in range(STEPS):
        row = []
        for length in TRAIN_LENGTHS:
            token = int(torch.randint(0, vocab, (1,), generator=g))
            for _ in range(length):
                row.append(token)
                token = (7 * token + 3) % vocab
                if float(torch.rand((), generator=g)) < 0.25:
                    token = int(torch.randint(0, vocab, (1,), generator=g))
        rows.append(row)
        labels = shifted_labels(torch.tensor(row), TRAIN_LENGTHS)
        drop = torch.rand(len(row), generator=g) < 0.1
        targets.append(labels.masked_fill(drop, IGNORE))
    return i32(rows), i32(torch.stack(targets))


def target_modules(model):
    return [name for name, _ in model.named_modules() if name.split(".")[-1] in PROJECTIONS]


def lora_init(model, seed):
    """A ~ U(-1/sqrt(in), 1/sqrt(in)), PEFT's default, from our own seed and exact in float32."""
    g = generator(seed)
    result = {}
    for path in target_modules(model):
        width = model.get_submodule(path).in_features
        result[path] = (2 * torch.rand(RANK, width, generator=g) - 1) / math.sqrt(width)
    return result


def prepare_case(case, folder, authors, dtype):
    """The model to train, {module path: {stored name: parameter}}, and the initial A's."""
    model = load_model(folder, dtype)
    paths = target_modules(model)
    if case == "full":
        parameters = {p: {"weight": model.get_submodule(p).weight} for p in paths}
        return model, parameters, {}
    if case in ("lora", "rslora"):
        init = lora_init(model, 34 if case == "lora" else 36)
        config = peft.LoraConfig(
            r=RANK,
            lora_alpha=ALPHA,
            lora_dropout=0.0,
            use_rslora=case == "rslora",
            target_modules=list(PROJECTIONS),
            task_type="CAUSAL_LM",
        )
        model = peft.get_peft_model(model, config)
        parameters = {}
        for path in paths:
            module = model.base_model.model.get_submodule(path)
            a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
            with torch.no_grad():
                a.copy_(init[path])
            assert a.dtype == dtype and not b.any()
            parameters[path] = {"lora_A": a, "lora_B": b}
        return model, parameters, init
    model.requires_grad_(False)
    parameters = {}
    for path in paths:
        base = model.get_submodule(path)
        if case in AUTHORS_TYPES:
            module = authors_linear(authors, base, RANK, AUTHORS_TYPES[case])
            matrix = module.lora_A["default"].weight
        else:
            module = OUR_TYPES[case.removeprefix("mora_")](base, RANK)
            matrix = module.M
        assert matrix.dtype == dtype and matrix.requires_grad and not matrix.any()
        model.set_submodule(path, module)
        parameters[path] = {"lora_A": matrix}
    return model, parameters, {}


def make_optimizer(model):
    """AdamW with Trainer's two groups: biases and norm weights are not decayed."""
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    decayed = set(Trainer.get_decay_parameter_names(None, model))
    groups = [
        {"params": [p for n, p in named.items() if n in decayed], "weight_decay": WEIGHT_DECAY},
        {"params": [p for n, p in named.items() if n not in decayed], "weight_decay": 0.0},
    ]
    for name in named:
        assert (name in decayed) != ("norm" in name), name
    return torch.optim.AdamW(groups, lr=PEAK_LR, betas=(0.9, 0.999), eps=1e-8, foreach=False)


def train_case(case, folder, authors, dtype, ids, labels):
    model, parameters, init = prepare_case(case, folder, authors, dtype)
    optimizer = make_optimizer(model)
    scheduler = get_scheduler("cosine", optimizer, WARMUP, STEPS)
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    losses, norms, rates = [], [], []
    for step in range(STEPS):
        loss = token_mean_loss(packed_logits(model, ids[step], TRAIN_LENGTHS), labels[step])
        loss.backward()
        losses.append(loss.item())
        norms.append(nn.utils.clip_grad_norm_(trained, MAX_NORM, foreach=False).item())
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    return losses, norms, rates, parameters, init


def make_training(folder, authors):
    ids, labels = training_data(UNTIED["vocab_size"], 21)
    tensors = {"input_ids": ids, "labels": labels, "segment_lengths": i32(TRAIN_LENGTHS)}
    print("training, largest relative difference of float32 from float64 over the steps:")
    for case in CASES:
        losses, norms, rates, parameters, init = train_case(
            case, folder, authors, torch.float64, ids, labels
        )
        single = train_case(case, folder, authors, torch.float32, ids, labels)

        def worst(a, b):
            return max(abs(x - y) / abs(y) for x, y in zip(a, b))

        loss_error, norm_error = worst(single[0], losses), worst(single[1], norms)
        final_error = 0.0
        for path in STORED_MODULES:
            for name, value in parameters[path].items():
                other = single[3][path][name]
                error = (other - value).abs().max() / value.abs().max()
                final_error = max(final_error, error.item())
        print(
            f"  {case:34s} loss {loss_error:.1e} norm {norm_error:.1e} final {final_error:.1e}"
            f"   loss {losses[0]:.4f} -> {losses[-1]:.4f}, norm {min(norms):.3f}..{max(norms):.3f}"
        )
        assert loss_error < 2e-6, case
        assert "lr" not in tensors or torch.equal(tensors["lr"], f64(rates))
        tensors["lr"] = f64(rates)
        tensors[f"{case}.losses"] = f64(losses)
        tensors[f"{case}.grad_norm"] = f64(norms)
        for path, value in init.items():
            tensors[f"{case}.init.{path}.lora_A"] = f32(value)
        for path in STORED_MODULES:
            for name, value in parameters[path].items():
                tensors[f"{case}.final.{path}.{name}"] = f32(value)
    write_safetensors(
        OUT / "training.safetensors",
        tensors,
        settings=f"r {RANK}, alpha {ALPHA}, AdamW betas 0.9 0.999 eps 1e-8, weight decay "
        f"{WEIGHT_DECAY} (not on norm weights), max grad norm {MAX_NORM}, peak lr {PEAK_LR}, "
        f"cosine with {WARMUP} warm-up of {STEPS} steps; step 1 runs at lr 0",
    )
    print(f"  lr {[round(x, 8) for x in tensors['lr'].tolist()]}")


# ---------------------------------------------------------------------------------------------
# (c) Weight updates of MoRA layers
# ---------------------------------------------------------------------------------------------

DELTA_SHAPES = [  # (in, out, r)
    (16, 16, 4),  # r_hat 11
    (32, 32, 2),  # 11
    (33, 17, 3),  # 12
    (17, 33, 3),  # 12
    (48, 20, 2),  # 12: divides in (48 = 4 * 12)
    (20, 48, 2),  # 12: divides out
    (23, 23, 5),  # 15
    (12, 40, 4),  # 14, 14 > in: type 6 cannot be merged
    (40, 12, 4),  # 14, 14 > out
    (45, 45, 1),  # 9: divides both
    (7, 29, 2),  # 8, 8 > in
    (29, 7, 2),  # 8, 8 > out
    (10, 30, 8),  # 18, 18 > in
    (32, 32, 4),  # 16: divides both, also for type 6
    (5, 45, 5),  # 16 > 2 * in: types 1, 4 and 6 fail
    (15, 10, 1),  # 5: divides both, in != out
]


def dense_map(function, in_features):
    """The matrix of a linear function, from what it does to the unit vectors."""
    return function(torch.eye(in_features, dtype=torch.float64)).T


def authors_delta(authors, base, r, mora_type, g):
    """(M, delta, merged) by their layer, or (None, reason)."""
    # One copy for each use: their layer caches its angles and merging changes the weight.
    module = authors_linear(authors, copy.deepcopy(base), r, mora_type)
    matrix = module.lora_A["default"].weight
    with torch.no_grad():
        # From float32, so that a reader of the stored M has exactly the M that was used.
        matrix.copy_(torch.randn(matrix.shape, generator=g))
        try:
            dense = dense_map(module, base.in_features) - base.weight
        except Exception as error:
            return None, f"forward: {type(error).__name__}"
        try:
            delta = module.get_delta_weight("default")
            module.merge()
        except Exception as error:
            return None, f"get_delta_weight: {type(error).__name__}"
    assert (dense - delta).abs().max() < 1e-12
    return (matrix, delta, module.get_base_layer().weight), None


def make_deltas(authors):
    tensors, omitted = {}, []
    for case, (in_features, out_features, r) in enumerate(DELTA_SHAPES):
        prefix = f"case{case}"
        g = generator(100 + case)
        base = nn.Linear(in_features, out_features, bias=False, dtype=torch.float64)
        with torch.no_grad():
            base.weight.copy_(torch.randn(out_features, in_features, generator=g))
        base.requires_grad_(False)
        tensors[f"{prefix}.shape"] = i32([in_features, out_features, r])
        tensors[f"{prefix}.W"] = f32(base.weight)
        for mora_type in AUTHORS_TYPES.values():
            result, reason = authors_delta(authors, base, r, mora_type, g)
            key = f"{prefix}.type{mora_type}"
            if result is None:
                omitted.append(f"{key} ({in_features},{out_features},{r}) {reason}")
                continue
            for name, value in zip(("M", "delta", "merged"), result):
                tensors[f"{key}.{name}"] = f32(value)
        for kind, module_type in OUR_TYPES.items():
            module = module_type(base, r)
            with torch.no_grad():
                module.M.copy_(torch.randn(module.M.shape, generator=g))
                delta = dense_map(module.delta, in_features)
            tensors[f"{prefix}.{kind}.M"] = f32(module.M)
            tensors[f"{prefix}.{kind}.delta"] = f32(delta)
            tensors[f"{prefix}.{kind}.merged"] = f32(base.weight + delta)
    write_safetensors(OUT / "deltas.safetensors", tensors, omitted="; ".join(omitted))
    print("deltas omitted: " + "; ".join(omitted))


# ---------------------------------------------------------------------------------------------
# (d) Learning-rate schedules, (e) AdamW alone
# ---------------------------------------------------------------------------------------------


def make_schedules():
    def multipliers(name, warmup, total):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        function = get_scheduler(name, optimizer, warmup, total).lr_lambdas[0]
        return f64([float(function(step)) for step in range(101)])

    tensors = {
        "constant": multipliers("constant", None, None),
        "constant_with_warmup.warmup7": multipliers("constant_with_warmup", 7, None),
        "linear.warmup7": multipliers("linear", 7, 100),
        "cosine.warmup7": multipliers("cosine", 7, 100),
        "linear.warmup0": multipliers("linear", 0, 100),
        "cosine.warmup0": multipliers("cosine", 0, 100),
    }
    write_safetensors(
        OUT / "schedules.safetensors", tensors, settings="element s: after s optimizer steps; "
        "100 steps in all"
    )


def make_adamw():
    g = generator(41)
    initial = torch.randn(37, generator=g)
    # Sizes over many orders of magnitude, and one element without gradient.
    scale = 10.0 ** torch.linspace(-6, 2, 37)
    grads = torch.randn(5, 37, generator=g) * scale
    grads[:, 18] = 0.0
    tensors = {"initial": initial, "grads": grads}
    for name, dtype in (("params_f32", torch.float32), ("params_f64", torch.float64)):
        parameter = nn.Parameter(initial.to(dtype, copy=True))
        optimizer = torch.optim.AdamW(
            [parameter], lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1, foreach=False
        )
        rows = []
        for grad in grads:
            parameter.grad = grad.to(dtype)
            optimizer.step()
            rows.append(parameter.detach().clone())
        tensors[name] = torch.stack(rows)
    write_safetensors(
        OUT / "adamw.safetensors",
        tensors,
        settings="AdamW lr 1e-2, betas 0.9 0.999, eps 1e-8, weight decay 0.1",
    )
    error = (tensors["params_f32"] - tensors["params_f64"]).abs().max().item()
    print(f"adamw: float32 against float64 {error:.1e}")


# ---------------------------------------------------------------------------------------------


def read_back():
    """Opens every file with the safetensors package and prints what it holds."""
    for path in sorted(OUT.rglob("*.safetensors")):
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            for name in names:
                tensor = file.get_tensor(name)
                assert tensor.numel() and torch.isfinite(tensor.double()).all(), name
            assert file.metadata()["format"] == "pt" and "peft" in file.metadata()
        print(f"{path.relative_to(OUT)}: {path.stat().st_size} bytes, {len(names)} tensors")


def main():
    parser = argparse.ArgumentParser(description="Makes the golden files beside this script.")
    parser.add_argument("--mora-repo", required=True, help="checkout of github.com/kongds/MoRA")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(
        f"Python {sys.version.split()[0]}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}, peft {peft.__version__}, numpy {numpy.__version__}"
    )

    models = [(OUT / "llama_untied", UNTIED, 1), (OUT / "llama_tied", TIED, 2)]
    references = []
    for folder, config, seed in models:
        make_model(folder, config, seed)
        references.append(hugging_face_logits(folder, *model_input(config, seed + 10)[:2]))
    run_in_own_dtype()
    for (folder, config, seed), reference in zip(models, references):
        make_model_golden(folder, config, seed + 10, reference)
    make_schedules()
    make_adamw()
    authors = load_authors_layer(arguments.mora_repo)
    make_deltas(authors)
    make_training(OUT / "llama_untied", authors)
    read_back()


if __name__ == "__main__":
    main()
