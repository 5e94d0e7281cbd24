"""Decodes images within bounds and lays them into the model's frame."""

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import simplejpeg
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate

from locvlm.errors import DataError
from locvlm.geometry import Geometry
from locvlm.types import Size, View

MAX_PIXELS = 64_000_000
MAX_BYTES = 4 * MAX_PIXELS  # of an image's file
GREY = 128  # of 255: the grey of an image that shows nothing
# Pillow reads dozens more; some of them start other programs (EPS) or are hardly ever tested.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


def image_size(data: bytes, source: str, max_pixels: int = MAX_PIXELS) -> Size:
    """(width, height) from an image's header, without decoding it.

    Raises:
        DataError: not an image, or one that is too large, as in `decode_image`.
    """
    return _open(data, source, max_pixels).size


def decode_image(
    data: bytes, source: str, max_pixels: int = MAX_PIXELS, *, smallest: int | None = None
) -> Tensor:
    """An encoded image as (3, H, W) uint8 RGB, channels last in memory.

    Pixels stay as they are stored: EXIF orientation is not applied, because COCO and the sets
    built on it give their boxes in stored pixels. Greys become three equal channels, 16 bits
    become 8, transparency is dropped, and of several frames the first is taken.

    Args:
        data: the bytes of a file in one of `FORMATS`.
        source: file or record, for error messages.
        max_pixels: larger images are refused before they are decoded, and so are strips whose
            square, on which `pad` lays them, would hold four times as many.
        smallest: a JPEG is decoded at a half, a quarter or an eighth of its sides, rounded up,
            where both keep so many pixels; None decodes all pixels.

    Raises:
        DataError: not an image, cut short, or larger than `max_pixels`.
    """
    pixels = _jpeg(data, smallest, max_pixels)
    if pixels is None:
        image = _open(data, source, max_pixels)
        with _refusal(data, source, max_pixels):
            pixels = np.array(_rgb(image))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def viewed(data: bytes, view: View, source: str) -> bytes:
    """An encoded image as `view` shows it, of the same size, as PNG; unchanged without one.

    Args:
        data: the bytes of a file in one of `FORMATS`.
        view: what is done to it.
        source: file or record, for error messages.

    Raises:
        DataError: as in `decode_image`.
    """
    if not view:
        return data
    pixels = decode_image(data, source).permute(1, 2, 0)
    pixels = pixels.flip(1) if view == "mirrored" else torch.full_like(pixels, GREY)
    stream = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(stream, "PNG", compress_level=1)  # it is read once
    return stream.getvalue()


def to_frame(image: Tensor, geometry: Geometry, side: int, fill: Sequence[int]) -> Tensor:
    """The area that `geometry` names, as the model's square frame.

    Args:
        image: (3, H, W) uint8.
        geometry: in pixels of that image.
        side: S, pixels per side of the frame.
        fill: RGB 0 to 255, for the area outside the image.

    Returns:
        (3, S, S) uint8, resized with antialiased bicubic filtering.
    """
    height, width = image.shape[-2:]
    right = geometry.width - geometry.left - width
    bottom = geometry.height - geometry.top - height
    cut = [max(0, -edge) for edge in (geometry.left, geometry.top, right, bottom)]
    image = image[:, cut[1] : height - cut[3], cut[0] : width - cut[2]]
    added = [max(0, edge) for edge in (geometry.left, geometry.top, right, bottom)]
    if any(added):
        image = _pad(image, added, fill)
    if image.shape[-2:] != (side, side):
        image = _resized(image, side)
    return image.flip(-1) if geometry.flipped else image


def normalize(frames: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(..., 3, S, S) uint8 to float32: (v / 255 - mean) / std for each channel."""
    center, scale = (_per_channel(each, frames.device) * 255 for each in (mean, std))
    return (frames.float() - center) / scale


def _per_channel(values: Sequence[float], device: torch.device) -> Tensor:
    # Numbers written by the device itself; a tensor made of a list waits for it to be copied over.
    one = partial(torch.full, (1, 1), dtype=torch.float32, device=device)
    return torch.stack([one(value) for value in values])


def _open(data: bytes, source: str, max_pixels: int) -> Image.Image:
    with _refusal(data, source, max_pixels):
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    width, height = image.size
    if _is_too_large(width, height, max_pixels):
        raise _too_large(f"{width} x {height} pixels", source, max_pixels)
    return image


def max_side(max_pixels: int = MAX_PIXELS) -> int:
    """How long a side may be in an image of at most `max_pixels`: 16,000 pixels by default."""
    return math.isqrt(4 * max_pixels)


def _is_too_large(width: int, height: int, max_pixels: int) -> bool:
    return width * height > max_pixels or max(width, height) > max_side(max_pixels)


@contextmanager
def _refusal(data: bytes, source: str, max_pixels: int) -> Iterator[None]:
    """Turns what Pillow raises into `DataError`, and what it warns of into nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Image.DecompressionBombError as error:
        raise _too_large(str(error).partition(" exceeds")[0], source, max_pixels) from None
    except UnidentifiedImageError:
        raise DataError(
            f"not an image in a known format, {len(data):,} bytes",
            where=source,
            fix=f"replace the file by one of {', '.join(FORMATS)}",
        ) from None
    except Exception as error:  # broken files make decoders raise nearly any kind
        raise DataError(
            f"image cannot be decoded, {len(data):,} bytes: {error}",
            where=source,
            fix="replace the file",
        ) from None


def _too_large(what: str, source: str, max_pixels: int) -> DataError:
    side = max_side(max_pixels)
    return DataError(
        f"image is too large: {what}, {max_pixels:,} pixels allowed, {side:,} a side",
        where=source,
        fix="scale it down before preparing the data",
    )


def _jpeg(data: bytes, smallest: int | None, max_pixels: int) -> np.ndarray | None:
    """(H, W, 3) of a JPEG; None of another format, or where Pillow has to say what is wrong.

    libjpeg-turbo without Pillow gives the same pixels in 0.6 of the time.
    """
    if data[:2] != b"\xff\xd8":
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
        if space == "CMYK" or _is_too_large(width, height, max_pixels):
            return None
        parts = _parts(min(height, width), smallest)
        least = {"min_height": -(-height // parts), "min_width": -(-width // parts)}
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, **least)
    except ValueError:
        return None
    return pixels


def _parts(side: int, smallest: int | None) -> int:
    """Into how many parts `side` can be divided so that each keeps `smallest` pixels."""
    if smallest is None:
        return 1
    return next((parts for parts in (8, 4, 2) if -(-side // parts) >= smallest), 1)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        # 16-bit and float greys: Pillow's own conversion would clip instead of scale.
        grey = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0, neginf=0)
        top = 65535.0 if image.mode.startswith("I") else max(1.0, float(grey.max(initial=0)))
        return Image.fromarray((grey / top * 255).clip(0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _resized(image: Tensor, side: int) -> Tensor:
    # Without the strides of a batch of channels last, torch would give channels first back.
    batch = image.permute(1, 2, 0)[None].permute(0, 3, 1, 2)
    size = (side, side)
    return interpolate(batch, size, mode="bicubic", antialias=True, align_corners=False)[0]


def _pad(image: Tensor, added: Sequence[int], fill: Sequence[int]) -> Tensor:
    left, top, right, bottom = added
    height, width = image.shape[-2:]
    canvas = torch.tensor(fill, dtype=torch.uint8)
    # Channels last, as decoded images are: torch resizes them faster so.
    canvas = canvas.repeat(height + top + bottom, width + left + right, 1).permute(2, 0, 1)
    canvas[:, top : top + height, left : left + width] = image
    return canvas
