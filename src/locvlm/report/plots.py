"""Small plots as SVG text; their colours are the page's CSS classes, so they follow its theme."""

from collections.abc import Sequence

from markupsafe import Markup

_BAR, _HEIGHT = 120, 10
_WIDTH, _PLOT_HEIGHT, _FLOOR = 520, 150, 126


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


def _x(value: float) -> float:
    return _BAR * min(1.0, max(0.0, value))
