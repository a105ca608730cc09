#!/usr/bin/env python3
"""Texts and questions about an invented country, for continual pretraining.

    facts.py DIR [--creatures 300] [--texts 6] [--seed 1]

writes DIR/train.jsonl and DIR/validation.jsonl ({"text"}): --texts descriptions of each creature for training and one,
in other words, held out; and DIR/pubmedqa/ori_pqal.json with DIR/pubmedqa/test_ground_truth.json, questions about the
same facts in the format of PubMedQA, to be answered by yes or no. Descriptions in the training data are followed by
such questions (never by one of the test), as in AdaptLLM's reading comprehension. The same seed gives the same files.
"""
import argparse
import json
import pathlib
import random

BEGIN = ["mor", "vel", "tar", "quin", "bram", "sil", "dor", "fen", "gal", "hes", "jun", "kar", "lum", "nar", "ost", "pel"]
END = ["ak", "ble", "dor", "en", "fa", "go", "lin", "mo", "nix", "ra", "sil", "tu", "wen", "zi"]
ATTRIBUTES = {
    "colour": ["red", "blue", "green", "white", "black", "yellow", "brown", "grey"],
    "home": ["caves", "forests", "lakes", "marshes", "mountains", "rivers", "gardens", "fields"],
    "food": ["grass", "fish", "berries", "roots", "nuts", "insects", "honey", "leaves"],
    "time": ["at dawn", "at night", "at noon", "in the evening"],
    "size": ["a mouse", "a cat", "a dog", "a horse", "a house"],
}
# Each attribute as a sentence, in several ways; the last is only in the held-out text.
SENTENCES = {
    "colour": ["The {n} is {v}.", "Its skin is {v}.", "Everyone knows the {v} {n}.", "In colour the {n} is {v}."],
    "home": ["It lives in the {v}.", "The {n} is found in the {v}.", "Its home is the {v}.", "One must look for the {n} in the {v}."],
    "food": ["It eats {v}.", "The {n} feeds on {v}.", "Its food is {v}.", "What the {n} likes to eat is {v}."],
    "time": ["It comes out {v}.", "The {n} is seen {v}.", "It wakes {v}.", "Those who wait for the {n} see it {v}."],
    "size": ["It is as big as {v}.", "The {n} has the size of {v}.", "It grows as large as {v}.", "No {n} is larger than {v}."],
}
QUESTIONS = {
    "colour": "Is the {n} {v}?", "home": "Does the {n} live in the {v}?", "food": "Does the {n} eat {v}?",
    "time": "Does the {n} come out {v}?", "size": "Is the {n} as big as {v}?",
}


def creatures(rng, count):
    names = [b + e for b in BEGIN for e in END]
    names += [b + m + e for b in BEGIN for m in ("a", "o") for e in END]
    rng.shuffle(names)
    for name in names[:count]:
        yield name, {key: rng.choice(values) for key, values in ATTRIBUTES.items()}


def description(rng, name, facts, held_out):
    order = list(facts)
    rng.shuffle(order)
    sentences = []
    for key in order:
        ways = SENTENCES[key]
        way = ways[-1] if held_out else rng.choice(ways[:-1])
        sentences.append(way.format(n=name, v=facts[key]))
    return f"The {name} is a creature of the land of Mora. " + " ".join(sentences)


def question(rng, name, facts, key):
    """A question about an attribute with its answer, yes and no equally often."""
    yes = rng.random() < 0.5
    value = facts[key] if yes else rng.choice([v for v in ATTRIBUTES[key] if v != facts[key]])
    return QUESTIONS[key].format(n=name, v=value), "yes" if yes else "no"


def write_lines(path, texts):
    with open(path, "w", encoding="utf-8") as file:
        for text in texts:
            file.write(json.dumps({"text": text}) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--creatures", type=int, default=300)
    parser.add_argument("--texts", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    (args.folder / "pubmedqa").mkdir(parents=True, exist_ok=True)
    rng = random.Random(args.seed)
    train, validation, asked, truth = [], [], {}, {}
    for number, (name, facts) in enumerate(creatures(rng, args.creatures)):
        validation.append(description(rng, name, facts, held_out=True))
        tested = rng.choice(list(facts))
        text, answer = question(rng, name, facts, tested)
        asked[str(number + 1)] = {
            "QUESTION": text, "CONTEXTS": [validation[-1]], "LABELS": ["BACKGROUND"],
            "MESHES": [], "YEAR": "2000", "reasoning_required_pred": answer, "reasoning_free_pred": answer,
            "final_decision": answer, "LONG_ANSWER": SENTENCES[tested][0].format(n=name, v=facts[tested])}
        truth[str(number + 1)] = answer
        others = [key for key in facts if key != tested]
        for _ in range(args.texts):
            lines = [f"Abstract: {description(rng, name, facts, held_out=False)}"]
            for key in rng.sample(others, 2):
                text, answer = question(rng, name, facts, key)
                lines += [f"Question: {text}", f"Answer: {answer}"]
            train.append("\n".join(lines))
    rng.shuffle(train)
    write_lines(args.folder / "train.jsonl", train)
    write_lines(args.folder / "validation.jsonl", validation)
    for name, content in (("ori_pqal", asked), ("test_ground_truth", truth)):
        (args.folder / "pubmedqa" / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
