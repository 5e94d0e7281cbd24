"""Reads conversations from the Hugging Face Hub, or from a folder that `datasets` saved."""

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from locvlm.chat import IMAGE
from locvlm.data.quarantine import Quarantine
from locvlm.data.readers.fields import check_given, shown
from locvlm.data.readers.images import check_folder, read_image
from locvlm.data.readers.llava import answered_turns, read_turns
from locvlm.errors import ConfigError, DataError
from locvlm.images import image_size
from locvlm.types import Sample, Size

_PNG_MODES = {"1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"}


@dataclass(frozen=True, slots=True)
class HubReader:
    """Samples of rows in LLaVA's form {image, conversations} or {image, messages}.

    Rows come as a stream, images as they are stored. An image column may hold bytes, pictures, or
    paths below `images`. Code that comes with a data set is never run.

    Args:
        dataset: an id on the Hub, or a local folder: of `save_to_disk`, or of Parquet, JSON or
            image files.
        split: of the data set.
        name: which configuration of it; None where there is one only.
        revision: a commit, tag or branch on the Hub; None is the newest, which may change.
        image_column: the column of the images; rows without it are text only.
        turns_column: the column of the turns, {from, value} or {role, content}; None: whichever of
            `conversations` and `messages` a row has.
        images: the folder that paths in the image column start from; None where there are none.
        limit: stop after that many rows; None reads all.

    Raises:
        ConfigError: no data set is given.
    """

    dataset: str | None
    split: str = "train"
    name: str | None = None
    revision: str | None = None
    image_column: str = "image"
    turns_column: str | None = None
    images: str | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        check_given(self.dataset, "a data set", "dataset", "add source.dataset=ID or a folder")

    @property
    def sources(self) -> list[str]:
        """The files of a local folder; the Hub's are named by the revision."""
        files = Path(str(self.dataset)).rglob("*") if Path(str(self.dataset)).is_dir() else ()
        return sorted(str(file) for file in files if file.is_file())

    def read(self, quarantine: Quarantine) -> Iterator[Sample]:
        """Samples in the order of the rows; what cannot be used goes into `quarantine`.

        Raises:
            ConfigError: the package `datasets` is missing or old.
            DataError: the data set cannot be read.
        """
        rows = _rows(str(self.dataset), self.split, self.name, self.revision, self.image_column)
        yield from self.samples(rows, quarantine)

    def samples(
        self, rows: Iterable[Mapping[str, Any]], quarantine: Quarantine
    ) -> Iterator[Sample]:
        """The samples of `rows`, whoever reads them."""
        folder = None if self.images is None else check_folder(self.images)
        for n, row in enumerate(islice(rows, self.limit)):
            where = f"{self.dataset}, {self.split}, row {n}"
            try:
                if not isinstance(row, Mapping):
                    raise DataError("row without columns", where=where)
                yield self._sample(row, str(n), folder, where, quarantine)
            except DataError as error:
                quarantine.add(str(n), error)

    def _sample(
        self,
        row: Mapping[str, Any],
        key: str,
        folder: Path | None,
        where: str,
        quarantine: Quarantine,
    ) -> Sample:
        column = self.turns_column or ("messages" if row.get("messages") else "conversations")
        shown_image = row.get(self.image_column)
        turns = row.get(column)
        record = {
            "image": shown_image is not None,
            "conversations": [_turn(one) for one in turns] if isinstance(turns, list) else None,
        }
        messages = read_turns(record, where)
        answered = answered_turns(messages)
        if not answered:
            raise DataError("conversation without an answer", where=where)
        if len(answered) < len(messages):
            quarantine.add(key, DataError("question without an answer", where=where))
        image, size = None, None
        if shown_image is not None:
            image, size = _image(shown_image, folder, where)
        return Sample(key, where, image, size, messages=answered)


def _turn(turn: Any) -> Any:
    """A turn {role, content} in LLaVA's form; content may be text or a list of its pieces."""
    if not isinstance(turn, dict) or "role" not in turn:
        return turn
    content = turn.get("content")
    if isinstance(content, list):
        pieces = [piece if isinstance(piece, dict) else {} for piece in content]
        texts = [IMAGE if one.get("type") == "image" else one.get("text") for one in pieces]
        known = [text for text in texts if isinstance(text, str)]
        content = "".join(known) if len(known) == len(texts) else None
    return {"from": turn["role"], "value": content}


def _image(value: Any, folder: Path | None, where: str) -> tuple[bytes, Size]:
    """The encoded bytes and size of what an image column holds."""
    if isinstance(value, Image.Image):
        buffer = io.BytesIO()
        try:
            kept = value if value.mode in _PNG_MODES else value.convert("RGB")
            kept.save(buffer, "PNG")
        except (OSError, ValueError) as error:
            raise DataError(f"image cannot be written as PNG: {error}", where=where) from None
        value = buffer.getvalue()
    if isinstance(value, dict):
        value = value["bytes"] if value.get("bytes") is not None else value.get("path")
    if isinstance(value, bytes):
        return value, image_size(value, where)
    if not isinstance(value, str):
        raise DataError(f"image is neither bytes nor a path: {shown(value)}", where=where)
    if folder is None:
        raise DataError(
            f"image is a path: {shown(value)}",
            where=where,
            fix="add images=FOLDER, where the paths start",
        )
    return read_image(folder, value)


def _rows(
    dataset: str, split: str, name: str | None, revision: str | None, image_column: str
) -> Iterator[Mapping[str, Any]]:
    try:
        datasets: Any = import_module("datasets")
    except ImportError:
        raise ConfigError(
            "reading from the Hub needs the package datasets",
            where="source",
            fix='pip install "datasets>=4"',
        ) from None
    if int(datasets.__version__.split(".")[0]) < 4:
        raise ConfigError(
            f"datasets {datasets.__version__} may run code that comes with a data set",
            where="source",
            fix='pip install "datasets>=4"',
        )
    try:
        if any((Path(dataset) / mark).is_file() for mark in ("state.json", "dataset_dict.json")):
            saved = datasets.load_from_disk(dataset)
            rows = saved[split] if isinstance(saved, datasets.DatasetDict) else saved
        else:
            rows = datasets.load_dataset(
                dataset, name, split=split, revision=revision, streaming=True
            )
        # Bytes as they are stored: decoding and encoding again would lose time and pixels.
        if isinstance((rows.features or {}).get(image_column), datasets.Image):
            rows = rows.cast_column(image_column, datasets.Image(decode=False))
        yield from rows
    except GeneratorExit:
        raise
    except Exception as error:  # of the network, of many file formats
        raise DataError(
            f"data set cannot be read: {str(error)[:300] or type(error).__name__}",
            where=f"{dataset}, {split}",
        ) from error
