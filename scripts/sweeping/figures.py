"""Plots of a sweep: curves over steps, a result over an axis, bars by type of module. Means over seeds; the bands and
whiskers are standard deviations."""
import statistics


def name_of(labels):
    return " ".join(label for label in labels if label)


def spread(values):
    return statistics.stdev(values) if len(values) > 1 else 0.0


def draw_curves(results, plot, axes):
    """y over steps, a line for each group of runs."""
    for labels, runs in results.groups(plot["series"]).items():
        curves = [c for c in (results.curve(run, plot["y"]) for run in runs) if c]
        steps = sorted(set.intersection(*(set(c) for c in curves))) if curves else []
        if not steps:
            continue
        means = [statistics.fmean(c[s] for c in curves) for s in steps]
        deviations = [spread([c[s] for c in curves]) for s in steps]
        line, = axes.plot(steps, means, label=name_of(labels))
        axes.fill_between(steps, [m - d for m, d in zip(means, deviations)], [m + d for m, d in zip(means, deviations)],
                          color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set_xlabel("step")


def draw_over_axis(results, plot, axes):
    """y over the labels of an axis, a line for each group of runs."""
    places = results.labels(plot["x"])
    for labels, runs in results.groups(plot["series"]).items():
        at, means, deviations = [], [], []
        for index, place in enumerate(places):
            values = [results.value(run, plot["y"]) for run in runs if run.place.get(plot["x"]) == place]
            values = [v for v in values if v is not None]
            if values:
                at.append(index)
                means.append(statistics.fmean(values))
                deviations.append(spread(values))
        if at:
            axes.errorbar(at, means, yerr=deviations, marker="o", capsize=3, label=name_of(labels))
    axes.set_xticks(range(len(places)), places)
    axes.set_xlabel(plot["x"])


def draw_bars(results, plot, axes):
    """A list of objects in each run's file: one bar for each of them, by its key `by`, side by side for the groups."""
    name, _, path = plot["y"].partition(":")
    within, _, key = path.partition("/")
    groups = results.groups(plot["series"])
    bars = {}
    for labels, runs in groups.items():
        for run in runs:
            for item in (results.read(run, name) or {}).get(within, []):
                bars.setdefault(labels, {}).setdefault(item[plot["by"]], []).append(item[key])
    kinds = list(dict.fromkeys(kind for group in bars.values() for kind in group))
    width = 0.8 / max(1, len(bars))
    for index, (labels, group) in enumerate(bars.items()):
        at = [i + width * (index - (len(bars) - 1) / 2) for i in range(len(kinds))]
        values = [group.get(kind, [0]) for kind in kinds]
        axes.bar(at, [statistics.fmean(v) for v in values], width, yerr=[spread(v) for v in values], label=name_of(labels))
    axes.set_xticks(range(len(kinds)), kinds, rotation=30)


KINDS = {"curves": draw_curves, "axis": draw_over_axis, "bars": draw_bars}


def draw(results, plot, path):
    import matplotlib  # here, so that sweeps without plots need no plotting library
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "mora"  # the same picture from the same results
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    KINDS[plot["kind"]](results, plot, axes)
    axes.set_title(plot["title"])
    axes.set_ylabel(plot.get("label", plot["y"].partition(":")[2]))
    if plot.get("log"):
        axes.set_yscale("log")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
