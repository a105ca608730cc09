#!/usr/bin/env python3
"""Makes blocks.json: blocks of token ids that ReLoRA's data code makes of documents.

Command (the file goes to the folder this script lies in):

    python3 make_block_goldens.py --relora-repo PATH

--relora-repo: github.com/Guitaricet/relora at 176f376, a clone or its bare repository; its
peft_pretraining.dataloader.tokenize_and_chunk makes the blocks (its group_texts is that of
transformers' run_clm.py). `datasets` is replaced by a class that maps the whole set at once, which
is what the original does up to 1,000 documents; beyond, it drops a remainder for every 1,000.
Versions the committed file was made with: Python 3.11.7, transformers 5.23.0.

Ids are kept as a hash a block. Documents are words in random order from a fixed seed; tokenizers are
those of tokenizers/.
"""

import argparse
import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path
from unittest import mock

import transformers

from make_supervised_goldens import OUT, sentence, tokenizer


class Data:
    """What tokenize_and_chunk needs of a Dataset: columns, and map() over all rows at once."""

    def __init__(self, columns):
        self.columns = columns

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, split):
        return mock.MagicMock(features=self.columns, __len__=lambda _: len(self))

    def map(self, function, batched, remove_columns, num_proc):
        assert batched
        return Data({k: list(v) for k, v in function(self.columns).items()})


def relora(repo):
    source = subprocess.run(["git", "-C", repo, "show", "176f376:peft_pretraining/dataloader.py"],
                            capture_output=True, text=True, check=True).stdout
    for name in ("datasets", "loguru"):
        sys.modules.setdefault(name, mock.MagicMock(__spec__=mock.Mock()))
    scope = {"__name__": "dataloader"}
    sys.modules["datasets"].Dataset = Data
    exec(compile(source.replace("isinstance(dataset, IterableDataset)", "False"), "dataloader.py",
                 "exec"), scope)
    return scope["tokenize_and_chunk"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--relora-repo", required=True)
    chunk = relora(parser.parse_args().relora_repo)
    r = random.Random(512)
    cases = []
    for file, bos, eos in (("llama2.json", "<s>", "</s>"), ("llama3.json", "<s>", "<|im_end|>"),
                           ("gpt2.json", None, "<|endoftext|>"),
                           ("neox.json", None, "<|endoftext|>")):
        documents = [" ".join(sentence(r, 30) for _ in range(r.randint(1, 9))) for _ in range(40)]
        tok = tokenizer(file, bos, eos)
        tok.model_max_length = 10**9
        for size in (50, 64):
            made = chunk(tok, Data({"text": documents}), "text", size, 1)
            blocks = [hashlib.sha256(",".join(map(str, b)).encode()).hexdigest()[:12]
                      for b in made.columns["input_ids"]]
            cases.append({"tokenizer": file, "bos": bos, "eos": eos, "block_size": size,
                          "documents": documents if size == 50 else None, "blocks": blocks})
    text = json.dumps({"transformers": transformers.__version__, "cases": cases}, ensure_ascii=False,
                      separators=(",", ":"))
    (OUT / "blocks.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
