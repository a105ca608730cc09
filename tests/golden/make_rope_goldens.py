#!/usr/bin/env python3
"""Makes the goldens of RoPE types and biases: what transformers computes.

    make_rope_goldens.py

Writes beside this script the tiny models llama_llama3/, llama_linear/, llama_dynamic/ and
llama_bias/, as make_goldens.py does (float64, the same tensors), and rope_frequencies.safetensors:
the float32 frequencies of RoPE at the sizes of real models. Needs the environment of README.md.
"""

import json

import torch
from make_goldens import (
    IGNORE,
    OUT,
    f32,
    f64,
    generator,
    greedy,
    hugging_face_logits,
    i32,
    load_model,
    llama_config,
    model_weights,
    packed_logits,
    run_in_own_dtype,
    shifted_labels,
    token_mean_loss,
    write_safetensors,
)
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

COMMAND = "python3 make_rope_goldens.py"
FIRST_SEED = 70  # of the models
SIZES = dict(
    vocab_size=41,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=12,
    tie_word_embeddings=False,
    rms_norm_eps=1e-5,
)


def config(**overrides):
    return llama_config(**SIZES, **overrides)


def version_5(parameters, **overrides):
    """The keys of transformers 5: one dictionary for RoPE, dtype, several ends, nulls."""
    c = config(rope_parameters=parameters, dtype="float32", pad_token_id=None, **overrides)
    for key in ("rope_scaling", "torch_dtype"):
        del c[key]
    return c


# Of the 6 frequencies of a head, llama3 keeps one, blends two and divides three.
LLAMA3 = dict(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=8.0,
    original_max_position_embeddings=128,
)

# folder: config.json, lengths of the sequences
MODELS = {
    "llama_llama3": (
        config(rope_theta=500.0, rope_scaling=LLAMA3, max_position_embeddings=1024),
        [1, 7, 13],
    ),
    "llama_linear": (
        config(rope_theta=10000.0, rope_scaling=dict(type="linear", factor=4.0)),
        [1, 7, 13],
    ),
    # All sequences longer than max_position_embeddings, and equally long: transformers chooses the
    # frequencies for each forward pass.
    "llama_dynamic": (
        version_5(
            dict(rope_type="dynamic", rope_theta=10000.0, factor=2.5), max_position_embeddings=8
        ),
        [13, 13],
    ),
    "llama_bias": (
        version_5(
            dict(rope_type="default", rope_theta=500000.0),
            attention_bias=True,
            mlp_bias=True,
            eos_token_id=[2, 3],
        ),
        [1, 7, 13],
    ),
}


def weights(c, seed):
    tensors = model_weights(c, seed)
    g = generator(seed + 1)
    for name in list(tensors):
        wanted = "attention_bias" if ".self_attn." in name else "mlp_bias" if ".mlp." in name else ""
        if c.get(wanted):
            bias = name.removesuffix("weight") + "bias"
            tensors[bias] = 0.2 * torch.randn(tensors[name].shape[0], generator=g)
    return tensors


def model_input(c, lengths, seed):
    ids = torch.randint(0, c["vocab_size"], (sum(lengths),), generator=generator(seed))
    labels = shifted_labels(ids, lengths)
    labels[[2, 5, 9, 15]] = IGNORE
    return i32(ids), i32(labels)


def write_inputs(folder, c, seed):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(c, indent=2) + "\n")
    write_safetensors(folder / "model.safetensors", weights(c, seed), command=COMMAND)


def clear_greedy(model, c, seed):
    """A prompt whose continuation has no close call, and the continuation."""
    while True:
        prompt = i32(torch.randint(0, c["vocab_size"], (5,), generator=generator(seed)))
        continuation, gap = greedy(model, prompt, 16)
        if gap > 0.05:
            return {"greedy.prompt": prompt, "greedy.continuation": continuation}
        seed += 1


def make_model_golden(folder, c, lengths, seed, reference):
    ids, labels = model_input(c, lengths, seed + 10)
    model = load_model(folder, torch.float64)
    logits = packed_logits(model, ids, lengths)
    loss = token_mean_loss(logits, labels)
    loss.backward()
    tensors = {
        "input_ids": ids,
        "segment_lengths": i32(lengths),
        "labels": labels,
        "logits": f32(logits),
        "loss": f64([loss.item()]),
    }
    for name, parameter in model.named_parameters():
        tensors[f"grad.{name}"] = f32(parameter.grad)
    if c.get("rope_parameters", {}).get("rope_type") != "dynamic":
        tensors |= clear_greedy(model, c, seed + 11)
    write_safetensors(folder / "golden.safetensors", tensors, command=COMMAND)
    size = sum(file.stat().st_size for file in folder.iterdir())
    error = (reference - logits).abs().max().item()
    smallest = min(p.grad.abs().max().item() for p in model.parameters())
    print(
        f"{folder.name}: loss {loss.item():.9f}, unchanged HF float32 logits against float64 "
        f"{error:.1e}, smallest gradient's maximum {smallest:.1e}, {size} bytes"
    )
    assert error < 2e-5 and size < 150_000


# name: config, and the lengths of sequences whose frequencies are taken
FREQUENCIES = {
    "llama_2_7b": (dict(head_dim=128, max_position_embeddings=4096), [1]),
    "llama_3_1_8b": (
        dict(
            head_dim=128,
            max_position_embeddings=131072,
            rope_parameters=LLAMA3
            | dict(rope_theta=500000.0, high_freq_factor=4.0, original_max_position_embeddings=8192),
        ),
        [1],
    ),
    "llama_3_2_1b": (
        dict(
            head_dim=64,
            max_position_embeddings=131072,
            rope_parameters=LLAMA3
            | dict(
                rope_theta=500000.0,
                factor=32.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=8192,
            ),
        ),
        [1],
    ),
    "linear": (
        dict(
            head_dim=128,
            max_position_embeddings=16384,
            rope_parameters=dict(rope_type="linear", rope_theta=1e6, factor=4.0),
        ),
        [1],
    ),
    "dynamic": (
        dict(
            head_dim=80,
            max_position_embeddings=2048,
            rope_parameters=dict(rope_type="dynamic", rope_theta=10000.0, factor=1.9),
        ),
        [1, 2048, 2049, 5000, 100000],
    ),
}


def frequencies(c, length):
    """As a forward pass over `length` positions would use them."""
    rope = LlamaRotaryEmbedding(c)
    rope(torch.zeros(1), torch.tensor([[0, length - 1]]))
    return f32(rope.inv_freq)


def make_frequencies():
    tensors, settings = {}, {}
    for name, (keys, lengths) in FREQUENCIES.items():
        keys = keys | dict(hidden_size=4 * keys["head_dim"], num_attention_heads=4)
        settings[name] = json.dumps(keys)
        for length in lengths:
            tensors[f"{name}.{length}"] = frequencies(LlamaConfig(**keys), length)
    write_safetensors(OUT / "rope_frequencies.safetensors", tensors, command=COMMAND, **settings)
    print(f"rope_frequencies: {len(tensors)} tensors; known types {sorted(ROPE_INIT_FUNCTIONS)}")


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    cases = [
        (OUT / name, c, lengths, seed)
        for seed, (name, (c, lengths)) in enumerate(MODELS.items(), start=FIRST_SEED)
    ]
    references = []
    for folder, c, lengths, seed in cases:
        write_inputs(folder, c, seed)
        ids, _ = model_input(c, lengths, seed + 10)
        references.append(hugging_face_logits(folder, ids, lengths))
    run_in_own_dtype()
    for case, reference in zip(cases, references):
        make_model_golden(*case, reference)
    make_frequencies()


if __name__ == "__main__":
    main()
