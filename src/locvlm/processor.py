"""The Processor: samples to tokens, and a model's text back to locations in original pixels."""

import re
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import asdict
from inspect import unwrap
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from locvlm.chat import IMAGE, ChatFormat, Piece, Turn, token_weights
from locvlm.config import build
from locvlm.coordinates import Coordinates, parse, write_location
from locvlm.errors import CheckpointError, ConfigError, DataError
from locvlm.geometry import Geometry, clip
from locvlm.images import decode_image, to_frame
from locvlm.io import read_json, write_json
from locvlm.located import Located
from locvlm.tokenizers import first_tokens
from locvlm.types import Location, Message, Sample, Size, Unit

IGNORE_INDEX = -100
FILE = "processor.json"
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


class Example(TypedDict):
    """One training sequence of T tokens with its N images.

    input_ids:    (T,) int64; each image stands as `image_tokens` placeholders
    labels:       (T,) int64; IGNORE_INDEX where nothing is learned
    loss_weights: (T,) float32; 0 where nothing is learned
    pixel_values: (N, 3, S, S) uint8; the encoder normalizes them, on its device
    """

    input_ids: Tensor
    labels: Tensor
    loss_weights: Tensor
    pixel_values: Tensor


class Prompt(TypedDict):
    """What a model continues: `input_ids` and `pixel_values` as in `Example`."""

    input_ids: Tensor
    pixel_values: Tensor


class Processor:
    """Turns samples into tokens and text into locations; saved with the weights.

    The only holder of what training and answering must agree on: "Which image do these numbers
    refer to?" has one answer.

    Args:
        tokenizer: a fast tokenizer (character offsets are needed); `<image>` is added if missing.
        coordinates: the scheme that writes locations.
        geometry: `resize`, `pad` or `crop`: original (width, height) to `Geometry`.
        chat: how turns are written.
        image_size: side S of the model's square input, in pixels.
        patch_size: side of a patch in pixels; each patch is one token of the sequence.
        mean: of each colour channel, for values 0 to 1.
        std: likewise.
        suffix: whether " bbox" or " point" follows a location.
        max_length: tokens per sequence at most; longer ones are cut at the end.
        reduced_decode: decode large JPEGs at a part of their size: faster, with pixels a little
            different from published preprocessing.

    Raises:
        ConfigError: the tokenizer gives no offsets, or has another end token than the chat format.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        coordinates: Coordinates,
        geometry: Callable[[int, int], Geometry],
        chat: ChatFormat,
        *,
        image_size: int,
        patch_size: int,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        suffix: bool = True,
        max_length: int = 2048,
        reduced_decode: bool = False,
    ):
        if not tokenizer.is_fast:
            raise ConfigError(
                f"{type(tokenizer).__name__} gives no character offsets",
                where="processor.tokenizer",
                fix="use the fast (tokenizers) version",
            )
        chat.check_end(tokenizer.eos_token)
        tokenizer.add_tokens([IMAGE], special_tokens=True)
        self.tokenizer = tokenizer
        self.coordinates = coordinates
        # A partial that Hydra made checks its target at each call, several times per sample.
        self.geometry = unwrap(getattr(geometry, "func", geometry))
        self.chat = chat
        self.image_size = image_size
        self.patch_size = patch_size
        self.image_tokens = (image_size // patch_size) ** 2
        self.mean, self.std = tuple(mean), tuple(std)
        self.suffix = suffix
        self.max_length = max_length
        self.reduced_decode = reduced_decode
        self.image_token_id: int = int(tokenizer.convert_tokens_to_ids(IMAGE))  # type: ignore[arg-type]
        self.end_id: int = tokenizer.eos_token_id
        self.pad_id: int = self.end_id if tokenizer.pad_token is None else tokenizer.pad_token_id
        self._specials = tuple({*tokenizer.all_special_tokens, IMAGE})

    def encode(
        self, sample: Sample, messages: Sequence[Message], pixel_values: Tensor | None = None
    ) -> Example:
        """A finished conversation about `sample` as one training sequence.

        `pixel_values`: what the model sees of it, such as its features; None: its pixels.

        Raises:
            DataError: the image cannot be read, or does not fit into `max_length` tokens.
        """
        ids, weights = (each[: self.max_length] for each in self._sequence(sample, messages))
        return Example(
            input_ids=torch.from_numpy(ids),
            labels=torch.from_numpy(np.where(weights > 0, ids, IGNORE_INDEX)),
            loss_weights=torch.from_numpy(weights),
            pixel_values=self.pixel_values(sample) if pixel_values is None else pixel_values,
        )

    def prompt(
        self, sample: Sample, messages: Sequence[Message], pixel_values: Tensor | None = None
    ) -> Prompt:
        """A conversation that ends with a question, up to where the assistant begins to speak.

        `pixel_values`: of another prompt about this sample; a model reads their image once.

        Raises:
            DataError: the image cannot be read, or it takes more than `max_length` tokens.
        """
        ids, _ = self._sequence(sample, messages)
        if len(ids) > self.max_length:  # cut at its end, it would lose its question
            raise DataError(
                f"a prompt of at least {len(ids):,} tokens, {self.max_length:,} allowed",
                where=sample.where,
                fix="ask with less text, or raise max_length in the model's processor.json",
            )
        if pixel_values is None:
            pixel_values = self.pixel_values(sample)
        return Prompt(input_ids=torch.from_numpy(ids), pixel_values=pixel_values)

    def pixel_values(self, sample: Sample) -> Tensor:
        """(N, 3, S, S) uint8, the images as the encoder sees them; N is 0 for a text-only sample.

        Raises:
            DataError: the image cannot be decoded.
        """
        side = self.image_size
        if sample.image is None:
            return torch.zeros(0, 3, side, side, dtype=torch.uint8)
        smallest = side if self.reduced_decode else None
        image = decode_image(sample.image, sample.source, smallest=smallest)
        height, width = image.shape[1:]
        fill = tuple(int(255 * value) for value in self.mean)  # cut off, as LLaVA does
        return to_frame(image, self.geometry(width, height), side, fill)[None]

    def decode(self, text: str, size: Size) -> Located:
        """The locations in a model's text, in pixels of an image of (width, height) `size`."""
        parsed = parse(text, self.coordinates)
        geometry = self.geometry(*size)
        locations = [geometry.from_frame(found.values) for found in parsed.found]
        return Located(tuple(clip(location, size) for location in locations), parsed)

    def generated_text(self, ids: Sequence[int]) -> str:
        """Generated tokens as text, without special tokens and surrounding spaces."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def speaking(self, chat: ChatFormat) -> "Processor":
        """The same processor with another chat format, such as `plain` for adapter training.

        Raises:
            ConfigError: its answers end with another token than the tokenizer's.
        """
        chat.check_end(self.tokenizer.eos_token)
        other = copy(self)
        other.chat = chat
        return other

    def save(self, folder: Path) -> None:
        """Writes processor.json and the tokenizer's files into `folder`."""
        self.tokenizer.save_pretrained(folder)
        write_json(Path(folder) / FILE, self.config())

    def config(self) -> dict[str, Any]:
        """All but the tokenizer as plain data."""
        geometry: Any = self.geometry
        return {
            "coordinates": _node(self.coordinates),
            "geometry": {"_target_": f"locvlm.geometry.{geometry.__name__}", "_partial_": True},
            "chat": _node(self.chat),
            "image_size": self.image_size,
            "patch_size": self.patch_size,
            "mean": list(self.mean),
            "std": list(self.std),
            "suffix": self.suffix,
            "max_length": self.max_length,
            "reduced_decode": self.reduced_decode,
        }

    @classmethod
    def load(cls, folder: str | Path) -> "Processor":
        """Reads what `save` wrote.

        Raises:
            CheckpointError: files are missing or damaged, or name something that they must not.
        """
        folder = Path(folder)
        try:
            if missing := [n for n in (FILE, "tokenizer.json") if not (folder / n).is_file()]:
                raise DataError(f"{missing[0]} is missing")
            config = read_json(folder / FILE)
            parts = {name: build(config.pop(name)) for name in ("coordinates", "geometry", "chat")}
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            return cls(tokenizer, **parts, **config)
        except (DataError, LookupError, OSError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"no {FILE} and tokenizer that can be read here: {str(error).splitlines()[0]}",
                where=str(folder),
                fix="give the folder of a saved model, such as runs/<name>/model, or copy it again",
            ) from error

    def _turn(self, message: Message, sample: Sample) -> Turn:
        pieces: list[Piece] = []
        for part in message.parts:
            if isinstance(part, str):
                pieces.append(Piece(self._neutral(part), message.weight))
                continue
            text = self._write(part, sample)
            end = 0
            for n, number in enumerate(_NUMBER.finditer(text)):
                weights = message.number_weights or (message.weight,)
                pieces.append(Piece(text[end : number.start()], message.weight))
                pieces.append(Piece(number[0], weights[min(n, len(weights) - 1)]))
                end = number.end()
            pieces.append(Piece(text[end:], message.weight))
        return Turn(message.role, tuple(pieces) or (Piece("", message.weight),))

    def _write(self, location: Location, sample: Sample) -> str:
        if sample.size is None:
            raise DataError(
                f"{location} stands in a conversation without an image",
                where=sample.where,
                fix="give the sample its image, or take the location out",
            )
        values = self.geometry(*sample.size).to_frame(location)
        inside = Unit(tuple(min(1.0, max(0.0, value)) for value in values))
        return write_location(inside, self.coordinates, suffix=self.suffix)

    def _neutral(self, text: str) -> str:
        text = text.encode("utf-8", "replace").decode()  # a surrogate is half a character, no text
        # A user's text must never become a special token: "</s>" would end the answer.
        for special in self._specials:
            text = text.replace(special, f"{special[0]} {special[1:]}")
        return text

    def _sequence(
        self, sample: Sample, messages: Sequence[Message]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """All token ids, an image's repeated for its patches, and what each weighs in the loss."""
        turns = [self._turn(message, sample) for message in messages]
        rendered = self.chat.render(turns, n_images=int(sample.image is not None))
        encoded = first_tokens(self.tokenizer, rendered.text, self.max_length)
        ids = np.array(encoded.ids, np.int64)
        weights = np.array(token_weights(encoded.offsets, rendered.learned), np.float32)
        if turns and sample.image is not None:
            if IMAGE not in rendered.text:
                raise DataError("no question after the image", where=sample.where)
            is_image = ids == self.image_token_id
            at = int(is_image.argmax()) if is_image.any() else len(ids)
            counts = np.where(is_image, self.image_tokens, 1)
            ids, weights = ids.repeat(counts), weights.repeat(counts)
            if at + self.image_tokens > self.max_length:
                raise DataError(
                    f"the image needs {at + self.image_tokens} tokens, {self.max_length} allowed",
                    where=sample.where,
                    fix="raise processor.max_length",
                )
        return ids, weights


def _node(value: Any) -> dict[str, Any]:
    kind = type(value)
    package = "locvlm.coordinates" if "coordinates" in kind.__module__ else kind.__module__
    return {"_target_": f"{package}.{kind.__qualname__}", **asdict(value)}
