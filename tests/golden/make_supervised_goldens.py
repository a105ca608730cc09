#!/usr/bin/env python3
"""Makes supervised.json: token ids and masks that the reference codes make of instruction data.

Command (the file goes to the folder this script lies in):

    python3 make_supervised_goldens.py --mora-repo PATH --open-instruct PATH

--mora-repo: github.com/kongds/MoRA at de5df31; its training_utils.SupervisedDataset and preprocess
make the Alpaca and MetaMathQA examples. --open-instruct: github.com/allenai/open-instruct, a clone
with its history; encode_with_messages_format of 9e6f5be8a~1 (the last version of the function that
made Tulu v2) makes the Tulu examples. Chat examples come from transformers' apply_chat_template.
Versions the committed file was made with: Python 3.11.7, transformers 5.23.0, torch 2.15.0.

Ids are kept as their number and a hash. Rows are words in random order from a fixed seed; tokenizers are those of tokenizers/.
"""

import argparse
import ast
import hashlib
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import torch
import transformers

OUT = Path(__file__).resolve().parent
WORDS = ("river stone Paris 42 3.14 naïve café 日本語 😀 \"quoted\" it's a\\b tab\there x=1; ### Input: "
         "<|user|> [INST] (a) 1/2 $5 % plus: minus").split(" ")
N = 60
LONGEST = 300  # tokens; some samples are longer and cut


def sentence(r, longest=14):
    text = ""
    for _ in range(r.randint(1, longest)):
        text += r.choice(WORDS) + r.choice([" ", " ", " ", "  ", "\n", ". "])
    return text if r.random() < 0.3 else text.strip()


def alpaca_rows(r):
    return [{"instruction": sentence(r), "input": r.choice(["", sentence(r)]), "output": sentence(r)}
            for _ in range(N)]


def metamath_rows(r):
    return [{"query": sentence(r, 20), "response": sentence(r), "type": "x"} for _ in range(N)]


def message_rows(r):
    rows = []
    for _ in range(N):
        messages = [{"role": "system", "content": sentence(r)}] if r.random() < 0.3 else []
        for _ in range(r.randint(1, 3)):
            messages.append({"role": "user", "content": sentence(r)})
            messages.append({"role": "assistant", "content": sentence(r)})
        if r.random() < 0.1:
            messages.append({"role": "user", "content": sentence(r)})
        rows.append({"messages": messages})
    return rows


def tokenizer(name, bos, eos):
    t = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(OUT / "tokenizers" / name), bos_token=bos, eos_token=eos, pad_token=eos)
    t.model_max_length = LONGEST
    return t


def spans(labels):
    """[first, end) of every run of tokens that count."""
    out = []
    for i, label in enumerate(labels):
        if label == -100:
            continue
        if out and out[-1][1] == i:
            out[-1][1] = i + 1
        else:
            out.append([i, i + 1])
    return out


def example(ids, labels):
    digest = hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()
    return {"count": len(ids), "sha256": digest[:16], "trained": spans(labels)}


def authors(rows, tok, mora_repo):
    sys.path.insert(0, mora_repo)
    for logging in ("wandb", "loguru", "datasets", "datasets.distributed"):  # imported, not used here
        sys.modules.setdefault(logging, mock.MagicMock(__spec__=mock.Mock()))
    import training_utils
    path = OUT / "rows.tmp.json"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    keep = random.sample
    random.sample = lambda population, k: list(population)  # the order of the rows as it is
    args = argparse.Namespace(data_path=str(path), data_length=len(rows))
    data = training_utils.SupervisedDataset(args, tok)
    random.sample = keep
    path.unlink()
    made = training_utils.preprocess(data.sources, data.targets, tok)
    return [example(i.tolist(), l.tolist())
            for i, l in zip(made["input_ids"], made["labels"])]


def open_instruct(rows, tok, repo):
    source = subprocess.run(["git", "-C", repo, "show", "9e6f5be8a~1:open_instruct/finetune.py"],
                            capture_output=True, text=True, check=True).stdout
    wanted = [n for n in ast.parse(source).body
              if isinstance(n, ast.FunctionDef) and n.name == "encode_with_messages_format"]
    scope = {"torch": torch}
    exec(compile(ast.Module(wanted, []), "finetune.py", "exec"), scope)
    made = [scope["encode_with_messages_format"](row, tok, LONGEST) for row in rows]
    return [example(m["input_ids"].tolist(), m["labels"].tolist()) for m in made]


def built_in(name):
    source = (OUT.parents[1] / "src/text/built_in_templates.cpp").read_text()
    text = dict(re.findall(r'constexpr std::string_view k(\w+) = R"\((.*?)\)";', source, re.S))
    turns = text["Turns"] if "turns" in text[name] else ""
    return text["TextMacro"] + turns + text[name]


def chat(rows, tok, template):
    made = []
    for row in rows:
        m = tok.apply_chat_template(row["messages"], chat_template=template, tokenize=True,
                                    return_dict=True, return_assistant_tokens_mask=True)
        labels = [i if a else -100 for i, a in zip(m["input_ids"], m["assistant_masks"])]
        made.append(example(list(m["input_ids"])[:LONGEST], labels[:LONGEST]))
    return made


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mora-repo", required=True)
    parser.add_argument("--open-instruct", required=True)
    args = parser.parse_args()
    cases = []

    def case(name, file, bos, eos, layout, rows, make):
        tok = tokenizer(file, bos, eos)
        cases.append({"format": name, "tokenizer": file, "bos": bos, "eos": eos, "layout": layout,
                      "max_length": LONGEST, "rows": rows, "examples": make(rows, tok)})

    r = random.Random(2405)
    llama, bpe = ("llama2.json", "<s>", "</s>"), ("llama3.json", "<s>", "<|im_end|>")
    for file in (llama, bpe):
        case("alpaca", *file, "alpaca", alpaca_rows(r), lambda x, t: authors(x, t, args.mora_repo))
        case("alpaca", *file, "metamath", metamath_rows(r), lambda x, t: authors(x, t, args.mora_repo))
        case("tulu", *file, "messages", message_rows(r),
             lambda x, t: open_instruct(x, t, args.open_instruct))
    answered = [x for x in message_rows(r) if x["messages"][-1]["role"] == "assistant"]
    for name, file in (("chatml", bpe), ("zephyr", llama), ("llama2", llama), ("mistral", llama)):
        template = built_in(name.capitalize())
        case(name, *file, "messages", answered, lambda x, t: chat(x, t, template))
    text = json.dumps({"transformers": transformers.__version__, "cases": cases}, ensure_ascii=False,
                      separators=(",", ":"))
    (OUT / "supervised.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
