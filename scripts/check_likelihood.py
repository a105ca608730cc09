#!/usr/bin/env python3
"""Compares a real model's likelihoods and perplexity with transformers' and lm-evaluation-harness's.

    check_likelihood.py MODEL --mmlu DIR --pubmedqa DIR --text FILE.txt[.gz] [--questions 60] [--tokens 20000]

MODEL is a Hugging Face folder (scripts/fetch_smollm2.sh makes one), DIR the official folders of MMLU and PubMedQA, FILE a
text such as WikiText-2's test set. A third of the questions is MMLU without and with 5 examples each (of four subjects),
the rest PubMedQA. mora-eval's log-likelihoods of their answers are compared with those of the harness's HFLM on the
transformers model in float32, and the loss of each block of 512 of the text's first tokens with transformers'. Prints
the largest differences; exit code 1 if a log-likelihood, a block's loss or the perplexity differs by more than 1e-3 of
itself or an answer differs. The default numbers take minutes on two cores.

Needs Python's torch, transformers and lm_eval. MORA_BUILD names the build folder with mora-eval (default: build).
"""
import argparse
import gzip
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

ROOT = pathlib.Path(__file__).resolve().parent.parent
EVAL = pathlib.Path(os.environ.get("MORA_BUILD", ROOT / "build")) / "mora-eval"
SUBJECTS = ["anatomy", "high_school_us_history", "sociology", "virology"]
BLOCK = 512
TOLERANCE = 1e-3


def samples(folder, *options):
    subprocess.run([EVAL, "--output", folder, *options], stdout=subprocess.DEVNULL, check=True)
    file = next(f for f in folder.glob("*.jsonl"))
    return [json.loads(line) for line in open(file)]


def relative(a, b):
    return abs(a - b) / abs(b)


def check_choices(name, model, choices, work, *options):
    """The largest relative difference of a log-likelihood."""
    ours = samples(work / name, "--model", model, *options)
    requests = [Instance("loglikelihood", {}, (s["prompt"], choice), i) for s in ours
                for i, choice in enumerate(choices)]
    found = [pair[0] for pair in reference.loglikelihood(requests, disable_tqdm=True)]
    worst, other_answers = 0, 0
    for i, s in enumerate(ours):
        theirs = found[i * len(choices):(i + 1) * len(choices)]
        worst = max([worst, *map(relative, s["log_likelihoods"], theirs)])
        other_answers += s["prediction"] != choices[theirs.index(max(theirs))].strip()
    print(f"{name}: {len(ours)} questions, {len(found)} log-likelihoods, largest relative difference {worst:.1e}, "
          f"other answers {other_answers}", flush=True)
    return worst < TOLERANCE and other_answers == 0


def check_text(model, text, tokens, work):
    count = tokens // BLOCK
    (work / "run").mkdir()
    (work / "run" / "model").symlink_to(pathlib.Path(model).resolve())
    (work / "text.json").write_text(json.dumps({
        "task": "pretrain", "output_dir": str(work / "run"), "model": {"path": str(pathlib.Path(model).resolve())},
        "adapter": {"method": "full"},
        "data": {"train_files": [str(text)], "validation_files": [str(text)], "block_size": BLOCK, "add_bos": "never", "cache_dir": ""},
        "eval": {"num_samples": count, "batch_size": 4}}))
    ours = samples(work / "text", "--config", work / "text.json")
    content = (gzip.open if text.suffix == ".gz" else open)(text, "rt", encoding="utf-8").read()
    ids = reference.tokenizer(content, add_special_tokens=False)["input_ids"]
    worst, mean = 0, [0, 0]
    with torch.no_grad():
        for i in range(count):
            block = torch.tensor([ids[i * BLOCK:(i + 1) * BLOCK]])
            loss = reference.model(block, labels=block).loss.item()
            worst = max(worst, relative(ours[i]["loss"], loss))
            mean = [mean[0] + ours[i]["loss"] / count, mean[1] + loss / count]
    perplexity = [math.exp(m) for m in mean]
    difference = relative(*perplexity)
    print(f"text: {count} blocks of {BLOCK} tokens, largest relative difference of a block's loss {worst:.1e}; "
          f"perplexity {perplexity[0]:.6f}, transformers {perplexity[1]:.6f}, relative difference {difference:.1e}")
    return worst < TOLERANCE and difference < TOLERANCE


def main():
    global reference
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--mmlu", required=True)
    parser.add_argument("--pubmedqa", required=True)
    parser.add_argument("--text", required=True, type=pathlib.Path)
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--tokens", type=int, default=20000)
    a = parser.parse_args()
    model = transformers.AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32).eval()
    reference = HFLM(pretrained=model, tokenizer=transformers.AutoTokenizer.from_pretrained(a.model), batch_size=4)
    each = max(1, a.questions // 12)
    mmlu = ["--benchmark", "mmlu", "--data", a.mmlu, "--subjects", json.dumps(SUBJECTS), "--num-samples", str(each)]
    letters = [" A", " B", " C", " D"]
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        good = [check_choices("mmlu", a.model, letters, work, *mmlu),
                check_choices("mmlu-5shot", a.model, letters, work, *mmlu, "--num-fewshot", "5"),
                check_choices("pubmedqa", a.model, [" yes", " no", " maybe"], work, "--benchmark", "pubmedqa", "--data",
                              a.pubmedqa, "--num-samples", str(4 * each)),
                check_text(a.model, a.text.resolve(), a.tokens, work)]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
