"""A model behind an OpenAI-compatible chat endpoint as a predictor."""

import base64
import io
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from math import exp, log
from typing import Any, TypeVar

from PIL import Image

from locvlm.dialects import Dialect
from locvlm.errors import ConfigError
from locvlm.images import decode_image
from locvlm.located import Located
from locvlm.predictors.http import Endpoint
from locvlm.predictors.places import decode, written
from locvlm.types import Question, Sample

T = TypeVar("T")
TOP = 20  # likeliest tokens that such endpoints give at most


class EndpointPredictor:
    """Answers by a chat endpoint: vLLM, SGLang, llama.cpp, OpenAI, ...

    Args:
        url: base of the API, such as `http://localhost:8000/v1`.
        model: its name there.
        dialect: how the model writes locations.
        request: further fields of each request, by the API's own names.
        key_variable: as in `Endpoint`.
        concurrency: requests at a time.
        timeout: as in `Endpoint`.
        retries: as in `Endpoint`.
        wait: as in `Endpoint`.

    Raises:
        ConfigError: a setting that cannot be, or a key that is not there.
    """

    def __init__(
        self,
        url: str,
        model: str,
        dialect: Dialect,
        *,
        request: Mapping[str, Any] | None = None,
        key_variable: str | None = None,
        concurrency: int = 8,
        timeout: float = 60.0,
        retries: int = 6,
        wait: float = 1.0,
    ):
        if concurrency < 1:
            raise ConfigError(
                f"concurrency must be at least 1, got {concurrency}", where="predictor.concurrency"
            )
        place = f"{url.rstrip('/')}/chat/completions"
        self.endpoint = Endpoint(place, key_variable, timeout, retries, wait)
        self.model = model
        self.dialect = dialect
        self.request = dict(request or {})
        self.concurrency = concurrency

    @property
    def name(self) -> str:
        """The model's."""
        return self.model

    @property
    def identity(self) -> Mapping[str, Any]:
        """Whom it asks, and for what."""
        return {
            "kind": "endpoint",
            "url": self.endpoint.url,
            "model": self.model,
            "request": self.request,
            "dialect": repr(self.dialect),
        }

    def answer(self, questions: Sequence[Question]) -> Iterator[str]:
        """What the model replies to each question."""
        return self._each(questions, self._reply)

    def score(self, questions: Sequence[Question]) -> Iterator[list[float]]:
        """The log-likelihood that an answer begins as each candidate does.

        Endpoints tell the likelihoods of the first token only, and of its likeliest values: a
        candidate that is not among them gets that of the least likely one.

        Raises:
            ConfigError: the endpoint tells no likelihoods, or candidates begin alike.
        """
        return self._each(questions, self._compare)

    def decode(self, text: str, question: Question) -> Located:
        """The locations in an answer, in pixels of the question's image.

        Raises:
            DataError: the question has no image.
        """
        return decode(self.dialect, text, question)

    def _each(
        self, questions: Sequence[Question], ask: Callable[[Question, threading.Event], T]
    ) -> Iterator[T]:
        failed, stopped = threading.Event(), threading.Event()

        def one(question: Question) -> T:
            if failed.is_set():  # one that comes before it says why
                raise CancelledError
            try:
                return ask(question, stopped)
            except Exception:
                failed.set()
                raise

        pool = ThreadPoolExecutor(self.concurrency)
        try:
            futures = [pool.submit(one, question) for question in questions]
            for future in futures:
                yield future.result()
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)

    def _reply(self, question: Question, stopped: threading.Event) -> str:
        message = self._choice(question, {}, stopped).get("message")
        if not isinstance(message, dict):
            raise self._no_chat(question)
        said = message.get("content") or message.get("refusal") or ""
        if isinstance(said, list):  # in parts
            said = "".join(str(part.get("text", "")) for part in said if isinstance(part, dict))
        return str(said).strip()

    def _compare(self, question: Question, stopped: threading.Event) -> list[float]:
        first = [_first_word(candidate) for candidate in question.candidates]
        if "" in first or len(set(first)) < len(first):
            raise ConfigError(
                "candidates that begin alike cannot be compared by an endpoint, which tells the "
                f"likelihood of the first token only: {', '.join(question.candidates)}",
                where=question.key,
                fix="leave such questions out, or ask a local model: predictor=transformers",
            )
        limits = self.request.keys() & {"max_tokens", "max_completion_tokens"} or {"max_tokens"}
        fields = {"logprobs": True, "top_logprobs": TOP, **dict.fromkeys(limits, 1)}
        found = self._choice(question, fields, stopped).get("logprobs")
        try:
            tokens = [
                (_first_word(str(token["token"])), float(token["logprob"]))
                for token in found["content"][0]["top_logprobs"]  # type: ignore[index]
            ]
            least = min(likelihood for _, likelihood in tokens)
        except (IndexError, KeyError, TypeError, ValueError):
            raise ConfigError(
                "this endpoint tells no likelihoods, so that closed questions cannot be asked",
                where=f"{self.endpoint.url}, {question.key}",
                fix="leave them out, or ask a local model: predictor=transformers",
            ) from None
        return _likelihoods(first, tokens, least)

    def _choice(
        self, question: Question, fields: Mapping[str, Any], stopped: threading.Event
    ) -> dict[str, Any]:
        body = {"model": self.model, "messages": self._messages(question)}
        reply = self.endpoint.post({**body, **self.request, **fields}, question.key, stopped)
        choices = reply.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise self._no_chat(question)
        return choices[0]

    def _messages(self, question: Question) -> list[dict[str, Any]]:
        sample = question.sample
        messages: list[dict[str, Any]] = [
            {"role": message.role, "content": written(self.dialect, message, sample)}
            for message in question.messages
        ]
        if sample.image is not None:
            image = {"type": "image_url", "image_url": {"url": data_url(sample)}}
            messages[0]["content"] = [image, {"type": "text", "text": messages[0]["content"]}]
        return messages

    def _no_chat(self, question: Question) -> ConfigError:
        return ConfigError(
            "the endpoint replies, but not as a chat endpoint does",
            where=f"{self.endpoint.url}, {question.key}",
            fix="give the base of an OpenAI-compatible API",
        )


def data_url(sample: Sample) -> str:
    """A sample's image as a URL that holds it: the file as it is, or its stored pixels as PNG.

    The latter where a server may not know the format, or might turn the image by its EXIF data.
    """
    data = sample.image
    assert data is not None
    if data[:2] == b"\xff\xd8" and b"Exif\0\0" not in data[: 1 << 16]:
        kind = "jpeg"
    elif data[:4] == b"\x89PNG":
        kind = "png"
    else:
        kind, buffer = "png", io.BytesIO()
        pixels = decode_image(data, sample.source).permute(1, 2, 0).contiguous()
        Image.fromarray(pixels.numpy()).save(buffer, "PNG")
        data = buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _first_word(text: str) -> str:
    found = re.search(r"\w+", text)
    return found[0].casefold() if found else ""


def _likelihoods(
    words: Sequence[str], tokens: Sequence[tuple[str, float]], least: float
) -> list[float]:
    """Sums for each word over the tokens that are it, or that it alone begins with."""
    sums = [0.0] * len(words)
    for token, likelihood in tokens:
        begun = [word for word in words if token and word.startswith(token)]
        if token in words or len(begun) == 1:
            sums[words.index(token if token in words else begun[0])] += exp(likelihood)
    return [log(total) if total > 0 else least for total in sums]
