"""Generation and scoring with a key-value cache, for a batch of prompts of any lengths."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from locvlm.errors import ConfigError
from locvlm.models.prefix import read_prompts
from locvlm.processor import Processor, Prompt

if TYPE_CHECKING:
    from locvlm.models.locvlm import LocVLM


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen.

    Args:
        temperature: 0 takes the likeliest token; 1 draws as the model believes.
        top_p: draws among the likeliest tokens that together have this probability.
        generator: source of the draws, on the model's device; None: torch's own.

    Raises:
        ConfigError: a negative or endless temperature, or `top_p` outside (0, 1].
    """

    temperature: float = 0.0
    top_p: float = 1.0
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ConfigError(f"temperature must be 0 or more, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be above 0 and at most 1, got {self.top_p}")

    def __call__(self, logits: Tensor) -> Tensor:
        """(B, V) logits to (B,) token ids."""
        if self.temperature == 0:
            return logits.argmax(dim=-1)
        probabilities = torch.softmax(logits.float() / self.temperature, dim=-1)
        if self.top_p < 1:
            ordered, order = probabilities.sort(dim=-1, descending=True)
            # A token stays while those before it have not reached top_p; so the first always does.
            outside = ordered.cumsum(dim=-1) - ordered >= self.top_p
            kept = ordered.masked_fill(outside, 0.0)
            probabilities = torch.zeros_like(kept).scatter(-1, order, kept)
        return torch.multinomial(probabilities, 1, generator=self.generator)[:, 0]


def generate_ids(
    model: "LocVLM",
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    sampling: Sampling,
) -> list[list[int]]:
    """What the model says after each prompt, without the end token.

    Args:
        model: in evaluation mode.
        prompts: as `Processor.prompt` makes them.
        max_new_tokens: longer answers are cut.
        sampling: how tokens are chosen.

    Raises:
        ConfigError: not even one token may be said.
        DataError: a prompt is longer than the language model can read.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    for step in _steps(model, prompts, max_new_tokens, sampling):
        for number, token in step:
            answers[number].append(token)
    return answers


def stream(
    model: "LocVLM",
    prompt: Prompt,
    *,
    max_new_tokens: int = 128,
    sampling: Sampling | None = None,
) -> Iterator[str]:
    """What `LocVLM.generate` says to one prompt, in pieces, each as soon as it is known.

    Args:
        model: in any mode.
        prompt: from `LocVLM.prompt` or `Processor.prompt`.
        max_new_tokens: longer answers are cut.
        sampling: how tokens are chosen; None takes the likeliest.

    Raises:
        ConfigError, DataError: as in `generate_ids`.
    """
    steps = _steps(model, [prompt], max_new_tokens, sampling or Sampling())
    ids: list[int] = []
    told = ""
    while True:
        with asking(model):  # not while the caller has the piece: gradients are its own matter
            step = next(steps, None)
        ids += [token for _, token in step or ()]
        text = model.processor.generated_text(ids)
        # A character of several tokens shows as a replacement until its last one is there.
        if text.startswith(told) and (
            step is None or not text.endswith("\N{REPLACEMENT CHARACTER}")
        ):
            if piece := text[len(told) :]:
                yield piece
            told = text
        if step is None:
            return


def _steps(
    model: "LocVLM", prompts: Sequence[Prompt], max_new_tokens: int, sampling: Sampling
) -> Iterator[list[tuple[int, int]]]:
    """One token after the other: the numbers of prompts whose answers go on, each with its next."""
    if max_new_tokens < 1:
        raise ConfigError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    if not prompts:
        return
    state = read_prompts(model, prompts)
    going = {place for place, n in enumerate(state.prompts) if n >= 0}
    for _ in range(max_new_tokens):
        ids = sampling(_sayable(model, state.logits.flatten(0, 1)))
        said = ids.tolist()
        going -= {place for place in going if said[place] == model.processor.end_id}
        yield [(state.prompts[place], said[place]) for place in going]
        if not going:
            return
        if 2 * len(going) <= len(said):  # half have ended: go on with the others only
            kept = state.keep(sorted(going))
            ids = ids[torch.tensor(kept, device=ids.device)]
            going = {new for new, old in enumerate(kept) if old in going}
        state.say(model, ids)


def score_texts(
    model: "LocVLM", prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]]
) -> list[list[float]]:
    """Log-likelihoods of whole answers after each prompt, summed over their tokens.

    Each prompt is read once for all of its candidates.

    Args:
        model: in evaluation mode.
        prompts: as `Processor.prompt` makes them.
        candidates: the answers to compare, for each prompt.
    """
    spoken = [[answer_ids(model.processor, text) for text in own] for own in candidates]
    state = read_prompts(model, prompts)
    place_of = {n: place for place, n in enumerate(state.prompts)}
    answers = [(place_of[n], torch.tensor(ids)) for n, own in enumerate(spoken) for ids in own]
    first = state.logits.flatten(0, 1)
    longer = [(place, ids[:-1]) for place, ids in answers if len(ids) > 1]
    behind = iter(state.after(model, longer) if longer else ())
    logits = [
        torch.cat([first[place, None], next(behind)]) if len(ids) > 1 else first[place, None]
        for place, ids in answers
    ]
    ids = torch.cat([ids for _, ids in answers]).to(first.device)
    likelihoods = torch.cat(logits).float().log_softmax(dim=-1).gather(-1, ids[:, None])[:, 0]
    parts = likelihoods.cpu().split([len(ids) for _, ids in answers])
    sums = iter(float(part.sum()) for part in parts)
    return [[next(sums) for _ in own] for own in candidates]


def answer_ids(processor: Processor, text: str) -> list[int]:
    """An answer's tokens and its end, as they follow where the assistant begins to speak."""
    chat = processor.chat
    # Tokenized after its opening: on its own, its first word could be split in another way.
    opening, answer = chat.assistant, chat.answer.replace("{text}", text) + chat.end
    before, whole = processor.tokenizer(
        [opening, opening + answer], add_special_tokens=False
    ).input_ids
    return whole[len(before) :]


@contextmanager
def asking(model: "LocVLM") -> Iterator[None]:
    """Evaluation mode without gradients, and the mode of before afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def _sayable(model: "LocVLM", logits: Tensor) -> Tensor:
    """`logits` without the image token: it is a place for images, not a word."""
    token = model.image_token_id
    if token is None or token >= logits.shape[-1]:
        return logits
    logits = logits.clone()
    logits[:, token] = -torch.inf
    return logits
