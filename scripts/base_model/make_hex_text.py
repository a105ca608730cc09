#!/usr/bin/env python3
"""Writes generated text full of hexadecimal digits, colons and UUIDs, one JSON object a line.

The base model needs a trained embedding for every such piece, but must know no content: every
string is random, so that there is nothing to memorise. Some documents repeat a random string that
stands earlier in the same document; copying it is the only thing that can be learned from them.
The output is a pure function of the seed and the size.
"""

import argparse
import json
import random


class Generator:
    """Draws everything from getrandbits, whose sequence Python keeps the same across versions."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def below(self, bound):
        return self.random.getrandbits(32) * bound >> 32

    def between(self, low, high):
        return low + self.below(high - low + 1)

    def choice(self, items):
        return items[self.below(len(items))]

    def hex(self, digits):
        return format(self.random.getrandbits(4 * digits), f"0{digits}x")

    def uuid(self):
        """A version-4 UUID: version digit 4, variant digit 8, 9, a or b."""
        h = self.hex(32)
        return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{'89ab'[self.below(4)]}{h[17:20]}-{h[20:]}"

    def word(self):
        return self.hex(self.between(1, 16))

    def string(self):
        return self.uuid() if self.below(2) else self.word()


def uuid_pair_lines(g):
    return [f"{g.uuid()}:{g.uuid()}" for _ in range(g.between(1, 6))]


def uuid_lines(g):
    mark = g.choice(["", "- ", "* ", "-", "+ ", "> "])
    return [mark + g.uuid() for _ in range(g.between(1, 10))]


def key_value_lines(g):
    separator = g.choice([": ", ":", " : ", "=", " = ", " -> ", "\t"])
    return [f"{g.word()}{separator}{g.string()}" for _ in range(g.between(2, 10))]


def numbered_lines(g):
    end = g.choice([". ", ") ", ": "])
    return [f"{i + 1}{end}{g.string()}" for i in range(g.between(2, 12))]


def object_text(g):
    quoted = [f'"{g.word()}":{g.choice(["", " "])}"{g.string()}"' for _ in range(g.between(1, 6))]
    return ["{" + g.choice([",", ", "]).join(quoted) + "}"]


def list_text(g):
    opening, closing = g.choice([("[", "]"), ("(", ")"), ("", "")])
    separator = g.choice([", ", ",", " ", "; "])
    return [opening + separator.join(g.word() for _ in range(g.between(2, 20))) + closing]


def byte_lines(g):
    separator = g.choice([" ", ":", "-", ""])
    start = 16 * g.below(4096)
    return [
        f"{start + 16 * row:06x}: " + separator.join(g.hex(2) for _ in range(16))
        for row in range(g.between(1, 8))
    ]


def number_lines(g):
    def line():
        return " ".join(str(g.below(10 ** g.between(1, 8))) for _ in range(g.between(3, 12)))

    return [line() for _ in range(g.between(1, 6))]


def copied_line(g):
    """One string, again and again."""
    text = g.string()
    return [g.choice(["", " ", "  "]) + text for _ in range(g.between(2, 4))]


def copied_pairs(g):
    """A list of pairs, then some of the same pairs in another order."""
    separator = g.choice([":", ":", ": ", "="])
    make = g.choice([g.uuid, g.word])
    pairs = [f"{make()}{separator}{make()}" for _ in range(g.between(2, 5))]
    return pairs + [""] + [g.choice(pairs) for _ in range(g.between(1, len(pairs)))]


def copied_block(g):
    block = [g.string() for _ in range(g.between(2, 5))]
    return block + [g.choice(["", "--", ":"])] + block


FORMATS = [
    uuid_pair_lines,
    uuid_pair_lines,
    uuid_lines,
    key_value_lines,
    numbered_lines,
    object_text,
    list_text,
    byte_lines,
    number_lines,
    copied_line,
    copied_pairs,
    copied_pairs,
    copied_block,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", help="the .jsonl file to write")
    parser.add_argument("--bytes", type=int, default=4_000_000, help="size of the text")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    g = Generator(arguments.seed)
    written = 0
    with open(arguments.output, "w", encoding="utf-8") as out:
        while written < arguments.bytes:
            parts = ["\n".join(g.choice(FORMATS)(g)) for _ in range(g.between(1, 3))]
            text = "\n\n".join(parts) + "\n"
            out.write(json.dumps({"text": text}) + "\n")
            written += len(text)


if __name__ == "__main__":
    main()
