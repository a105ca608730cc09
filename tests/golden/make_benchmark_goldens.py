#!/usr/bin/env python3
"""Makes benchmarks.json and the data in benchmarks/: what lm-evaluation-harness asks of generated questions.

Command (the files go to the folder this script lies in):

    python3 make_benchmark_goldens.py

Versions the committed files were made with: Python 3.11, lm_eval 0.4.13, transformers 5.24.0, datasets 5.2.0,
sentencepiece 0.2.3.

Questions are words in random order from a fixed seed, written in the official formats of MMLU, PubMedQA and MedQA. Each
task is the package's own (its yaml and functions), with only its data replaced, and builds its requests itself; where the
harness draws few-shot examples at random, its own sampler first_n takes the first. HFLM._encode_pair cuts them to tokens.
Prompts and ids are kept as hashes, the first prompts whole. Accuracies and standard errors of MMLU's groups come from the
harness's Group.aggregate for random answers.
"""
import csv
import hashlib
import json
import random
from pathlib import Path

import datasets
import lm_eval
import sentencepiece
import transformers
from lm_eval.api.group import AggMetricConfig, Group
from lm_eval.api.metrics import mean_stderr
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks._yaml_loader import load_yaml

OUT = Path(__file__).resolve().parent
TASKS = Path(lm_eval.__file__).parent / "tasks"
DATA = OUT / "benchmarks"
LETTERS = "ABCD"
SUBJECTS = {"abstract_algebra": "stem", "high_school_us_history": "humanities", "us_foreign_policy": "social_sciences",
            "virology": "other", "miscellaneous": "other"}
WORDS = ("river stone Paris 42 3.14 naïve café 日本語 😀 \"quoted\" it's a\\b tab\there x=1; (a) 1/2 $5 % A. B. Answer: "
         "{{x}} plus, minus,, \"\" #").split(" ")
SPECIAL = ["<s>", "</s>"]  # now and then
# Contexts that end in white space or begin with a special token, and what may follow.
PAIRS = [("one ", "two"), ("one  ", " two"), ("one\n\n", "two"), ("one\u00a0\t", "two"), ("one", "two"), ("one t", "wo three"),
         ("<s>one", " two"), ("<s> one", " </s>"), ("<|im_start|>one ", "two"), ("1", "2"), ("a </s> b", " c"), ("é", "̀")]
WHOLE = 2  # prompts of each case that are kept whole


def sentence(r, longest=12):
    text = ""
    for _ in range(r.randint(1, longest)):
        text += r.choice(SPECIAL if r.random() < 0.004 else WORDS) + r.choice([" ", " ", " ", "  ", "\n", ". ", ",", "\u00a0"])
    return text if r.random() < 0.3 else text.strip()


def dump(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def make_mmlu(r):
    rows = {}
    for split, count in [("dev", 5), ("test", 14)]:
        (DATA / "mmlu" / split).mkdir(parents=True, exist_ok=True)
        for subject in SUBJECTS:
            rows[subject, split] = [[sentence(r)] + [sentence(r, 4) for _ in LETTERS] + [r.choice(LETTERS)]
                                    for _ in range(count)]
            with open(DATA / "mmlu" / split / f"{subject}_{split}.csv", "w", newline="") as f:
                csv.writer(f, lineterminator="\n").writerows(rows[subject, split])
    return rows


def make_pubmedqa(r):
    articles = {}
    for i in range(64):
        articles[str(1000 + 7 * i)] = {
            "QUESTION": sentence(r), "CONTEXTS": [sentence(r, 20) for _ in range(r.randint(1, 4))], "LABELS": [],
            "MESHES": [], "final_decision": r.choice(["yes", "no", "maybe"]), "LONG_ANSWER": sentence(r)}
    test = r.sample(sorted(articles), 52)
    (DATA / "pubmedqa").mkdir(parents=True, exist_ok=True)
    dump(DATA / "pubmedqa" / "ori_pqal.json", articles)
    dump(DATA / "pubmedqa" / "test_ground_truth.json", {i: articles[i]["final_decision"] for i in test})
    return [articles[i] for i in test], [a for i, a in articles.items() if i not in test]


def make_medqa(r):
    splits = []
    (DATA / "medqa").mkdir(parents=True, exist_ok=True)
    for split, count in [("test", 52), ("train", 4)]:
        rows = []
        for _ in range(count):
            options = {letter: sentence(r, 4) for letter in LETTERS}
            index = r.choice(LETTERS)
            rows.append({"question": sentence(r, 20), "answer": options[index], "options": options, "meta_info": "step1",
                         "answer_idx": index, "metamap_phrases": []})
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (DATA / "medqa" / f"phrases_no_exclude_{split}.jsonl").write_text(lines)
        splits.append(rows)
    return splits


def requests(yaml, splits, shots):
    """What the package's task asks of these documents: for each, the prompt, the choices and the right one."""
    config = load_yaml(TASKS / yaml, resolve_func=True)
    config.pop("tag", None)
    config["custom_dataset"] = lambda **_: datasets.DatasetDict(
        {name: datasets.Dataset.from_list(rows) for name, rows in splits.items()})
    config["num_fewshot"] = shots
    for split in ["training_split", "validation_split", "fewshot_split"]:
        if config.get(split) not in [None, *splits]:
            config.pop(split)
    config["fewshot_config"] = {**config.get("fewshot_config", {}), "sampler": "first_n"}
    task = ConfigurableTask(config=config)
    task.set_config("num_fewshot", shots)
    task.build_all_requests()
    by_doc = {}
    for instance in task.instances:
        by_doc.setdefault(instance.doc_id, []).append(instance)
    cases = []
    for i in sorted(by_doc):
        prompts = {instance.args[0] for instance in by_doc[i]}
        assert len(prompts) == 1
        doc = by_doc[i][0].doc
        gold = task.doc_to_target(doc)
        if isinstance(gold, str):
            gold = task.doc_to_choice(doc).index(gold)
        cases.append((prompts.pop(), [instance.args[1] for instance in by_doc[i]], gold))
    return cases


def encoder(tokenizer):
    lm = HFLM.__new__(HFLM)
    lm.tokenizer, lm.backend, lm.add_bos_token, lm.custom_prefix_token_id = tokenizer, "causal", None, None
    return lm


class SentencePiece:
    """A model of sentencepiece as a tokenizer of transformers that adds BOS: transformers 5 itself converts such a
    model without the space in front that it says. Special tokens are not found in texts."""

    def __init__(self, file):
        self.model = sentencepiece.SentencePieceProcessor(model_file=str(file))
        self.bos_token_id, self.eos_token_id = self.model.bos_id(), self.model.eos_id()

    def encode(self, text, add_special_tokens=True):
        return [self.bos_token_id] * add_special_tokens + self.model.encode(text)

    def decode(self, token):
        return self.model.id_to_piece(token)


def tokenizers():
    folder = OUT / "tokenizers"
    fast = lambda name, **kind: transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / name), **kind)  # noqa: E731
    return {"tests/golden/tokenizers/llama2.json": fast("llama2.json", bos_token="<s>", eos_token="</s>"),
            "tests/golden/tokenizers/smollm2.json": fast("smollm2.json", bos_token="<|im_start|>", eos_token="<|im_end|>"),
            "data/base": SentencePiece(OUT.parent.parent / "data" / "base" / "tokenizer.model")}


def can_encode(lm, text):
    return not isinstance(lm.tokenizer, SentencePiece) or not any(special in text for special in SPECIAL)


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def case(name, data, shots, asked, encoders):
    ids = {}
    for key, lm in encoders.items():
        ids[key] = [digest(" ".join(f"{context};{continuation}" for context, continuation in
                                    (lm._encode_pair(prompt, choice) for choice in choices)))
                    if can_encode(lm, prompt) else None for prompt, choices, _ in asked]
    return {"name": name, "data": data, "num_fewshot": shots, "choices": asked[0][1],
            "whole": [prompt for prompt, _, _ in asked[:WHOLE]], "prompts": [digest(p) for p, _, _ in asked],
            "gold": [gold for _, _, gold in asked], "ids": ids}


def pairs(encoders):
    return [{"context": context, "continuation": continuation,
             "ids": {key: lm._encode_pair(context, continuation) for key, lm in encoders.items()
                     if can_encode(lm, context + continuation)}}
            for context, continuation in PAIRS]


def group_summary(r, mmlu):
    """Random answers to all questions of MMLU's test split, and the harness's summary of them."""
    scores = {s: [int(r.random() < 0.4) for _ in mmlu[s, "test"]] for s in SUBJECTS}
    metrics = {f"mmlu_{s}": {"acc,none": sum(x) / len(x), "acc_stderr,none": mean_stderr(x), "sample_len": len(x)}
               for s, x in scores.items()}
    summary = {}

    class Leaf:
        def __init__(self, name):
            self.task_name = name

    for name in ["", "stem", "humanities", "social_sciences", "other"]:
        group = Group(name=name or "mmlu", aggregate_metric_list=[AggMetricConfig(metric="acc", weight_by_size=True)])
        leaves = [Leaf(f"mmlu_{s}") for s in SUBJECTS if name in ["", SUBJECTS[s]]]
        group.get_all_tasks = lambda recursive=True, leaves=leaves: leaves
        found = group.aggregate(metrics)
        summary[name] = [found["sample_len"], found["acc,none"], found["acc_stderr,none"]]
    for s in SUBJECTS:
        m = metrics[f"mmlu_{s}"]
        summary[s] = [m["sample_len"], m["acc,none"], m["acc_stderr,none"]]
    return {"scores": [x for s in sorted(SUBJECTS) for x in scores[s]], "summary": summary}


def main():
    r = random.Random(20240519)
    encoders = {name: encoder(t) for name, t in tokenizers().items()}
    mmlu = make_mmlu(r)
    cases = []
    for shots in [0, 5]:
        asked = []
        for s in sorted(SUBJECTS):
            docs = {split: [{"question": row[0], "subject": s, "choices": row[1:5], "answer": LETTERS.index(row[5])}
                            for row in mmlu[s, split]] for split in ["dev", "test"]}
            asked += requests(f"mmlu/default/mmlu_{s}.yaml", docs, shots)
        cases.append(case("mmlu", "mmlu", shots, asked, encoders))
    test, train = make_pubmedqa(r)
    for shots in [0, 3]:
        asked = requests("pubmedqa/pubmedqa.yaml", {"test": test, "train": train}, shots)
        cases.append(case("pubmedqa", "pubmedqa", shots, asked, encoders))
    splits = [[{"sent1": row["question"], "sent2": "", "label": LETTERS.index(row["answer_idx"]),
                **{f"ending{i}": row["options"][letter] for i, letter in enumerate(LETTERS)}} for row in rows]
              for rows in make_medqa(r)]
    for shots in [0, 2]:
        asked = requests("medqa/medqa.yaml", {"test": splits[0], "train": splits[1]}, shots)
        cases.append(case("medqa", "medqa", shots, asked, encoders))
    (OUT / "benchmarks.json").write_text(json.dumps(
        {"versions": {"lm_eval": lm_eval.__version__, "transformers": transformers.__version__},
         "cases": cases, "pairs": pairs(encoders), "groups": group_summary(r, mmlu)}, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
