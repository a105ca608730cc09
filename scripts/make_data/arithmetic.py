#!/usr/bin/env python3
"""Arithmetic word problems with worked answers, in the formats of MetaMathQA (training) and GSM8K (test).

    arithmetic.py DIR [--train 4000] [--test 200] [--seed 1]

writes DIR/train.jsonl ({"query", "response", "type"}) and DIR/test.jsonl ({"question", "answer"}). No problem of the test is in the training data, but each step is arithmetic that is there in other words: numbers of one
digit added, the tables of multiplication, and their inverses. The same seed gives the same files.
"""
import argparse
import json
import pathlib
import random

NAMES = ["Ann", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry", "Jane", "John", "Kate", "Mary", "Peter",
         "Rose", "Sam", "Tom"]
THINGS = ["apples", "books", "cards", "coins", "eggs", "flowers", "letters", "pears", "stones", "toys"]
PLACES = ["box", "bag", "basket", "room"]


def gain(rng):
    a, b = rng.randint(2, 9), rng.randint(2, 9)
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    verb = rng.choice(["buys", "finds", "gets"])
    question = f"{name} has {a} {thing} and {verb} {b} more. How many {thing} does {name} have now?"
    return question, [(f"{name} has", a, "+", b, thing)]


def loss(rng):
    b = rng.randint(2, 9)
    a = b + rng.randint(2, 9)
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    verb = rng.choice(["gives away", "loses", "sells"])
    question = f"{name} has {a} {thing} and {verb} {b} of them. How many {thing} are left?"
    return question, [(f"{name} has", a, "-", b, thing)]


def groups(rng):
    a, b = rng.randint(2, 9), rng.randint(2, 9)
    place, thing = rng.choice(PLACES), rng.choice(THINGS)
    plural = place + ("es" if place.endswith("x") else "s")
    question = f"There are {a} {plural} with {b} {thing} in each {place}. How many {thing} are there?"
    return question, [("There are", a, "*", b, thing)]


def share(rng):
    a, b = rng.randint(2, 9), rng.randint(2, 9)
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    question = f"{name} shares {a * b} {thing} among {a} friends. How many {thing} does each friend get?"
    return question, [("Each friend gets", a * b, "/", a, thing)]


def gain_then_loss(rng):
    a, b = rng.randint(2, 9), rng.randint(2, 9)
    c = rng.randint(max(2, a + b - 9), min(9, a + b - 2))
    (name, other), thing = rng.sample(NAMES, 2), rng.choice(THINGS)
    question = (f"{name} has {a} {thing}. {other} gives {name} {b} {thing}, and then {name} loses {c}. "
                f"How many {thing} does {name} have in the end?")
    return question, [(f"First {name} has", a, "+", b, thing), (f"Then {name} has", a + b, "-", c, thing)]


def groups_and_more(rng):
    a, b, c = rng.randint(2, 4), rng.randint(2, 4), rng.randint(2, 9)
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    question = (f"{name} fills {a} bags with {b} {thing} each and has {c} {thing} left over. "
                f"How many {thing} does {name} have in all?")
    return question, [("The bags hold", a, "*", b, thing), (f"{name} has", a * b, "+", c, thing)]


KINDS = [gain, loss, groups, share, gain_then_loss, groups_and_more]
OPERATIONS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a // b}


def steps_as_text(steps, annotated):
    """The worked answer, a step a line; annotated: with GSM8K's <<a+b=c>> in front of each result."""
    lines = []
    for begin, a, operation, b, thing in steps:
        result = OPERATIONS[operation](a, b)
        note = f"<<{a}{operation}{b}={result}>>" if annotated else ""
        lines.append(f"{begin} {a} {operation} {b} = {note}{result} {thing}.")
    return "\n".join(lines), result


def problems(rng):
    """Without end, none of them twice."""
    seen = set()
    while True:
        kind = rng.choice(KINDS)
        question, steps = kind(rng)
        if question not in seen:
            seen.add(question)
            yield kind.__name__, question, steps


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--train", type=int, default=4000)
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    source = problems(random.Random(args.seed))
    with open(args.folder / "test.jsonl", "w", encoding="utf-8") as file:
        for _ in range(args.test):
            _, question, steps = next(source)
            text, result = steps_as_text(steps, annotated=True)
            file.write(json.dumps({"question": question, "answer": f"{text}\n#### {result}"}) + "\n")
    with open(args.folder / "train.jsonl", "w", encoding="utf-8") as file:
        for _ in range(args.train):
            kind, question, steps = next(source)
            text, result = steps_as_text(steps, annotated=False)
            row = {"query": question, "response": f"{text}\n#### {result}\nThe answer is: {result}", "type": kind}
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
