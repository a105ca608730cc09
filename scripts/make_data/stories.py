#!/usr/bin/env python3
"""Stories of a small world, for pretraining: people walk about, carry things, give them away and look for them.

    stories.py DIR [--train 1500] [--validation 100] [--seed 1]

writes DIR/train.jsonl and DIR/validation.jsonl ({"text"}). What is said is always true in the story's world, so that a
model that follows it predicts better than one that knows the sentences alone. The same seed gives the same files.
"""
import argparse
import json
import pathlib
import random

PEOPLE = {"Ann": "she", "Ben": "he", "Clara": "she", "David": "he", "Emma": "she", "Frank": "he", "Grace": "she",
          "Henry": "he", "Jane": "she", "Tom": "he"}
PLACES = ["garden", "kitchen", "forest", "village", "market", "river", "castle", "barn", "church", "harbour"]
THINGS = ["ball", "book", "key", "lamp", "hat", "letter", "apple", "knife", "rope", "ring", "basket", "coin"]
LOOKS = ["red", "old", "small", "golden", "broken", "heavy", "green", "strange"]
WEATHER = ["The sun was shining.", "It was raining.", "There was a cold wind.", "It was a warm day.", "Snow was falling.",
           "The sky was grey."]


class World:
    def __init__(self, rng):
        self.rng = rng
        self.people = rng.sample(sorted(PEOPLE), rng.randint(2, 3))
        self.places = rng.sample(PLACES, rng.randint(3, 4))
        things = rng.sample(THINGS, rng.randint(2, 4))
        self.look = {t: rng.choice(LOOKS) for t in things}
        self.at = {p: rng.choice(self.places) for p in self.people}
        self.lies = {t: rng.choice(self.places) for t in things}  # a place or a person

    def held_by(self, person):
        return [t for t, where in self.lies.items() if where == person]

    def place_of(self, thing):
        where = self.lies[thing]
        return self.at.get(where, where)

    def named(self, thing):
        return f"{self.look[thing]} {thing}"

    def say(self, *ways):
        return self.rng.choice(ways)

    def begin(self):
        lines = [self.rng.choice(WEATHER)]
        for person in self.people:
            lines.append(self.say(f"{person} was in the {self.at[person]}.", f"In the {self.at[person]} was {person}."))
        for thing, place in self.lies.items():
            lines.append(self.say(f"The {self.named(thing)} lay in the {place}.",
                                  f"There was a {self.named(thing)} in the {place}."))
        return lines

    def walk(self, person):
        to = self.rng.choice([p for p in self.places if p != self.at[person]])
        self.at[person] = to
        he = PEOPLE[person]
        line = self.say(f"{person} went to the {to}.", f"{person} walked to the {to}.",
                        f"Then {person} left and came to the {to}.")
        others = [p for p in self.people if p != person and self.at[p] == to]
        if others:
            line += " " + self.say(f"There {he} met {others[0]}.", f"{others[0]} was there already.")
        held = self.held_by(person)
        if held and self.rng.random() < 0.4:
            line += f" {he.capitalize()} still had the {self.named(held[0])}."
        return line

    def take(self, person):
        here = [t for t, where in self.lies.items() if where == self.at[person]]
        if not here:
            return self.walk(person)
        thing = self.rng.choice(here)
        self.lies[thing] = person
        return self.say(f"{person} took the {self.named(thing)}.", f"{person} found the {self.named(thing)} and took it.",
                        f"{person} picked up the {thing}, for it was {self.look[thing]}.")

    def put_or_give(self, person):
        held = self.held_by(person)
        if not held:
            return self.take(person)
        thing = self.rng.choice(held)
        others = [p for p in self.people if p != person and self.at[p] == self.at[person]]
        if others:
            self.lies[thing] = others[0]
            return self.say(f"{person} gave the {self.named(thing)} to {others[0]}.",
                            f"\"This is for you, {others[0]},\" said {person}, and gave away the {self.named(thing)}.")
        self.lies[thing] = self.at[person]
        return self.say(f"{person} put down the {self.named(thing)} in the {self.at[person]}.",
                        f"{person} left the {self.named(thing)} there.")

    def ask(self, person):
        thing = self.rng.choice(sorted(self.lies))
        where = self.lies[thing]
        answer = f"{where} has it" if where in self.people else f"It is in the {where}"
        if where == person:
            answer = "I have it myself"
        return f"\"Where is the {self.named(thing)}?\" asked {person}. \"{answer},\" was the answer."

    def end(self):
        lines = [f"In the evening {p} was in the {self.at[p]}." for p in self.people]
        lines += [f"The {t} was in the {self.place_of(t)}." for t in self.lies]
        return self.rng.sample(lines, 2)


def story(rng):
    world = World(rng)
    lines = world.begin()
    for _ in range(rng.randint(6, 12)):
        person = rng.choice(world.people)
        lines.append(rng.choice([world.walk, world.walk, world.take, world.put_or_give, world.ask])(person))
    return " ".join(lines + world.end())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--validation", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(args.seed)
    for name, count in (("validation", args.validation), ("train", args.train)):
        with open(args.folder / f"{name}.jsonl", "w", encoding="utf-8") as file:
            for _ in range(count):
                file.write(json.dumps({"text": story(rng)}) + "\n")


if __name__ == "__main__":
    main()
