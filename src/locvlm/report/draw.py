"""Draws locations on a picture, legibly at any size: tiny images are enlarged first."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from PIL import Image, ImageColor, ImageDraw, ImageFont

# Told apart in any kind of colour vision, and by their strokes: true boxes are dashed.
COLORS = {"true": "#12b886", "predicted": "#ff6b2c", "asked": "#4c8dff"}
_HALO = (0, 0, 0, 150)
_INK = (255, 255, 255, 255)

Rectangle = tuple[float, float, float, float]


def draw_marks(
    image: Image.Image,
    marks: Sequence[Mapping[str, Any]],
    *,
    min_side: int = 400,
    max_side: int | None = None,
    bold: float = 1.0,
) -> Image.Image:
    """A copy of `image` with boxes, points and their labels.

    Lines and letters grow with the picture. A label is moved where it would leave the picture or
    cover another label.

    Args:
        image: in the pixels that the marks refer to.
        marks: each with `role` (true, predicted, asked), `location` (four or two numbers) and an
            optional `label`. Corners in the wrong order are sorted; NaN is left out.
        min_side: an image whose longer side is shorter is enlarged by a whole factor to reach it.
        max_side: a larger image is made smaller before anything is drawn; None keeps its size.
        bold: how much larger than usual lines and letters are, for pictures shown small.
    """
    picture, factor = _scaled(image.convert("RGBA"), min_side, max_side)
    layer = Image.new("RGBA", picture.size)
    pen = ImageDraw.Draw(layer)
    longer = max(picture.size)
    width = max(2, round(bold * longer / 200))
    shown = [mark for mark in marks if all(isfinite(v) for v in mark["location"])]
    for mark in shown:
        _outline(pen, mark, factor, width)
    taken: list[Rectangle] = []
    font = ImageFont.load_default(bold * max(13.0, longer / 34))
    for mark in shown:
        if mark.get("label"):
            _label(pen, mark, factor, font, taken, picture.size)
    return Image.alpha_composite(picture, layer).convert("RGB")


def _scaled(image: Image.Image, min_side: int, max_side: int | None) -> tuple[Image.Image, float]:
    """The image in the size to draw on, and how much larger it is."""
    longer = max(image.size)
    if longer < min_side:
        factor = -(-min_side // longer)
        size = (image.width * factor, image.height * factor)
        # Whole pixels stay squares when a tiny image is enlarged: nothing is made up.
        return image.resize(size, Image.Resampling.NEAREST), factor
    if max_side and longer > max_side:
        scale = max_side / longer
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        return image.resize(size, Image.Resampling.LANCZOS), scale
    return image, 1.0


def _outline(pen: ImageDraw.ImageDraw, mark: Mapping[str, Any], factor: float, width: int) -> None:
    color = ImageColor.getrgb(COLORS[mark["role"]])
    if len(mark["location"]) == 2:
        x, y = (value * factor for value in mark["location"])
        radius = 3 * width
        for extra, ink in ((1, _HALO), (0, (*color, 255))):
            r = radius + extra * width / 2
            pen.ellipse((x - r, y - r, x + r, y + r), outline=ink, width=width * (1 + extra))
        pen.ellipse((x - width, y - width, x + width, y + width), fill=(*color, 255))
        return
    dash = 5 * width if mark["role"] == "true" else None
    edges = _edges(_rectangle(mark["location"], factor))
    # Only dashes have a halo: between them shows a box that lies in the same place.
    lines = [line for start, end in edges for line in _dashes(start, end, dash)]
    for ink, wide in ((_HALO, width + 2), ((*color, 255), width)):
        for start, end in lines:
            pen.line((*start, *end), fill=ink, width=wide)


def _rectangle(location: Sequence[float], factor: float) -> Rectangle:
    # Far outside is as good as very far outside, and does not overflow the drawing.
    x1, y1, x2, y2 = (min(1e5, max(-1e5, value * factor)) for value in location)
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _edges(box: Rectangle) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    x1, y1, x2, y2 = box
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    return list(zip(corners, [*corners[1:], corners[0]], strict=True))


def _dashes(
    start: tuple[float, float], end: tuple[float, float], length: float | None
) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """The whole edge, or an odd number of equal dashes and gaps, so that corners are drawn."""
    if length is None:
        yield start, end
        return
    total = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
    n = max(1, round(total / length) // 2 * 2 + 1)
    at = [
        (start[0] + (end[0] - start[0]) * k / n, start[1] + (end[1] - start[1]) * k / n)
        for k in range(n + 1)
    ]
    yield from ((at[k], at[k + 1]) for k in range(0, n, 2))


def _label(
    pen: ImageDraw.ImageDraw,
    mark: Mapping[str, Any],
    factor: float,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    taken: list[Rectangle],
    picture: tuple[int, int],
) -> None:
    text = _shortened(mark["label"], font, picture[0])
    ascent = font.getbbox("Ag")[3]
    pad = max(2, round(ascent / 5))
    width, height = font.getlength(text) + 2 * pad, ascent + 2 * pad
    box = _rectangle((*mark["location"], *mark["location"])[:4], factor)
    area = _place(box, (width, height), picture, taken)
    taken.append(area)
    color = ImageColor.getrgb(COLORS[mark["role"]])
    pen.rounded_rectangle(area, radius=pad, fill=(*(round(c * 0.72) for c in color), 235))
    pen.text((area[0] + pad, area[1] + pad), text, font=font, fill=_INK)


def _shortened(text: str, font: Any, width: float) -> str:
    """`text` on one line, with an ellipsis where it is longer than `width`."""
    line = " ".join(text.split())[:200]
    while len(line) > 1 and font.getlength(line) > 0.9 * width:
        line = line[:-2].rstrip() + "…"
    return line


def _place(
    box: Rectangle, label: tuple[float, float], picture: tuple[int, int], taken: list[Rectangle]
) -> Rectangle:
    """Where a label of this size stands: above its box, below, inside, or where there is room."""
    width, height = label
    places = [(box[0], box[1] - height - 2), (box[0], box[3] + 2), (box[0], box[1] + 2)]
    places += [(box[0], box[1] + 2 + n * (height + 2)) for n in range(1, 8)]
    inside: list[Rectangle] = []
    for left, top in places:
        x = min(max(0.0, left), max(0.0, picture[0] - width))
        y = min(max(0.0, top), max(0.0, picture[1] - height))
        area = (x, y, x + width, y + height)
        inside.append(area)
        if y == top and not any(_touch(area, other) for other in taken):
            return area
    return next((a for a in inside if not any(_touch(a, o) for o in taken)), inside[0])


def _touch(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
