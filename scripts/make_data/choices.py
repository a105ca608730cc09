#!/usr/bin/env python3
"""Instructions and multiple-choice questions about everyday words and small numbers.

    choices.py DIR [--train 6000] [--test 60] [--seed 1]

writes DIR/instructions.jsonl, conversations in the format of Tulu v2 ({"messages": [{"role", "content"}]}), half of them
multiple choice; and DIR/mmlu, questions in the folders of MMLU: dev/S_dev.csv (5 rows), val/S_val.csv (10) and
test/S_test.csv (--test rows) for each subject S, with the columns question, four options and the answer's letter.
No question of DIR/mmlu is in the training data. The same seed gives the same files.
"""
import argparse
import csv
import itertools
import json
import pathlib
import random

CATEGORIES = {
    "an animal": ["dog", "cat", "horse", "cow", "sheep", "lion", "bear", "fox", "wolf", "mouse", "bird", "fish"],
    "a colour": ["red", "blue", "green", "white", "black", "yellow", "brown", "grey", "purple", "pink"],
    "a part of the body": ["hand", "foot", "head", "eye", "ear", "nose", "mouth", "arm", "leg", "neck"],
    "a piece of clothing": ["coat", "hat", "shoe", "dress", "glove", "shirt", "cloak", "boot", "belt", "scarf"],
    "a thing to eat": ["bread", "cheese", "apple", "meat", "cake", "egg", "butter", "pear", "soup", "rice"],
    "a person of the family": ["mother", "father", "sister", "brother", "uncle", "aunt", "son", "daughter", "cousin"],
}
OPPOSITES = [("hot", "cold"), ("big", "small"), ("old", "young"), ("long", "short"), ("high", "low"), ("good", "bad"),
             ("rich", "poor"), ("day", "night"), ("open", "shut"), ("first", "last"), ("light", "dark"),
             ("strong", "weak"), ("quick", "slow"), ("happy", "sad"), ("early", "late"), ("full", "empty")]
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
LETTERS = "ABCD"


def word_of_category(rng):
    kind = rng.choice(sorted(CATEGORIES))
    right = rng.choice(CATEGORIES[kind])
    wrong = [rng.choice(CATEGORIES[k]) for k in rng.sample(sorted(set(CATEGORIES) - {kind}), 3)]
    return f"Which of these is {kind}?", right, wrong


def opposite(rng):
    pair = rng.choice(OPPOSITES)
    word, right = rng.sample(pair, 2)
    others = [w for p in OPPOSITES if p != pair for w in p]
    return f"What is the opposite of {word}?", right, rng.sample(others, 3)


def sum_of_two(rng):
    a, b = rng.randint(1, 9), rng.randint(1, 9)
    wrong = rng.sample([n for n in range(2, 19) if n != a + b], 3)
    return f"What is {a} + {b}?", str(a + b), [str(n) for n in wrong]


def next_number(rng):
    at = rng.randrange(len(NUMBERS) - 1)
    wrong = rng.sample([n for i, n in enumerate(NUMBERS) if i not in (at, at + 1)], 3)
    return f"Which number comes after {NUMBERS[at]}?", NUMBERS[at + 1], wrong


# As MMLU's: the file's name and what the question is about.
SUBJECTS = {"everyday_words": word_of_category, "opposite_words": opposite, "elementary_sums": sum_of_two,
            "counting": next_number}


def multiple_choice(rng, make):
    question, right, wrong = make(rng)
    options = wrong + [right]
    rng.shuffle(options)
    return question, options, LETTERS[options.index(right)]


def as_prompt(question, options):
    lines = [question] + [f"{letter}. {option}" for letter, option in zip(LETTERS, options)]
    return "\n".join(lines) + "\nAnswer:"


def plain_instruction(rng):
    """An instruction and its answer, without options."""
    task = rng.randrange(4)
    kind = rng.choice(sorted(CATEGORIES))
    if task == 0:
        words = rng.sample(CATEGORIES[kind], 3)
        return f"Write these words in the order of the alphabet: {', '.join(words)}.", ", ".join(sorted(words))
    if task == 1:
        word = rng.choice(CATEGORIES[kind])
        return f"What kind of thing is \"{word}\"?", f"It is {kind}."
    if task == 2:
        word, other = rng.sample(rng.choice(OPPOSITES), 2)
        return f"Give the opposite of \"{word}\".", other
    return f"Name {kind}.", rng.choice(CATEGORIES[kind])


def conversation(rng, exclude):
    """Multiple choice in one half; a second turn in a quarter of the others."""
    if rng.random() < 0.5:
        while True:
            question, options, letter = multiple_choice(rng, rng.choice(list(SUBJECTS.values())))
            if as_prompt(question, options) not in exclude:
                break
        turns = [(as_prompt(question, options), letter)]
    else:
        turns = [plain_instruction(rng) for _ in range(2 if rng.random() < 0.25 else 1)]
    messages = []
    for question, answer in turns:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages}


def write_subject(folder, subject, rows):
    sizes = {"dev": 5, "val": 10, "test": None}
    rows = iter(rows)
    for split, size in sizes.items():
        (folder / split).mkdir(parents=True, exist_ok=True)
        with open(folder / split / f"{subject}_{split}.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(itertools.islice(rows, size))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--train", type=int, default=6000)
    parser.add_argument("--test", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    used = set()
    for subject, make in SUBJECTS.items():
        rows = []
        while len(rows) < 15 + args.test:
            question, options, letter = multiple_choice(rng, make)
            if as_prompt(question, options) not in used:
                used.add(as_prompt(question, options))
                rows.append([question, *options, letter])
        write_subject(args.folder / "mmlu", subject, rows)
    with open(args.folder / "instructions.jsonl", "w", encoding="utf-8") as file:
        for _ in range(args.train):
            file.write(json.dumps(conversation(rng, used)) + "\n")


if __name__ == "__main__":
    main()
