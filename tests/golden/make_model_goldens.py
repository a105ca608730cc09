#!/usr/bin/env python3
"""Makes the goldens of whole models: what transformers computes in float32.

    make_model_goldens.py NAME=MODEL_DIR...        (base=data/base stories260k=... smollm2=...)

MODEL_DIR is a Hugging Face folder, or a single .gguf file that transformers can open. Writes
model_NAME.safetensors beside this script: the ids of 256 tokens of a text of our own, the logits of
all of them at 48 vocabulary entries drawn with a fixed seed, the largest logit of all in size, and
64 greedy tokens after the first 16 of the text. No model or tokenizer goes into the repository.
Needs the environment of README.md, and for a .gguf file the gguf package.
"""

import sys
from pathlib import Path

import torch
import transformers
from make_goldens import i32, write_safetensors

TOKENS, COLUMNS, PROMPT, CONTINUATION = 256, 48, 16, 64

TEXT = """Once upon a time there was a little town by a river, and in the town there was a baker who \
was known for one thing: every loaf that she sold had a number on it. Nobody knew why. Some people \
said that the numbers were prices in an old currency; others were sure that she counted the days \
until something would happen. A girl called Ana, who was ten years old and could not leave a riddle \
alone, bought a loaf each morning and wrote the numbers down: 3, 5, 9, 17, 33. On the sixth day she \
told the baker, before she had seen the loaf, that it would be 65. The baker laughed so loudly that \
the pigeons left the roof. "You are the first one to ask what comes next, instead of what it means," \
she said. From then on Ana came to the bakery after school. She learned how long a dough must rest, \
why salt is added last, and that 2 * n - 1 is a fine way to count if you want to keep people awake. \
Years later she opened a shop of her own in the next town. She sold bread, maps, and small wooden \
boxes that could be opened only by those who first wrote down what they saw.
"""


def load(path):
    path = Path(path)
    folder, extra = (path.parent, {"gguf_file": path.name}) if path.suffix == ".gguf" else (path, {})
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **extra)
    if (folder / "tokenizer.model").exists():
        import sentencepiece

        spm = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        bos = [spm.bos_id()] if spm.bos_id() >= 0 else []
        return model, bos + spm.encode(TEXT)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **extra)
    return model, tokenizer(TEXT)["input_ids"]


def greedy(model, prompt):
    """By whole forward passes: no cache, no defaults of a generation_config."""
    ids = list(prompt)
    for _ in range(CONTINUATION):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def golden_of(model, ids):
    """The tensors of a golden file."""
    model.eval()
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].float()
        continuation = greedy(model, ids[:PROMPT])
    generator = torch.Generator().manual_seed(1)
    columns = torch.randperm(logits.shape[1], generator=generator)[:COLUMNS]
    return {
        "input_ids": i32(ids),
        "columns": i32(columns),
        "logits": logits[:, columns].contiguous(),
        "largest_logit": logits.abs().max().reshape(1),
        "greedy.prompt": i32(ids[:PROMPT]),
        "greedy.continuation": i32(continuation),
    }


def make(name, path):
    model, ids = load(path)
    ids = ids[:TOKENS]
    assert len(ids) == TOKENS, f"{name}: the text has only {len(ids)} tokens"
    tensors = golden_of(model, ids)
    out = Path(__file__).resolve().parent / f"model_{name}.safetensors"
    write_safetensors(out, tensors, command=f"make_model_goldens.py {name}=MODEL_DIR")
    print(f"{out.name}: largest logit {float(tensors['largest_logit'][0]):.3f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for argument in sys.argv[1:]:
        make(*argument.split("=", 1))
