"""Small plots as SVG text; their colours are the page's CSS classes, so they follow its theme."""

from collections.abc import Sequence
from math import ceil, floor, log10

from markupsafe import Markup, escape

_BAR, _HEIGHT = 120, 10
_WIDTH, _PLOT_HEIGHT, _FLOOR = 520, 150, 126
_SQUARE = 240
_NAMES, _LETTERS, _LINE = 200, 26, 22  # of names beside a plot: width, length; height of a row


def interval_bar(value: float, low: float, high: float, chance: float | None = None) -> Markup:
    """A track from 0 to 1 with the interval as a band, the value as a dot, chance as a tick."""
    middle = _HEIGHT / 2
    tick = ""
    if chance is not None:
        x = f"{_x(chance):.1f}"
        tick = f'<line class="tick" x1="{x}" x2="{x}" y1="0" y2="{_HEIGHT}"/>'
    return Markup(
        f'<svg class="bar" viewBox="-5 0 {_BAR + 10} {_HEIGHT}" aria-hidden="true">'
        f'<line class="track" x1="0" x2="{_BAR}" y1="{middle}" y2="{middle}"/>{tick}'
        f'<line class="band" x1="{_x(low):.1f}" x2="{_x(high):.1f}" y1="{middle}" y2="{middle}"/>'
        f'<circle class="dot" cx="{_x(value):.1f}" cy="{middle}" r="3.6"/></svg>'
    )


def histogram(counts: Sequence[int], threshold: float) -> Markup:
    """Counts of values 0 to 1 in equal bins; those from `threshold` on stand out."""
    bins = len(counts)
    top = max(1, *counts)
    step = _WIDTH / bins
    bars = []
    for n, count in enumerate(counts):
        height = (_FLOOR - 16) * count / top
        kind = "good" if n / bins >= threshold else "bad"
        bars.append(
            f'<rect class="{kind}" x="{n * step + 1:.1f}" y="{_FLOOR - height:.1f}" '
            f'width="{step - 2:.1f}" height="{height:.1f}" rx="2">'
            f"<title>{n / bins:.2f} to {(n + 1) / bins:.2f}: {count}</title></rect>"
        )
        if count == top:
            bars.append(
                f'<text x="{(n + 0.5) * step:.1f}" y="{_FLOOR - height - 4:.1f}">{count}</text>'
            )
    labels = [
        f'<text x="{_WIDTH * at:.1f}" y="{_PLOT_HEIGHT - 8}">{at:g}</text>'
        for at in (0, 0.25, 0.5, 0.75, 1)
    ]
    return Markup(
        f'<svg class="plot" viewBox="-8 0 {_WIDTH + 16} {_PLOT_HEIGHT}" role="img">'
        f'<line class="axis" x1="0" x2="{_WIDTH}" y1="{_FLOOR}" y2="{_FLOOR}"/>'
        f"{''.join(bars)}{''.join(labels)}</svg>"
    )


def reliability_plot(bins: Sequence[tuple[int, float, float] | None]) -> Markup:
    """Accuracy over confidence, both from 0 to 1; what is well calibrated lies on the diagonal.

    Args:
        bins: number of answers, their mean confidence and the share that is right; None: no answer.
    """
    most = max((one[0] for one in bins if one), default=1)
    parts = [f'<line class="diagonal" x1="0" x2="{_SQUARE}" y1="{_SQUARE}" y2="0"/>']
    for at in (0, 0.25, 0.5, 0.75, 1):
        x, y = _SQUARE * at, _SQUARE * (1 - at)
        parts.append(f'<line class="grid" x1="0" x2="{_SQUARE}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{x:.1f}" y="{_SQUARE + 16}">{at:g}</text>')
        parts.append(f'<text class="side" x="-8" y="{y + 4:.1f}">{at:g}</text>')
    for n, confidence, accuracy in filter(None, bins):
        x, y = _SQUARE * confidence, _SQUARE * (1 - accuracy)
        parts.append(
            f'<line class="gap" x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{_SQUARE - x:.1f}"/>'
            f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{3 + 6 * (n / most) ** 0.5:.1f}">'
            f"<title>{n} answers, {confidence:.2f} sure, {accuracy:.2f} right</title></circle>"
        )
    parts.append(f'<text x="{_SQUARE / 2}" y="{_SQUARE + 34}">confidence</text>')
    return Markup(
        f'<svg class="plot square" viewBox="-34 -12 {_SQUARE + 48} {_SQUARE + 52}" role="img">'
        f"{''.join(parts)}</svg>"
    )


def forest(rows: Sequence[tuple[str, float, float | None, float | None]]) -> Markup:
    """A line for each row with its interval, on one axis that shows what lies between them.

    Args:
        rows: name, value, and the ends of its interval, as fractions; shown as percent.
    """
    ends = [100 * number for row in rows for number in row[1:] if number is not None]
    step = _step(max(ends) - min(ends))
    start, end = floor(min(ends) / step) * step, ceil(max(ends) / step) * step
    if start == end:
        start, end = start - step, end + step

    def x(value: float) -> float:
        return _NAMES + (_WIDTH - _NAMES) * (100 * value - start) / (end - start)

    floor_y = _LINE * len(rows) + 6
    parts = []
    for n in range(round((end - start) / step) + 1):
        at = x((start + n * step) / 100)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{floor_y}"/>')
        parts.append(f'<text x="{at:.1f}" y="{floor_y + 14}">{start + n * step:g}</text>')
    for n, (name, value, low, high) in enumerate(rows):
        y = _LINE * (n + 0.5) + 3
        words = f"{_label(name)}<title>{escape(name)}</title>"
        parts.append(f'<text class="name" x="0" y="{y + 4}">{words}</text>')
        if low is not None and high is not None:
            band = f'x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y}" y2="{y}"'
            parts.append(f'<line class="band" {band}/>')
        parts.append(f'<circle class="dot" cx="{x(value):.1f}" cy="{y}" r="4"/>')
    height = floor_y + 20
    return Markup(
        f'<svg class="plot forest" viewBox="-2 0 {_WIDTH + 22} {height}" role="img">'
        f"{''.join(parts)}</svg>"
    )


def _step(span: float) -> float:
    """The distance of ticks that makes about five of them: 1, 2 or 5 times a power of ten."""
    rough = max(span, 0.1) / 4
    power = 10.0 ** floor(log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)


def _label(name: str) -> Markup:
    """A name that fits beside the plot; its end says more than its beginning, which is a path."""
    return escape(name if len(name) <= _LETTERS else f"…{name[1 - _LETTERS :]}")


def _x(value: float) -> float:
    return _BAR * min(1.0, max(0.0, value))
