"""Lets any transformers model speak, or say given words, through its own `generate`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor


class Steps(LogitsProcessor):
    """Counts the tokens that are generated: what `generate` returns may begin with the prompt."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.count += 1
        return scores


class Dictation(LogitsProcessor):
    """Makes a model say given tokens, and sums up how likely it finds them.

    Args:
        answers: B lists of token ids.
        device: of the model.
    """

    def __init__(self, answers: Sequence[Sequence[int]], device: torch.device):
        self.length = max(map(len, answers))
        rows = [[*ids, *([-1] * (self.length - len(ids)))] for ids in answers]
        self.ids = torch.tensor(rows, device=device)
        self.likelihoods = torch.zeros(len(answers), device=device)
        self.step = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        ids = self.ids[:, self.step]
        going, ids = ids >= 0, ids.clamp(min=0)[:, None]
        found = scores.float().log_softmax(dim=-1).gather(-1, ids)[:, 0]
        self.likelihoods += torch.where(going, found, 0.0)
        self.step += 1
        return torch.full_like(scores, -torch.inf).scatter(-1, ids, 0.0)


def end_ids(model: Any) -> list[int]:
    """The tokens that end what a model says, the usual one first."""
    found = model.generation_config.eos_token_id
    if found is None:
        found = model.config.get_text_config().eos_token_id
    return list(found) if isinstance(found, list | tuple) else [] if found is None else [found]


def speak_plainly(model: Any, pad_id: int) -> None:
    """Takes away what a model's own files say of generation, but for tokens that have a meaning.

    Samplings and penalties of repetition are for chats: the same digit stands twice in many boxes.
    """
    own = model.generation_config
    start = own.decoder_start_token_id
    if start is None:
        start = getattr(model.config.get_text_config(), "decoder_start_token_id", None)
    plain = GenerationConfig(
        bos_token_id=own.bos_token_id,
        eos_token_id=end_ids(model) or None,
        pad_token_id=pad_id,
        decoder_start_token_id=start,
        suppress_tokens=own.suppress_tokens,
        begin_suppress_tokens=own.begin_suppress_tokens,
    )
    for part in model.modules():  # BLIP-2's and Kosmos-2's language models generate themselves
        if hasattr(part, "generation_config"):
            part.generation_config = plain


@torch.inference_mode()
def say(model: Any, inputs: Mapping[str, Any], **decoding: Any) -> list[list[int]]:
    """The tokens that a model says after each prompt, up to its end.

    Args:
        model: after `speak_plainly`.
        inputs: what its processor made of the prompts, on its device.
        decoding: arguments of `generate`.
    """
    steps = Steps()
    ids = model.generate(**inputs, logits_processor=[steps], **decoding)
    ends = {*end_ids(model), model.generation_config.pad_token_id}
    return [list(_until(row, ends)) for row in ids[:, ids.shape[1] - steps.count :].tolist()]


@torch.inference_mode()
def listen(model: Any, inputs: Mapping[str, Any], answers: Sequence[Sequence[int]]) -> list[float]:
    """The log-likelihood of one answer to each prompt, summed over its tokens.

    The model's own `generate` is made to say it, so that this holds for every kind of model.

    Args:
        model: as in `say`.
        inputs: as in `say`.
        answers: token ids, with those that end an answer.
    """
    dictation = Dictation(answers, model.device)
    model.generate(
        **inputs,
        logits_processor=[dictation],
        do_sample=False,
        max_new_tokens=dictation.length,
    )
    return dictation.likelihoods.tolist()


def _until(ids: Sequence[int], ends: set[int]) -> Iterator[int]:
    for one in ids:
        if one in ends:
            return
        yield one
