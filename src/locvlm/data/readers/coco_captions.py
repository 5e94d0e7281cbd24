"""Reads COCO-format captions: images, each described in a sentence by several people."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from locvlm.data.quarantine import Quarantine
from locvlm.data.readers.coco_file import CocoFile, Record, read_coco_image
from locvlm.data.readers.fields import check_given, read_text
from locvlm.data.readers.grouped import grouped
from locvlm.data.readers.images import check_folder
from locvlm.errors import ConfigError, DataError
from locvlm.types import Message, Sample


@dataclass(frozen=True, slots=True)
class CocoCaptionsReader:
    """Samples of a COCO captions file: a prompt and one of the image's captions, drawn by seed.

    One, because five captions as five turns would let a model read the next answer off the last.

    Args:
        captions: the JSON file: images and annotations.
        images: folder of the image files.
        prompts: one of them is drawn for each image.
        limit: stop after that many images; None reads all.
        seed: of the drawing.

    Raises:
        ConfigError: no file or no prompt is given.
    """

    captions: str | None
    images: str | None
    prompts: Sequence[str]
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        fix = "add source.captions=FILE, such as captions_train2017.json"
        check_given(self.captions, "a file of captions", "captions", fix)
        if not self.prompts:
            raise ConfigError("no prompt to draw from", where="source.prompts")

    @property
    def sources(self) -> list[str]:
        return [str(self.captions)]

    def read(self, quarantine: Quarantine) -> Iterator[Sample]:
        """Samples in the order of the file; what cannot be used goes into `quarantine`.

        Raises:
            DataError: the file is no COCO-format JSON, or its image folder is missing.
        """
        file = CocoFile(str(self.captions), "captions")
        folder = check_folder(self.images)
        with grouped(file.annotations(("id", "caption"), quarantine)) as annotations:
            for image in file.images(self.limit, quarantine):
                try:
                    yield self._sample(folder, image, annotations[image["id"]], quarantine)
                except DataError as error:
                    quarantine.add(str(image["id"]), error)

    def _sample(
        self, folder: Path, image: Record, annotations: list[Any], quarantine: Quarantine
    ) -> Sample:
        key = str(image["id"])
        source = f"{self.captions}, image {key}"
        captions = []
        for annotation in annotations:
            try:
                captions.append(read_text(annotation, "caption", source))
            except DataError as error:
                quarantine.add(key, error)
        if not captions:
            raise DataError("image without a caption", where=source)
        data, size = read_coco_image(folder, image)
        rng = Random(f"captions {self.seed} {key}")
        prompt, caption = rng.choice(list(self.prompts)), rng.choice(captions)
        messages = (Message("user", (prompt,)), Message("assistant", (caption,)))
        extra = {"kind": "caption", "image": image["file_name"]}
        return Sample(key, source, data, size, messages=messages, extra=extra)
