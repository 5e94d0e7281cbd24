"""Any transformers image-text-to-text model as a predictor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from random import Random
from typing import Any, TypeVar

import torch
from PIL import Image

from locvlm.chat import ChatFormat
from locvlm.dialects import Dialect
from locvlm.errors import ConfigError
from locvlm.geometry import pad
from locvlm.images import decode_image, to_frame
from locvlm.located import Located
from locvlm.predictors.batches import in_batches
from locvlm.predictors.generating import end_ids, listen, say
from locvlm.predictors.places import decode
from locvlm.predictors.pretrained import load, source
from locvlm.predictors.prompting import Prompting
from locvlm.types import Question, Sample

P = TypeVar("P")
T = TypeVar("T")


class TransformersPredictor:
    """Answers with a transformers model, in its own prompt format and coordinate convention.

    Args:
        model_id: folder, or hub id.
        dialect: how the model writes locations.
        chat: how turns are written; None: by the model's chat template.
        image_in_text: as in `Prompting`.
        square: lays images on a square of the processor's mean colour first, as LLaVA-1.5's
            authors do.
        images: settings of the image processor, in place of the model's own.
        padding: whether a batch may hold prompts of several lengths; false for models whose
            answers would change by it (Kosmos-2).
        revision: of the hub's repository.
        dtype: of the weights; `auto`: as they are stored.
        attention: transformers' `attn_implementation`; None: its default.
        batch_size: questions at a time.
        max_new_tokens: length of an answer at most.
        temperature: 0 takes the likeliest token each time; above, tokens are drawn.
        top_p: where tokens are drawn: the share of probability that they are drawn from.
        seed: of the drawing.
        device: where the model runs, such as "cuda" or "cpu"; "auto" takes a GPU if there is one.

    Raises:
        CheckpointError: there is no such model that can be had.
        ConfigError: a setting that cannot be; names it.
    """

    def __init__(
        self,
        model_id: str,
        dialect: Dialect,
        chat: ChatFormat | None = None,
        *,
        image_in_text: bool = True,
        square: bool = False,
        images: Mapping[str, Any] | None = None,
        padding: bool = True,
        revision: str | None = None,
        dtype: str = "auto",
        attention: str | None = None,
        batch_size: int = 16,
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
        self.model_id = str(model_id)
        self.dialect = dialect
        self.square = square
        self.images = dict(images or {})
        self.padding = padding
        self.batch_size = batch_size
        self.decoding = {"max_new_tokens": max_new_tokens, **_choice(temperature, top_p)}
        self.seed = seed
        self.model, self.processor = load(
            self.model_id,
            revision=revision,
            images=self.images,
            dtype=dtype,
            attention=attention,
            device=device,
        )
        self.prompting = Prompting(self.processor, dialect, chat, image_in_text)
        self._identity: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """The folder or hub id."""
        return self.model_id

    @property
    def identity(self) -> Mapping[str, Any]:
        """Which weights, spoken to how, and how tokens are chosen."""
        if not self._identity:
            chat = self.prompting.chat
            self._identity = {
                "kind": "transformers",
                "class": type(self.model).__name__,
                **source(self.model_id, self.model),
                "dtype": str(self.model.dtype).removeprefix("torch."),
                "chat": "template" if chat is None else asdict(chat),
                "image_in_text": self.prompting.image_in_text,
                "square": self.square,
                "images": self.images,
                "dialect": repr(self.dialect),
                **self.decoding,
            }
            if self.decoding["do_sample"]:  # else nothing is drawn
                self._identity["seed"] = self.seed
        return self._identity

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """The text generated for each question."""
        # Texts are made at the end: tokenizers must not be used by two threads at a time.
        return [self._text(ids) for ids in self._batched(questions, self._say, self._prompts)]

    def score(self, questions: Sequence[Question]) -> list[list[float]]:
        """The log-likelihood of each candidate of each question, summed over its tokens."""
        pairs = [replace(one, candidates=(text,)) for one in questions for text in one.candidates]
        found = iter(self._batched(pairs, self._listen, self._dictated))
        return [[next(found) for _ in question.candidates] for question in questions]

    def decode(self, text: str, question: Question) -> Located:
        """The locations in an answer, in pixels of the question's image.

        Raises:
            DataError: the question has no image.
        """
        return decode(self.dialect, text, question)

    def _batched(
        self,
        questions: Sequence[Question],
        run: Callable[[P], Sequence[T]],
        prepare: Callable[[list[Question]], P],
    ) -> list[T]:
        """`run` on batches of which all questions have an image, or none has."""
        kinds: dict[tuple[bool, int], list[int]] = {}
        for n, question in enumerate(questions):
            kinds.setdefault(self._kind(question), []).append(n)
        found: dict[int, T] = {}
        for numbers in kinds.values():
            alike = [questions[n] for n in numbers]
            results = in_batches(alike, self.batch_size, run, prepare)
            found.update(zip(numbers, results, strict=True))
        return [found[n] for n in range(len(questions))]

    def _kind(self, question: Question) -> tuple[bool, int]:
        length = 0
        if not self.padding:
            prompt = self.prompting.prompt(question)
            length = len(self.processor.tokenizer(prompt).input_ids)
        return question.sample.image is not None, length

    def _prompts(self, batch: Sequence[Question]) -> tuple[Any, int]:
        """Inputs of the model, and the seed of what it draws."""
        keys = [question.key for question in batch]
        return self._inputs(batch), Random(f"{self.seed} {keys}").getrandbits(63)

    def _say(self, prompts: tuple[Any, int]) -> list[list[int]]:
        inputs, seed = prompts
        if self.decoding["do_sample"]:
            torch.manual_seed(seed)
        return say(self.model, self._on_device(inputs), **self.decoding)

    def _dictated(self, batch: Sequence[Question]) -> tuple[Any, list[list[int]]]:
        """Inputs of the model, and the tokens of the one candidate of each question."""
        answers = [self._answer_ids(question, *question.candidates) for question in batch]
        return self._inputs(batch), answers

    def _listen(self, dictated: tuple[Any, list[list[int]]]) -> list[float]:
        inputs, answers = dictated
        return listen(self.model, self._on_device(inputs), answers)

    def _on_device(self, inputs: Any) -> Any:
        return inputs.to(self.model.device, self.model.dtype)

    def _inputs(self, batch: Sequence[Question]) -> Any:
        prompts = [self.prompting.prompt(question) for question in batch]
        pictures: dict[int, Image.Image] = {}
        for question in batch:
            if question.sample.image is not None and id(question.sample) not in pictures:
                pictures[id(question.sample)] = self._picture(question.sample)
        of = [[pictures[id(q.sample)]] for q in batch if id(q.sample) in pictures]
        start = self.processor.tokenizer.bos_token
        return self.processor(
            text=prompts,
            images=of or None,
            padding=True,
            return_tensors="pt",
            **({"add_special_tokens": False} if start and prompts[0].startswith(start) else {}),
        )

    def _picture(self, sample: Sample) -> Image.Image:
        assert sample.image is not None
        pixels = decode_image(sample.image, sample.source)
        if self.square:
            height, width = pixels.shape[1:]
            mean = self.processor.image_processor.image_mean
            fill = [int(255 * value) for value in mean]  # cut off, as LLaVA does
            pixels = to_frame(pixels, pad(width, height), max(width, height), fill)
        return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())

    def _answer_ids(self, question: Question, text: str) -> list[int]:
        """The tokens of a candidate and the one that ends it."""
        tokenizer = self.processor.tokenizer
        ends = end_ids(self.model)
        config = self.model.config
        if config.is_encoder_decoder or config.get_text_config().is_encoder_decoder:
            ids = tokenizer(text, add_special_tokens=False).input_ids
        else:
            after = self.prompting.answer(question, text)
            ids = self._following(self.prompting.prompt(question), after)
        end = next((n for n, one in enumerate(ids) if one in ends), len(ids))
        return [*ids[:end], *(ids[end : end + 1] or ends[:1])]

    def _following(self, before: str, after: str) -> list[int]:
        """The tokens of a text that follows another one whose tokens stay as they are."""
        # On its own, its first word could be split in another way.
        for context in (before, before[-1:], ""):
            first, whole = self.processor.tokenizer(
                [context, context + after], add_special_tokens=False
            ).input_ids
            if whole[: len(first)] == first:
                break
        return whole[len(first) :]

    def _text(self, ids: Sequence[int]) -> str:
        """Tokens as text. Other special ones stay: Qwen2-VL's boxes stand between such."""
        start = self.processor.tokenizer.bos_token_id
        kept = [one for one in ids if one != start]
        return str(self.processor.tokenizer.decode(kept, skip_special_tokens=False)).strip()


def _choice(temperature: float, top_p: float) -> dict[str, Any]:
    """The arguments of `generate` for how tokens are chosen."""
    if temperature < 0 or not 0 < top_p <= 1:
        raise ConfigError(
            f"temperature must be 0 or more and top_p above 0 and at most 1, got {temperature} "
            f"and {top_p}",
            where="predictor",
        )
    if temperature == 0:
        return {"do_sample": False}
    return {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
