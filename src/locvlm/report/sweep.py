"""The results of a sweep side by side: as rows, CSV, Markdown and a plot."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from locvlm.report.sheet import markdown_cell, markdown_table
from locvlm.report.tables import percent

Metric = Mapping[str, Any]
# A validation loss counts other tokens under another coordinate scheme.
NOTE = "Losses compare only between runs that write the same tokens: one coordinate scheme."
_ROW, _PANEL, _PER_LINE = 0.32, 2.9, 4  # inches, inches, panels


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a sweep.

    Args:
        folder: its name.
        overrides: what the command line set for this run, by key.
        losses: last logged values, such as `val/loss`.
        metrics: of its evaluation's results file; empty where it was not evaluated.
    """

    folder: str
    overrides: Mapping[str, str]
    losses: Mapping[str, float] = field(default_factory=dict)
    metrics: Sequence[Metric] = ()

    @property
    def headlines(self) -> list[Metric]:
        """The few metrics that sum up its evaluation."""
        return [metric for metric in self.metrics if metric["headline"]]


def varied(runs: Sequence[Run]) -> list[str]:
    """The keys in which runs differ; all keys where they do not differ at all."""
    keys = _union(run.overrides for run in runs)
    return [key for key in keys if len({run.overrides.get(key) for run in runs}) > 1] or keys


def rows(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Column titles and rows of text: what was varied, losses, headlines in percent."""
    keys, losses = varied(runs), _union(run.losses for run in runs)
    headlines = _union([metric["headline"] for metric in run.headlines] for run in runs)
    table = []
    for run in runs:
        found = {metric["headline"]: metric["value"] for metric in run.headlines}
        table.append(
            [
                *(run.overrides.get(key, "") for key in keys),
                *(f"{run.losses[name]:.4f}" if name in run.losses else "" for name in losses),
                *(percent(found[name]) if name in found else "" for name in headlines),
            ]
        )
    return [*keys, *losses, *(f"{name}, %" for name in headlines)], table


def markdown(title: str, runs: Sequence[Run]) -> str:
    """The table of `rows` in Markdown."""
    titles, body = rows(runs)
    table = markdown_table(titles, body, n_left=len(varied(runs)))
    return "\n".join([f"# {markdown_cell(title)}", "", table, "", NOTE, ""])


def csv_text(runs: Sequence[Run]) -> str:
    """All that is known of each run, for programs: fractions instead of percent."""
    keys, losses = _union(run.overrides for run in runs), _union(run.losses for run in runs)
    metrics = _union([metric["key"] for metric in run.metrics] for run in runs)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["folder", *keys, *losses, *metrics])
    for run in runs:
        values = {metric["key"]: metric["value"] for metric in run.metrics}
        writer.writerow(
            [
                run.folder,
                *(run.overrides.get(key, "") for key in keys),
                *(run.losses.get(name, "") for name in losses),
                *("" if values.get(key) is None else values[key] for key in metrics),
            ]
        )
    return out.getvalue()


def plot(runs: Sequence[Run]) -> bytes:
    """A PNG with one panel per number: a dot for each run, with its interval where there is one.

    Runs that share the value of the first varied key share a colour.
    """
    from matplotlib.figure import Figure

    panels = _panels(runs)
    names = [", ".join(run.overrides.get(key, "") for key in varied(runs)) for run in runs]
    groups = [run.overrides.get(key, "") for run in runs for key in varied(runs)[:1]]
    palette = {group: f"C{n}" for n, group in enumerate(dict.fromkeys(groups))}
    colors = [palette[group] for group in groups] or ["C0"] * len(runs)
    across = min(_PER_LINE, max(1, len(panels)))
    lines = max(1, -(-len(panels) // across))
    size = (1.6 + _PANEL * across, lines * (1.0 + _ROW * len(runs)))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(lines, across, squeeze=False, sharey=True).flat
    for axis, (title, values) in zip(axes, panels.items(), strict=False):
        for row, (value, color) in enumerate(zip(values, colors, strict=True)):
            if value is not None:
                middle, low, high = value
                axis.plot([low, high], [row, row], color=color, linewidth=2, alpha=0.5)
                axis.plot(middle, row, "o", color=color, markersize=6)
        axis.set_title(title, fontsize=10)
        axis.grid(axis="x", alpha=0.3)
        if title.endswith("%"):
            axis.set_xlim(-3, 103)
        axis.set_yticks(range(len(runs)), names)
        axis.set_ylim(len(runs) - 0.5, -0.5)
    for axis in list(figure.axes)[len(panels) :]:
        axis.set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


Interval = tuple[float, float, float]


def _panels(runs: Sequence[Run]) -> dict[str, list[Interval | None]]:
    """Value, low and high of each run, by the title of the panel."""
    panels: dict[str, list[Interval | None]] = {}
    for name in _union([metric["headline"] for metric in run.headlines] for run in runs):
        found = [{m["headline"]: m for m in run.headlines}.get(name) for run in runs]
        panels[f"{name}, %"] = [_percents(metric) for metric in found]
    for name in _union(run.losses for run in runs):
        panels[name] = [(run.losses[name],) * 3 if name in run.losses else None for run in runs]
    return panels


def _percents(metric: Metric | None) -> Interval | None:
    if metric is None or metric["value"] is None:
        return None
    middle = metric["value"]
    low = middle if metric["low"] is None else metric["low"]
    high = middle if metric["high"] is None else metric["high"]
    return 100 * middle, 100 * low, 100 * high


def _union(groups: Any) -> list[str]:
    """All names once, in the order in which they first come."""
    return list(dict.fromkeys(name for group in groups for name in group))
