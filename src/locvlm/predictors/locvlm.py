"""A saved LocVLM as a predictor."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor

from locvlm.errors import ConfigError, DataError
from locvlm.located import Located
from locvlm.models import LocVLM
from locvlm.models.dtypes import to_dtype
from locvlm.predictors.batches import in_batches
from locvlm.predictors.device import on_device
from locvlm.predictors.folder import sha256_folder
from locvlm.processor import Processor, Prompt
from locvlm.types import Question


class Decoding(TypedDict):
    """How an answer's tokens are chosen."""

    max_new_tokens: int
    temperature: float
    top_p: float


class LocVLMPredictor:
    """Answers with a saved LocVLM, in batches of questions about the same images.

    Args:
        path: folder of a saved model, such as runs/<name>/model; None is refused.
        batch_size: questions at a time.
        max_new_tokens: length of an answer at most.
        temperature: 0 takes the likeliest token each time; above, tokens are drawn.
        top_p: where tokens are drawn: the share of probability that they are drawn from.
        seed: of the drawing.
        dtype: of the weights: `bfloat16`, `float16` or `float32`; `auto`: as they are stored.
        device: where the model runs, such as "cuda" or "cpu"; "auto" takes a GPU if there is one.

    Raises:
        CheckpointError: the folder holds no model that can be loaded.
        ConfigError: no model is named, there is no such type or device, or a batch holds nothing.
    """

    def __init__(
        self,
        path: str | Path | None,
        *,
        batch_size: int = 32,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        dtype: str = "auto",
        device: str = "auto",
    ):
        if path is None:
            raise ConfigError(
                "no model is named",
                where="checkpoint",
                fix="add checkpoint=FOLDER of a saved model, or predictor=... for models of others",
            )
        if batch_size < 1:
            raise ConfigError(
                f"batch_size must be at least 1, got {batch_size}", where="predictor.batch_size"
            )
        self.path = Path(path)
        self.batch_size = batch_size
        self.decoding = Decoding(
            max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p
        )
        self.seed = seed
        kind = None if dtype == "auto" else to_dtype(dtype, "dtype")
        self.dtype = dtype
        self.model = on_device(LocVLM.from_pretrained(path), device, kind)
        self.generator = torch.Generator(self.model.device).manual_seed(seed)
        self._identity: dict[str, Any] = {}

    @property
    def processor(self) -> Processor:
        """What the model was saved with."""
        return self.model.processor

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.path)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The hash of the model's files, what they are rounded to, and how tokens are chosen."""
        if not self._identity:
            self._identity = {
                "kind": "locvlm",
                "sha256": sha256_folder(self.path),
                **self.decoding,
            }
            if self.dtype != "auto":
                self._identity["dtype"] = self.dtype
            if self.decoding["temperature"] > 0:  # else nothing is drawn
                self._identity["seed"] = self.seed
        return self._identity

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """The text generated for each question."""
        return in_batches(questions, self.batch_size, self._generate, list)

    def score(self, questions: Sequence[Question]) -> list[list[float]]:
        """The log-likelihood of each candidate of each question, summed over its tokens."""
        return in_batches(questions, self.batch_size, self._score, list)

    def decode(self, text: str, question: Question) -> Located:
        """The locations in an answer, in pixels of the question's image.

        Raises:
            DataError: the question has no image.
        """
        if question.sample.size is None:
            raise DataError("a question without an image has no locations", where=question.key)
        return self.processor.decode(text, question.sample.size)

    def _generate(self, batch: Sequence[Question]) -> list[str]:
        return self.model.generate(self._prompts(batch), generator=self.generator, **self.decoding)

    def _score(self, batch: Sequence[Question]) -> list[list[float]]:
        return self.model.score(self._prompts(batch), [question.candidates for question in batch])

    def _prompts(self, batch: Sequence[Question]) -> list[Prompt]:
        """Each image is decoded once, and its prompts share it, so that it is read once too."""
        prompts = []
        images: dict[int, Tensor] = {}
        for question in batch:
            sample = question.sample
            prompt = self.processor.prompt(sample, question.messages, images.get(id(sample)))
            images[id(sample)] = prompt["pixel_values"]
            prompts.append(prompt)
        return prompts
