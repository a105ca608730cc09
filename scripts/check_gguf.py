#!/usr/bin/env python3
"""Compares `mora-convert gguf-to-hf` and `hf-to-gguf` with the reference programs.

    check_gguf.py GGUF FOLDER [Q8_0_GGUF]

GGUF is a LLaMA in GGUF, FOLDER what `mora-convert gguf-to-hf` (float32) made of it, Q8_0_GGUF what
`mora-convert hf-to-gguf --type q8_0` made of FOLDER. Checked against the packages gguf and
transformers (pip install gguf transformers torch safetensors):

- every tensor of FOLDER is the gguf package's dequantised tensor, bit for bit (q and k reordered);
- transformers gives the same logits from GGUF and from FOLDER;
- the ids of both tokenizers are equal on texts without digits (transformers 5.23 ignores how
  "smollm" splits them), and FOLDER's split every digit where the file asks for it;
- every tensor of Q8_0_GGUF is the package's quantisation of FOLDER's tensor, bit for bit.
"""

import pathlib
import random
import sys

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize, quantize
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def hf_name(name):
    if name.startswith("blk."):
        _, layer, part, _ = name.split(".")
        return f"model.layers.{layer}.{NAMES[part]}.weight"
    return {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
            "output.weight": "lm_head.weight"}[name]


def half_split(matrix, head_dim):
    heads = matrix.shape[0] // head_dim
    return matrix.reshape(heads, head_dim // 2, 2, -1).swapaxes(1, 2).reshape(matrix.shape)


def interleaved(matrix, head_dim):
    heads = matrix.shape[0] // head_dim
    return matrix.reshape(heads, 2, head_dim // 2, -1).swapaxes(1, 2).reshape(matrix.shape)


def is_rotated(name):
    return ".attn_q." in name or ".attn_k." in name


def check_tensors(gguf, weights, head_dim):
    tensors = [t for t in GGUFReader(gguf).tensors if t.name != "rope_freqs.weight"]
    assert len(tensors) == len(weights), (len(tensors), len(weights))
    for t in tensors:
        values = dequantize(t.data, t.tensor_type)
        if is_rotated(t.name):
            values = half_split(values, head_dim)
        ours = weights[hf_name(t.name)].numpy()
        assert ours.shape == values.shape and (ours.view(np.int32) == values.view(np.int32)).all(), t.name
    print(f"{len(tensors)} tensors equal the gguf package's")


def check_quantised(gguf, weights, head_dim):
    for t in GGUFReader(gguf).tensors:
        values = weights[hf_name(t.name)].numpy()
        if is_rotated(t.name):
            values = interleaved(values, head_dim)
        expected = quantize(np.ascontiguousarray(values), t.tensor_type)
        assert (np.asarray(t.data).view(np.uint8) == expected.view(np.uint8)).all(), t.name
    kinds = {GGMLQuantizationType(t.tensor_type).name for t in GGUFReader(gguf).tensors}
    print(f"{gguf}: {sorted(kinds)} equal the gguf package's")


def texts():
    rng = random.Random(1)
    words = ("the quick brown fox don't won't I'LL naïve Ünïcödé größer \u4f60\u597d \u3053\u3093 \u043f\u0440\u0438\u0432\u0435\u0442 "
             "\u05e9\u05dc\u05d5\u05dd \U0001f600 \U0001f468\u200d\U0001f469 e\u0301 def f(x): return {x!r} <|im_start|> <|im_end|> ... --- == \t "
             "\n \r\n  \u00a0 \u2003 \x01 a_b camelCase HTTPServer $ % ^ & * ( ) [ ] ~ ` ' \"").split(" ")
    for _ in range(20000):
        parts = rng.choices(words, k=rng.randint(1, 12))
        yield "".join(p + " " * rng.choice((0, 1, 1, 1, 2, 5)) for p in parts)
    for code in range(1, 0x110000):
        if not 0xD800 <= code < 0xE000 and not chr(code).isnumeric() and code % 7 == 0:
            yield chr(code) + "x" + chr(code)


def check_tokenizers(gguf, folder):
    theirs = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    ours = AutoTokenizer.from_pretrained(folder)
    count = 0
    for text in texts():
        a, b = theirs(text)["input_ids"], ours(text)["input_ids"]
        assert a == b, (text, a, b)
        count += 1
    digits = ours("1234567 x42")["input_ids"]
    print(f"{count} texts give the same ids; \"1234567 x42\" -> {ours.convert_ids_to_tokens(digits)}")
    chat = [{"role": "user", "content": "Hello"}]
    assert theirs.apply_chat_template(chat, tokenize=False) == ours.apply_chat_template(chat, tokenize=False)


def check_logits(gguf, folder):
    theirs = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.randint(0, ours.config.vocab_size, (1, 256), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        a, b = theirs(ids).logits, ours(ids).logits
    error = ((a - b).abs().max() / a.abs().max()).item()
    print(f"logits over 256 tokens differ by {error:.1e} (relative)")
    assert error < 1e-6


def main():
    gguf, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    weights = load_file(folder / "model.safetensors")
    import json
    head_dim = json.loads((folder / "config.json").read_text())["head_dim"]
    check_tensors(gguf, weights, head_dim)
    for other in sys.argv[3:]:
        check_quantised(other, weights, head_dim)
    check_tokenizers(gguf, folder)
    check_logits(gguf, folder)


main()
