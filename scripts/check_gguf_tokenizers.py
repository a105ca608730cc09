#!/usr/bin/env python3
"""Takes tokenizers to GGUF and back with mora-convert, and compares the ids.

    check_gguf_tokenizers.py MORA_CONVERT TOKENIZER...

TOKENIZER is a tokenizer.json (byte-level BPE) or a SentencePiece tokenizer.model. Each is put beside
a tiny random LLaMA, which goes through `hf-to-gguf` and `gguf-to-hf`; then both tokenizers must
give the same ids on varied texts. Needs transformers, torch, tokenizers and sentencepiece.
"""

import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

import sentencepiece
import tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

PARTS = ["the ", "Hello", "don't", "I'LL", " ", "   ", "\n", "\r\n", "\t", "12345", "3.14", "é", "e\u0301", "größer ", "\u4f60\u597d",
         "\u3053\u3093\u306b", "\u043f\u0440\u0438\u0432\u0435\u0442", "\u05e9\u05dc\u05d5\u05dd", "\U0001f600", "\U0001f468\u200d\U0001f469", "def f(x):",
         "{x!r}", "...", "--", "==", "<s>", "<|endoftext|>", "|||IP_ADDRESS|||", "\x01", "\u00a0", "camelCase", "HTTPServer", "$", "`~`"]


def texts():
    rng = random.Random(2)
    for _ in range(20000):
        yield "".join(rng.choices(PARTS, k=rng.randint(0, 10)))


def encoder(path):
    if path.name == "tokenizer.model":
        model = sentencepiece.SentencePieceProcessor(str(path))
        return model.encode, model.vocab_size()
    model = tokenizers.Tokenizer.from_file(str(path))
    return (lambda text: model.encode(text, add_special_tokens=False).ids), model.get_vocab_size()


def check(convert, tokenizer):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        source = folder / "hf"
        kind = "tokenizer.json" if tokenizer.suffix == ".json" else "tokenizer.model"
        source.mkdir()
        shutil.copy(tokenizer, source / kind)
        encode, size = encoder(source / kind)
        config = LlamaConfig(vocab_size=size + 5, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                             num_attention_heads=2)
        LlamaForCausalLM(config).save_pretrained(source)
        subprocess.run([convert, "hf-to-gguf", "--model", source, "--out", folder / "m.gguf"], check=True)
        subprocess.run([convert, "gguf-to-hf", "--model", folder / "m.gguf", "--out", folder / "back"], check=True)
        again, _ = encoder(folder / "back" / kind)
        for text in texts():
            assert encode(text) == again(text), (tokenizer, text, encode(text), again(text))
        print(f"{tokenizer}: {size} tokens, the same ids before and after GGUF")


for each in sys.argv[2:]:
    check(sys.argv[1], pathlib.Path(each))
