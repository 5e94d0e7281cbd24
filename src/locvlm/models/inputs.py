"""Images and conversations as people have them at hand, as the processor reads them."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor

from locvlm.errors import DataError
from locvlm.images import image_size
from locvlm.types import Message, Sample

ImageInput: TypeAlias = str | Path | bytes | Image.Image | np.ndarray | Tensor
MessagesInput: TypeAlias = str | Sequence[Message | Mapping[str, str]]


def to_sample(image: ImageInput) -> Sample:
    """An image from a file or from memory as a sample without annotations.

    Args:
        image: path of a file, an encoded file's bytes, a PIL image, a (H, W, 3) or (H, W) array,
            or a (3, H, W) tensor; numbers are uint8, or floats from 0 to 1.

    Raises:
        DataError: there is no image, or it cannot be read.
    """
    source = "image"
    if isinstance(image, str | Path):
        source = str(image)
        if "://" in source:
            raise DataError(
                "images are not fetched from the network",
                where=source,
                fix="download it, and give its path or its bytes",
            )
        image = _read(Path(image))
    elif isinstance(image, Tensor):
        image = _encode(_from_array(np.moveaxis(image.detach().cpu().numpy(), 0, -1)))
    elif isinstance(image, np.ndarray):
        image = _encode(_from_array(image))
    elif isinstance(image, Image.Image):
        image = _encode(image)
    elif not isinstance(image, bytes):
        raise DataError(
            "no image was given" if image is None else f"{type(image).__name__} is no image",
            where="image",
            fix="give a path, a PIL image, an array, a tensor, or an encoded file's bytes",
        )
    return Sample("image", source, image=image, size=image_size(image, source))


def to_messages(messages: MessagesInput) -> list[Message]:
    """A question, or a conversation that ends with one, as the processor reads it.

    Args:
        messages: text, `Message`s, or transformers' `{"role": ..., "content": text}`.

    Raises:
        DataError: something else, or nothing that can be answered.
    """
    if isinstance(messages, str):
        messages = [Message("user", (messages,))]
    found = [_message(message, n) for n, message in enumerate(messages)]
    if not found or found[-1].role != "user":
        raise DataError("the conversation does not end with a question", where="messages")
    if not any(not isinstance(part, str) or part.strip() for part in found[-1].parts):
        raise DataError(
            "the question is empty", where="messages", fix='ask something, such as "What is this?"'
        )
    return found


def _message(message: Message | Mapping[str, str], n: int) -> Message:
    if isinstance(message, Message):
        return message
    match message:
        case {"role": "user" | "assistant" as role, "content": str(text)}:
            return Message(role, (text,))
    raise DataError(
        f"this is no turn of a conversation: {message!r:.200}",
        where=f"messages[{n}]",
        fix='give {"role": "user" or "assistant", "content": text}; the image is an argument '
        "of its own",
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot read this image: {error.strerror or error}",
            where=str(path),
            fix="give the path of an image file",
        ) from error


def _from_array(pixels: np.ndarray) -> Image.Image:
    shape = " x ".join(map(str, pixels.shape))
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] == 3)):
        raise DataError(
            f"an image of shape {shape} (height, width, channels)",
            where="image",
            fix="give (H, W, 3) or (H, W) arrays, (3, H, W) or (1, H, W) tensors",
        )
    if not pixels.size:
        raise DataError(f"an image of {shape} without a pixel", where="image")
    if np.issubdtype(pixels.dtype, np.floating):
        if not (pixels.min(initial=0) >= 0 and pixels.max(initial=0) <= 1):
            raise DataError(
                "an image of floats outside 0 to 1",
                where="image",
                fix="scale it, undo its normalization, or give uint8",
            )
        pixels = (pixels * 255).round()
    elif pixels.dtype != np.uint8:
        raise DataError(f"an image of {pixels.dtype}", where="image", fix="give uint8 or floats")
    return Image.fromarray(pixels.astype(np.uint8))


def _encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()
