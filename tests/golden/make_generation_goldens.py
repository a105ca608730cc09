#!/usr/bin/env python3
"""Makes generation.json: what the references ask, and how they judge, for benchmarks that are generated or measured by F1.

Command (the file goes to the folder this script lies in):

    python3 make_generation_goldens.py --metamath DIR --lmops DIR

DIRs are checkouts of github.com/meta-math/MetaMath (eval_gsm8k.py, eval_math.py, util.py) and of
github.com/microsoft/LMOps (adaptllm/src/utils/metric.py). MetaMath's scripts run whole, on a stand-in for vLLM
that answers what it is told. With lm-eval 0.4.13, scikit-learn 1.9.1, nereval 0.2.5 and absl-py;
GSM8K is asked by lm-eval's own task on generated rows. All texts come from a fixed seed. Python 3.11.7.
"""

import argparse
import contextlib
import io
import json
import os
import random
import sys
import tempfile
import types
from fractions import Fraction
from pathlib import Path

OUT = Path(__file__).resolve().parent
NAMES = ["Ada", "Björn", "Chen", "Dora", "Emeka", "Fatima", "Goran"]
THINGS = ["apples", "pens", "marbles", "café tables", "tickets", "books"]
OUTPUTS = ["{n}", "{n}", "{n}", "{n:,}", "{n:,}.", "{n}.", "-{n}", "{n:,}", "${n}", "${n:,}.00", "{n}.0", "{n}.5", "{n}/1", "{n}/2", "1{n}", "{n}%", "{n} {t}",
           "so {n} {t}", "about {n}\nor {n}", "", "none", "{n},", "{n}e1", "+{n}", "\\boxed{{{n}}}", "$\\frac{{{n}}}{{1}}$"]
LATEX = [(r"\frac{1}{2}", ["1/2", "0.5", r"\frac12", ".5", r"\dfrac{1}{2}", "2"]), ("12", ["12", "12.", "x = 12", r"12\%", "12.0"]),
         (r"\sqrt{3}", [r"\sqrt3", r"\sqrt{3}", "1.732"]), ("(1,2)", ["(1, 2)", r"\left(1,2\right)", "(2,1)"]),
         (r"90^\circ", ["90", r"90^{\circ}", "90 degrees"]), (r"\text{red}", [r"\text{red}", "red"]),
         (r"3\pi", [r"3\pi", "9.42"]), ("5", [r"5\text{ cm}", r"\$5", "five", "5"]), ("x^2+1", ["x^2 + 1", "1+x^2"]),
         (r"\frac{3}{4}", ["3/4", r"\frac34", r"\tfrac{3}{4}", "0.75"])]


def rows(r, n):
    made = []
    for _ in range(n):
        a, b, who, thing = r.randint(2, 3000), r.randint(2, 999), r.choice(NAMES), r.choice(THINGS)
        question = f"{who} has {a} {thing} and buys {b} more{r.choice(['.', ' at 50% off!', '. It costs $3.', ' .'])}"
        question += r.choice([" How many now?", "\nHow many are there?", "  How many in all? ", " \"How many?\" asks \\n."])
        total = r.choice([str(a + b), f"{a + b:,}"])
        made.append({"question": question, "answer": f"{a} + {b} = <<{a}+{b}={a + b}>>{a + b} {thing}.\n#### {total}"})
    return made


def said(r, n):
    """What a model might say where n is right."""
    text = r.choice(OUTPUTS).format(n=n + r.choice([0] * 7 + [1]), t=r.choice(THINGS))
    lead = r.choice(["", " 3 + 4 = 7. ", " First, $2 each.\n", " It is\n\n"])
    return lead + r.choice([f"#### {text}", f"#### {text}", f"\n#### {text}", f"The answer is: {text}", f"\n#### {text}\nThe answer is: {text}", text,
                            f"The answer is: 7.\nNo. The answer is: {text}.\n"])


def harness(train, test, outputs):
    os.environ["HF_HUB_OFFLINE"] = "1"
    from lm_eval import tasks
    from lm_eval.api.task import ConfigurableTask
    import yaml
    folder = Path(tempfile.mkdtemp())
    for name, part in (("train", train), ("test", test)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    config = yaml.safe_load((Path(tasks.__file__).parent / "gsm8k" / "gsm8k.yaml").read_text())
    config |= {"dataset_path": "json", "dataset_name": None,
               "dataset_kwargs": {"data_files": {k: str(folder / f"{k}.jsonl") for k in ("train", "test")}}}
    task = ConfigurableTask(config=config)
    task.set_fewshot_seed(1234)
    task.build_all_requests(rank=0, world_size=1)
    cases = []
    for instance, output in zip(task.instances, outputs, strict=True):
        instance.resps = [output]
    task.apply_filters()
    for instance, output in zip(task.instances, outputs, strict=True):
        score = {name: int(task.process_results(instance.doc, [answer])["exact_match"])
                 for name, answer in instance.filtered_resps.items()}
        cases.append({"prompt": instance.args[0], "output": output, "strict": score["strict-match"],
                      "flexible": score["flexible-extract"]})
    return cases, task.instances[0].args[1]["until"]


def metamath(folder, script, function, keys, test, outputs):
    """Runs the script's function on one row after the other."""
    sys.path.insert(0, str(folder))
    seen = {}

    class LLM:
        def __init__(self, **_):
            pass

        def generate(self, prompts, parameters):
            seen.update(prompt=prompts[0], stop=parameters["stop"], tokens=parameters["max_tokens"])
            text = seen["output"]
            cut = min([text.find(s) for s in parameters["stop"] if s in text], default=len(text))
            return [types.SimpleNamespace(prompt=prompts[0], outputs=[types.SimpleNamespace(text=text[:cut])])]

    stand_ins = {"vllm": {"LLM": LLM, "SamplingParams": lambda **keys: keys}, "fraction": {"Fraction": Fraction},
                 "jsonlines": {"Reader": lambda file: map(json.loads, file)}}
    for name, content in stand_ins.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(content)
    run = getattr(__import__(script), function)
    path = Path(tempfile.mkdtemp()) / "rows.jsonl"
    cases = []
    for row, output in zip(test, outputs, strict=True):
        path.write_text(json.dumps({new: row[old] for old, new in keys.items()}) + "\n")
        seen["output"] = output
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            run("model", str(path))
        cases.append({"prompt": seen["prompt"], "output": output, "right": int(float(printed.getvalue().split()[-1]))})
    sys.path.remove(str(folder))
    return {"rows": test, "cases": cases, "tokens": seen["tokens"], "stop": seen["stop"]}


def math_rows(r, n):
    made, outputs = [], []
    for i in range(n):
        answer, others = LATEX[i % len(LATEX)]
        made.append({"problem": f"Find ${r.choice('abxy')}_{i}$ in {r.choice(THINGS)}.", "type": f"Type {i % 3}",
                     "level": f"Level {1 + i % 5}", "solution": f"By $\\boxed{{7}}$ it is $\\boxed{{{answer}}}$ in all."})
        value = r.choice(others)
        outputs.append(r.choice([" So it is ", ""]) + r.choice([f"The answer is: {value}", f"The answer is: {value}.", value,
                                                               f"The answer is: ${value}$", f"The answer is: {value}.\nQuestion: 2"]))
    return made, outputs


def finance(folder, r):
    sys.path.insert(0, str(Path(folder) / "adaptllm"))
    from src.utils.metric import compute_metrics, compute_headline, compute_ner, compute_ConvFinQA
    labels = ["60.94", "142.4%", "1.42403", "-4", "0.12574", "yes", "-0.21", "1,234", "12.6%", "0", "007", "1e3"]
    forms = ["{x}", " {x}", "{x}%", "${x} million", "about {x} or 3", "3 and {x}", "-{x}", "{x}.", "{x}\n60.94", "\n{x}", "({x})",
             "yes", "", "1,{x}", "{x}e2", "{x}%%", "0{x}", "..{x}", "+{x}", "{x},000", "{x},0000.5.6", "{x}-{x}"]
    numbers = []
    for label in labels:
        for form in forms:
            x = r.choice([label.strip("%"), label, str(r.randint(0, 99)), "0.13", "1.43", "14", "12.57"])
            pred = form.format(x=x)
            numbers.append({"label": label, "output": pred, "right": int(compute_ConvFinQA([[" " + label]], [pred]))})
    words, kinds = ["Silicon", "Valley", "Bank", "New York", "J. Doe", "Ünal", "Santa Clara"], ["ORG", "PER", "LOC"]
    entities = []
    for _ in range(120):
        gold = [f"{r.choice(words)} ({r.choice(kinds)})" for _ in range(r.randint(1, 4))]
        pred = [r.choice([r.choice(gold), f"{r.choice(words)} ({r.choice(kinds)})", "Bank  (ORG)", "(ORG)", "Bank (ORG)(LOC)", "x ()",
                          "Bank\u00a0(ORG)", "A (b) c)", "Bank ORG", "Bank (per)"]) for _ in range(r.randint(0, 5))]
        entry = {"label": [" " + ", ".join(gold)], "pred": " " + r.choice([", ", " ", "; ", ","]).join(pred)}
        entities.append({"label": ", ".join(gold), "output": entry["pred"], "f1": compute_ner([entry])})
    sentiments, f1s, headlines = ["negative", "neutral", "positive"], [], []
    for n in (1, 5, 60, 200):
        for wrong in (0.0, 0.3, 0.9):
            gold = r.choices(sentiments, [1, 4, 2], k=n)
            pred = [r.choice(sentiments[:r.randint(1, 3)]) if r.random() < wrong else label for label in gold]
            f1s.append({"gold": gold, "pred": pred,
                        "f1": compute_metrics("weighted_F1", labels=gold, preds=pred, data=None)["weighted_F1"] / 100})
    for n in (1, 60):
        data = [{"class_id": c, "label": int(r.random() < c / 8), "pred": int(r.random() < 0.5)} for _ in range(n) for c in range(9)]
        headlines.append({"rows": [[[e["label"], e["pred"]] for e in data[i:i + 9]] for i in range(0, 9 * n, 9)],
                          "f1": compute_headline(data)})
    return {"numbers": numbers, "entities": entities, "f1": f1s, "headline": headlines}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--metamath", required=True)
    parser.add_argument("--lmops", required=True)
    args = parser.parse_args()
    r = random.Random(15)
    train, test = rows(r, 40), rows(r, 60)
    gold = [int(row["answer"].split("#### ")[1].replace(",", "")) for row in test]
    outputs = [said(r, n) for n in gold]
    cases, until = harness(train, test, outputs)
    goldens = {"gsm8k": {"train": train, "test": test, "until": until, "cases": cases},
               "metamath_gsm8k": metamath(args.metamath, "eval_gsm8k", "gsm8k_test", {"question": "query", "answer": "response"},
                                          test, [said(r, n) for n in gold])}
    problems, outputs = math_rows(r, 60)
    goldens["metamath_math"] = metamath(args.metamath, "eval_math", "test_hendrycks_math",
                                        {"problem": "instruction", "solution": "output"}, problems, outputs)
    goldens["samples"] = [{"n": n, "k": k, "drawn": random.Random(1234).sample(range(n), k)}
                          for n, k in ((5, 5), (21, 5), (22, 5), (84, 6), (86, 6), (7473, 5), (4846, 20), (100000, 64))]
    goldens |= finance(args.lmops, r)
    for key in ("metamath_gsm8k", "metamath_math"):
        print(key, sum(c["right"] for c in goldens[key]["cases"]), "right of", len(goldens[key]["cases"]))
    print("gsm8k", sum(c["strict"] for c in cases), "strict,", sum(c["flexible"] for c in cases), "flexible of", len(cases))
    print(sum(n["right"] for n in goldens["numbers"]), "numbers right of", len(goldens["numbers"]))
    (OUT / "generation.json").write_text(json.dumps(goldens, ensure_ascii=False, indent=0) + "\n")


if __name__ == "__main__":
    main()
