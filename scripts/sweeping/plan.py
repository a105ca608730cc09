"""What a sweep file means: its runs, each with a name, its place on every axis, and its command's settings."""
import dataclasses
import itertools
import json
import pathlib
import re


class PlanError(Exception):
    """A sweep file that cannot be used: one line that says where and why."""


@dataclasses.dataclass(frozen=True)
class Run:
    name: str        # of its folder: the labels and the seed
    place: dict      # axis -> label
    seed: int
    settings: tuple  # of (key, value), in the order in which they are given to mora-train


@dataclasses.dataclass(frozen=True)
class Sweep:
    title: str
    config: pathlib.Path
    runs: list
    after: list   # commands of each finished run, each a list of words
    tables: list
    plots: list


KEYS = {"title": str, "config": str, "settings": dict, "grids": list, "seeds": list, "after": list, "tables": list,
        "plots": list}


def checked(condition, file, where, message):
    if not condition:
        raise PlanError(f"{file}: {where}: {message}")


def slug(text):
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", text).strip("_")


def points_of(axis, file, where):
    """The points of an axis: (name, label, settings). Lists of one axis go side by side; null sets nothing."""
    checked(isinstance(axis, dict) and isinstance(axis.get("name"), str), file, where,
            'expected {"name": ..., "set": {...}}')
    extra = set(axis) - {"name", "set", "labels"}
    checked(not extra, file, where, f"unknown key \"{', '.join(sorted(extra))}\"; known are name, set, labels")
    values = axis.get("set")
    checked(isinstance(values, dict) and values and all(isinstance(v, list) and v for v in values.values()), file,
            f"{where}/set", "expected lists of values by the configuration's keys")
    lengths = {key: len(v) for key, v in values.items()}
    checked(len(set(lengths.values())) == 1, file, f"{where}/set", f"lists of one axis must be equally long, but are {lengths}")
    count = next(iter(lengths.values()))
    labels = axis.get("labels", [str(v) for v in next(iter(values.values()))])
    checked(len(labels) == count and len(set(map(str, labels))) == count, file, f"{where}/labels",
            f"expected {count} different labels")
    return [(axis["name"], str(labels[i]), tuple((key, v[i]) for key, v in values.items() if v[i] is not None))
            for i in range(count)]


def runs_of(content, file):
    common = tuple(content.get("settings", {}).items())
    runs = {}
    for g, grid in enumerate(content["grids"]):
        checked(isinstance(grid, list), file, f"/grids/{g}", "expected a list of axes")
        axes = [points_of(axis, file, f"/grids/{g}/{a}") for a, axis in enumerate(grid)]
        for combination in itertools.product(*axes):
            place = {name: label for name, label, _ in combination}
            settings = common + tuple(itertools.chain.from_iterable(s for _, _, s in combination))
            for seed in content.get("seeds", [42]):
                name = "-".join([slug(label) for label in place.values()] + [f"seed{seed}"])
                checked(name not in runs, file, f"/grids/{g}", f"there are two runs {name}")
                runs[name] = Run(name, place, seed, settings + (("seed", seed),))
    return list(runs.values())


def read(file):
    """The sweep of a file; PlanError says what is wrong with it."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise PlanError(f"{file}: not JSON: {error}") from error
    checked(isinstance(content, dict), file, "/", "expected an object")
    for key, value in content.items():
        checked(key in KEYS, file, f"/{key}", f"unknown key; known are {', '.join(KEYS)}")
        checked(isinstance(value, KEYS[key]), file, f"/{key}", f"expected {KEYS[key].__name__}")
    for key in ("title", "config", "grids"):
        checked(key in content, file, f"/{key}", "is missing")
    config = (file.parent / content["config"]).resolve()
    checked(config.is_file(), file, "/config", f"{config} does not exist")
    return Sweep(content["title"], config, runs_of(content, file), content.get("after", []), content.get("tables", []),
                 content.get("plots", []))
