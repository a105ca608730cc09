#!/usr/bin/env python3
"""Makes answers.json: what the references extract from completions, and which answers they call equal.

Command (the file goes to the folder this script lies in):

    python3 make_answer_goldens.py --metamath PATH --harness PATH

PATHs are clones of github.com/meta-math/MetaMath (eval_gsm8k.py, eval_math.py, util.py) and of
github.com/EleutherAI/lm-evaluation-harness (at 4e7e0d47;
lm_eval/tasks/hendrycks_math/utils.py). Their functions are taken out of the sources and called; the two regular
expressions are those of its lm_eval/tasks/gsm8k/gsm8k.yaml.
Completions are made from a fixed seed. Python 3.11.7.
"""

import argparse
import ast
import json
import random
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

OUT = Path(__file__).resolve().parent
NUMBERS = ["5", "-3", "+7", "1,234", "1,234,567", "3.5", "2.5", "0.5", ".75", "-.5", "7/2", "-9/4", "8/0", "/5", "1/3",
           "12.", "$18", "$1,000.50", "-$4", "50%", "007", "1e3", "2.50", "10000000000", "0", "-0", "9" * 320, "3,4", "..5",
           "1.2.3", "a7", "x = 3", "-", ",", "$", "5 apples", "five", "1 / 2", "6:30", "4,000,", "#### 9"]
LATEX = [r"\frac{1}{2}", r"\frac12", r"\frac1{72}", r"\frac{3}4", r"\dfrac{a}{b}", r"\tfrac{x+1}{2}", "1/2", "3/4", "-1/2",
         "x/2", "1/2/3", "0.5", ".5", "{.5}", " .5", r"\sqrt3", r"\sqrt{3}", r"2\sqrt 5", r"\sqrtab", r"90^\circ",
         r"45^{\circ}", r"10\%", r"\$5", r"5\text{ cm}", r"5\text{ cm}\text{ x}", r"\text{red}", r"\left(1,2\right)",
         "(1, 2)", r"(1,\!2)", "x = 3", "k=7", "xyz=7", "y==2", "12,000", r"12{,}000", r"\pi", r"3\pi", "05/3", "+5/3",
         "1_0/3", "5 / 3", r"\frac", r"\sqrt", r"\frac1", r"\frac{1}", r"\fracé2", r"\sqrté", "", " ", ".", "=", "a=", "=a",
         r"\\frac{1}{2}", r"x \in [1,2]", "[1,2]", r"\begin{pmatrix}1\\2\end{pmatrix}", "1\n2", "-0/1", "00/1", "1/00",
         "3.0", "3", r"\infty", "é=3", r"\text{ }", "2/ 3", "\t4/5", r"\frac\pi2", r"\boxed{5}"]


def functions(repo, path, scope):
    source = subprocess.run(["git", "-C", repo, "show", f"HEAD:{path}"], capture_output=True, text=True,
                            check=True).stdout
    keep = [n for n in ast.parse(source).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    for node in keep:
        node.decorator_list = []
    exec(compile(ast.Module(keep, []), path, "exec"), scope)
    return scope


def completions(r):
    """Texts that end in an answer, or in something like one."""
    tails = []
    for value in NUMBERS + LATEX:
        tails += [f"The answer is: {value}", f"\n#### {value}\nThe answer is: {value}.", f"#### {value}"]
    texts = list(tails)
    for _ in range(200):
        value, other = r.choice(NUMBERS + LATEX), r.choice(NUMBERS + LATEX)
        texts.append("".join(r.choice([
            f"So we have {other} and {value}. ", f"The answer is: {value}.\nThat is {other}. ", f"The answer is: {value} ",
            f"the answer is {value} ", f"#### {value} ", f"\n#### {other}\n", f"${value}$ or {other}$ ",
            f"The answer is: \\boxed{{{value}}}. ", "Step by step: ", "7 - 2 = 5, ", "cost $3.50. "])
            for _ in range(r.randint(1, 5))))
    return texts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--metamath", required=True)
    parser.add_argument("--harness", required=True)
    args = parser.parse_args()
    gsm8k = functions(args.metamath, "eval_gsm8k.py", {"re": re, "Fraction": Fraction, "MAX_INT": sys.maxsize})
    math = functions(args.metamath, "util.py", {})
    hendrycks = functions(args.harness, "lm_eval/tasks/hendrycks_math/utils.py", {"datasets": argparse.Namespace(Dataset=0), "Dict": dict,
                                                                                  "List": list})
    r = random.Random(8)
    extracted = []
    strict, flexible = re.compile(r"#### (\-?[0-9\.\,]+)"), re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
    seen = {}
    util = argparse.Namespace(is_equiv=lambda a, b: seen.update(answer=a) or False)
    process = functions(args.metamath, "eval_math.py", {"util": util, "invalid_outputs": [], "MAX_INT": sys.maxsize})
    for text in completions(r):
        try:
            number = gsm8k["extract_answer_number"](text)
        except (OverflowError, ZeroDivisionError):
            number = None
        seen.clear()
        process["process_results"]("", text, "")
        found = [strict.findall(text), [next(m for m in t if m) for t in flexible.findall(text)]]
        extracted.append({"text": text, "number": None if number is None else str(float(number)),
                          "answer": seen.get("answer"), "strict": found[0][0].strip() if found[0] else "[invalid]",
                          "flexible": found[1][-1].strip() if found[1] else "[invalid]"})
    equal = []
    for a in LATEX:
        for b in LATEX:
            if hendrycks["is_equiv"](a, b) != math["is_equiv"](a, b):
                raise SystemExit("the two references differ")
            if a < b and hendrycks["is_equiv"](a, b):
                equal.append([a, b])
    normal = []
    for a in LATEX:
        try:
            normal.append(hendrycks["strip_string"](a))
        except Exception:
            normal.append(None)
    text = json.dumps({"completions": extracted, "answers": LATEX, "normal": normal, "equal": equal}, ensure_ascii=False,
                      indent=0)
    (OUT / "answers.json").write_text(text + "\n")
    print(len(extracted), "completions,", len(LATEX), "answers,", len(equal), "equal pairs")


if __name__ == "__main__":
    main()
