"""Patch labels: which words name the object that each patch shows; they train a fresh encoder."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from locvlm.data.collate import join_images
from locvlm.data.mixture import Draw
from locvlm.data.module import LocVLMDataModule
from locvlm.data.stream import Examples, Source
from locvlm.errors import ConfigError, DataError
from locvlm.patches import patch_labels
from locvlm.processor import Processor
from locvlm.types import Box, Instance


class PatchBatch(TypedDict):
    """B images and, for each of G groups of words, the word that each of P patches shows.

    pixel_values: (B, 3, S, S) uint8
    labels:       (B, G, P) int64; 0 is background, n the n-th word of the group
    """

    pixel_values: Tensor
    labels: Tensor


class PatchDataModule(LocVLMDataModule):
    """Batches of images with the words of their patches.

    Args:
        processor: lays images into the frame.
        train: sources of annotated images, by name.
        words: groups of words, such as shapes and colours, or a data set's categories. An object's
            label is the word of the group that its description or category holds.
        options: as in `LocVLMDataModule`.

    Raises:
        ConfigError: a group is empty.
    """

    def __init__(
        self,
        processor: Processor,
        train: Mapping[str, Source],
        *,
        words: Mapping[str, Sequence[str]],
        **options: Any,
    ):
        if not words or not all(words.values()):
            raise ConfigError("a group of words is empty", where="data.words")
        super().__init__(processor, train, **options)
        self.words = {name: list(group) for name, group in words.items()}

    def examples(self, split: str) -> Examples:
        """Images with the labels of their patches, by draw."""
        return PatchExamples(
            self.sources[split],
            self.processor,
            epoch_length=self.lengths[split],
            seed=self.seed,
            words=self.words,
        )

    def collate(self) -> Callable[[Sequence[Any]], Any]:
        """Examples to a `PatchBatch`."""
        return _stack


class PatchExamples(Examples):
    """As `Examples`, with patch labels in place of conversations."""

    def __init__(self, *args: Any, words: Mapping[str, Sequence[str]], **options: Any):
        super().__init__(*args, **options)
        self.words = words

    def _told(self, draw: Draw) -> Any:
        sample, _ = self.sample(draw)
        processor = self.processor
        if sample.size is None:
            raise DataError("a sample without an image shows no patches", where=sample.source)
        side = processor.image_size
        geometry = processor.geometry(*sample.size)
        boxes = [
            Box(*(value * side for value in geometry.to_frame(instance.box)))
            for instance in sample.instances
        ]
        labels = [
            patch_labels(
                boxes,
                [_word(instance, group) for instance in sample.instances],
                size=(side, side),
                patch=processor.patch_size,
            ).ravel()
            for group in self.words.values()
        ]
        return sample, {"labels": torch.from_numpy(np.stack(labels))}


def _word(instance: Instance, group: Sequence[str]) -> int:
    """1 + the index of the group's word that names the instance; 0 where none does."""
    text = f" {instance.description or ''} {instance.category} "
    return next((n for n, word in enumerate(group, start=1) if f" {word} " in text), 0)


def _stack(examples: Sequence[Any]) -> PatchBatch:
    return PatchBatch(
        pixel_values=join_images([example["pixel_values"] for example in examples]),
        labels=torch.stack([example["labels"] for example in examples]),
    )
