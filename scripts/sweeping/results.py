"""What the runs of a sweep left, and the report of it: report.md, results.csv and the plots.

A value is named "FILE:KEY" by a file of the run's folder: "summary:loss" is the key `loss` of summary.json, "metrics:loss"
that of every line of metrics.jsonl, by its `step`, "eval/mmlu:acc" a metric in total of an evaluation. KEY may go deeper
with slashes.
"""
import csv
import json
import statistics

from sweeping import figures, plan


class Results:
    """The files of each finished or unfinished run, read once."""

    def __init__(self, sweep, output):
        self.sweep, self.output, self.files = sweep, output, {}

    def read(self, run, name):
        if (run.name, name) not in self.files:
            self.files[run.name, name] = self._load(self.output / run.name, name)
        return self.files[run.name, name]

    @staticmethod
    def _load(folder, name):
        try:
            if name == "metrics":
                return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            content = json.loads((folder / f"{name}.json").read_text())
        except (OSError, ValueError):
            return None
        if name.startswith("eval/"):
            return {metric["name"]: metric["value"] for metric in content["metrics"] if "group" not in metric}
        return content

    def value(self, run, source):
        """A number, or None where the run has none."""
        name, _, key = source.partition(":")
        found = self.read(run, name)
        for part in key.split("/"):
            found = found.get(part) if isinstance(found, dict) else None
        return found if isinstance(found, (int, float)) else None

    def curve(self, run, source):
        """{step: number} of a file of lines."""
        name, _, key = source.partition(":")
        lines = self.read(run, name) or []
        return {line["step"]: line[key] for line in lines if isinstance(line, dict) and key in line and "step" in line}

    def groups(self, axes):
        """Runs at the same place on these axes, in the sweep's order: {labels: [run]}. An axis that a run is not on has
        no label there."""
        groups = {}
        for run in self.sweep.runs:
            groups.setdefault(tuple(run.place.get(axis, "") for axis in axes), []).append(run)
        return groups

    def labels(self, axis):
        return list(dict.fromkeys(run.place[axis] for run in self.sweep.runs if axis in run.place))


def mean_and_deviation(values, form):
    """As text: the mean, with the standard deviation (n - 1) and n where there are several."""
    if not values:
        return "-"
    mean = format(statistics.fmean(values), form)
    return mean if len(values) == 1 else f"{mean} ± {format(statistics.stdev(values), form)} ({len(values)})"


def cell_values(results, runs, source, step):
    if step is None:
        values = [results.value(run, source) for run in runs]
    else:
        values = [results.curve(run, source).get(step) for run in runs]
    return [v for v in values if v is not None]


def table_lines(results, table):
    """Markdown: rows by the labels of axes, columns by another axis, by steps, or by several values."""
    rows, form = table["rows"], table.get("format", ".4g")
    if "steps" in table:
        columns = [(f"step {s}", {}, table["value"], s) for s in table["steps"]]
    elif "values" in table:
        columns = [(label, {}, source, None) for label, source in table["values"].items()]
    else:
        axis = table["columns"]
        columns = [(f"{axis} {label}", {axis: label}, table["value"], None) for label in results.labels(axis)]
    lines = ["| " + " | ".join(rows + [c[0] for c in columns]) + " |", "|" + "---|" * (len(rows) + len(columns))]
    for labels, runs in results.groups(rows).items():
        cells = []
        for _, place, source, step in columns:
            at = [r for r in runs if all(r.place.get(axis) == label for axis, label in place.items())]
            cells.append(mean_and_deviation(cell_values(results, at, source, step), form))
        lines.append("| " + " | ".join(list(labels) + cells) + " |")
    return lines


def write_csv(results, path):
    """A line a run: its place, its settings and the numbers of its summary."""
    axes = list(dict.fromkeys(axis for run in results.sweep.runs for axis in run.place))
    summaries = {run.name: results.read(run, "summary") or {} for run in results.sweep.runs}
    keys = list(dict.fromkeys(key for summary in summaries.values() for key in summary))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["run", *axes, "seed", *keys])
        for run in results.sweep.runs:
            summary = summaries[run.name]
            writer.writerow([run.name, *(run.place.get(a, "") for a in axes), run.seed, *(summary.get(k, "") for k in keys)])


def report(sweep, output):
    """Writes the report of what there is; returns how many runs have no summary."""
    output.mkdir(parents=True, exist_ok=True)
    results = Results(sweep, output)
    missing = [run.name for run in sweep.runs if not results.read(run, "summary")]
    lines = [f"# {sweep.title}", "", f"{len(sweep.runs) - len(missing)} of {len(sweep.runs)} runs are finished."]
    if missing:
        lines += ["", f"Without a result: {', '.join(missing)}."]
    for table in sweep.tables:
        lines += ["", f"## {table['title']}", ""] + table_lines(results, table)
    for number, plot in enumerate(sweep.plots):
        name = f"{number + 1}-{plan.slug(plot['title']).lower()}.svg"
        figures.draw(results, plot, output / name)
        lines += ["", f"## {plot['title']}", "", f"![{plot['title']}]({name})"]
    (output / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_csv(results, output / "results.csv")
    print("\n".join(line for line in lines if not line.startswith("![")))
    return len(missing)
