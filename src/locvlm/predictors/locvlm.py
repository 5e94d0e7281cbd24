"""A saved LocVLM as a predictor."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import torch
from torch import Tensor

from locvlm.errors import ConfigError, DataError
from locvlm.io import sha256
from locvlm.located import Located
from locvlm.models import LocVLM
from locvlm.processor import Processor, Prompt
from locvlm.types import Question

T = TypeVar("T")


class Decoding(TypedDict):
    """How an answer's tokens are chosen."""

    max_new_tokens: int
    temperature: float
    top_p: float


class LocVLMPredictor:
    """Answers with a saved LocVLM, in batches of questions about the same images.

    Args:
        path: folder of a saved model, such as runs/<name>/model.
        batch_size: questions at a time.
        max_new_tokens: length of an answer at most.
        temperature: 0 takes the likeliest token each time; above, tokens are drawn.
        top_p: where tokens are drawn: the share of probability that they are drawn from.
        seed: of the drawing.
        device: where the model runs, such as "cuda" or "cpu"; "auto" takes a GPU if there is one.

    Raises:
        CheckpointError: the folder holds no model that can be loaded.
        ConfigError: there is no such device, or a batch holds nothing.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        batch_size: int = 32,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        device: str = "auto",
    ):
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
        model = LocVLM.from_pretrained(path)
        self.model, self.generator = _on(model, device, seed)
        self._identity: dict[str, Any] = {}

    @property
    def processor(self) -> Processor:
        """What the model was saved with."""
        return self.model.processor

    @property
    def identity(self) -> Mapping[str, Any]:
        """The hash of the model's files, and how tokens are chosen."""
        if not self._identity:
            files = sorted(file for file in self.path.iterdir() if file.is_file())
            hashes = "".join(f"{file.name} {sha256(file)}\n" for file in files)
            self._identity = {
                "kind": "locvlm",
                "sha256": sha256(hashes.encode()),
                **self.decoding,
            }
            if self.decoding["temperature"] > 0:  # else nothing is drawn
                self._identity["seed"] = self.seed
        return self._identity

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """The text generated for each question."""
        return self._batched(questions, self._generate)

    def score(self, questions: Sequence[Question]) -> list[list[float]]:
        """The log-likelihood of each candidate of each question, summed over its tokens."""
        return self._batched(questions, self._score)

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

    def _batched(
        self, questions: Sequence[Question], run: Callable[[Sequence[Question]], list[T]]
    ) -> list[T]:
        """`run` on batches of questions about the same images, and of like length within them."""
        groups: dict[int, list[tuple[int, int]]] = {}
        for n, question in enumerate(questions):
            groups.setdefault(id(question.sample), []).append((_length(question), n))
        order = [n for group in sorted(map(sorted, groups.values()), key=max) for _, n in group]
        found: dict[int, T] = {}
        for batch in _slices(order, self.batch_size):
            results = run([questions[n] for n in batch])
            found.update(zip(batch, results, strict=True))
        return [found[n] for n in range(len(questions))]


def _on(model: LocVLM, device: str, seed: int) -> tuple[LocVLM, torch.Generator]:
    """The model on a device, and a source of draws there."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return model.to(device), torch.Generator(device).manual_seed(seed)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise ConfigError(
            f"cannot run on device {device!r}: {str(error).splitlines()[0]}",
            where="predictor.device",
            fix="use cpu, or leave it at auto",
        ) from error


def _length(question: Question) -> int:
    """Roughly the characters of a question; a location is counted as its usual text."""
    texts = [part for message in question.messages for part in message.parts]
    return sum(len(part) if isinstance(part, str) else 7 * len(part) for part in texts)


def _slices(order: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(order), size):
        yield order[start : start + size]
