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
    if max_new_tokens < 1:
        raise ConfigError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    state = read_prompts(model, prompts)
    answers: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))  # whose answer each row of the batch continues; -1: ended
    for _ in range(max_new_tokens):
        ids = sampling(_sayable(model, state.logits))
        said = ids.tolist()
        for index, token in enumerate(said):
            if token == model.processor.end_id:
                rows[index] = -1
            elif rows[index] >= 0:
                answers[rows[index]].append(token)
        going = [index for index, row in enumerate(rows) if row >= 0]
        if not going:
            break
        if 2 * len(going) <= len(rows):  # half have ended: go on with the others only
            keep = torch.tensor(going, device=ids.device)
            state.select(keep)
            ids, rows = ids[keep], [rows[index] for index in going]
        state.read(model, ids[:, None])
    return answers


def score_ids(
    model: "LocVLM", prompts: Sequence[Prompt], candidates: Sequence[Sequence[Sequence[int]]]
) -> list[list[float]]:
    """Log-likelihoods of token sequences after each prompt, summed over their tokens.

    Each prompt is read once for all of its candidates.

    Args:
        model: in evaluation mode.
        prompts: as `Processor.prompt` makes them.
        candidates: for each prompt, its candidates' token ids with the end token.
    """
    state = read_prompts(model, prompts)
    device = state.logits.device
    rows = [row for row, own in enumerate(candidates) for _ in own]
    answers = [torch.tensor(ids) for own in candidates for ids in own]
    state.select(torch.tensor(rows, device=device))
    ids = torch.nn.utils.rnn.pad_sequence(answers, batch_first=True).to(device)
    logits = [state.logits[:, None]]
    if ids.shape[1] > 1:
        # Shorter candidates are padded on the right, where causal attention never looks.
        logits.append(state.read(model, ids[:, :-1]))
    likelihoods = torch.cat(logits, dim=1).float().log_softmax(dim=-1)
    likelihoods = likelihoods.gather(-1, ids[..., None])[..., 0].cpu()
    sums = iter(float(row[: len(ids)].sum()) for row, ids in zip(likelihoods, answers, strict=True))
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
    return logits.index_fill(-1, torch.tensor([token], device=logits.device), -torch.inf)
