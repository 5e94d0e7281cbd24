"""Attention inside each example of a packed row, in time that its own length costs.

transformers masks what an example must not see; scaled dot product attention still computes it, for
all pairs of a row's tokens. Here each example of a row is attended to on its own, causally, by the
kernels that need no mask.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward as _whole
from transformers.masking_utils import sdpa_mask

from locvlm.errors import ConfigError
from locvlm.models.layout import Layout, to_device

NAME = "sdpa_by_example"
_known: ContextVar[bool] = ContextVar("known", default=False)


def attend_by_example(model: PreTrainedModel) -> PreTrainedModel:
    """Lets a causal LM that uses `sdpa` attend to the examples of packed rows one by one.

    Models whose layers look back a limited way keep transformers' masks.
    """
    config = model.config
    windows = getattr(config, "layer_types", None) or ["full_attention"]
    limited = set(windows) != {"full_attention"} or getattr(config, "use_sliding_window", None)
    if config._attn_implementation == "sdpa" and not limited and not _window(config):
        model.set_attn_implementation(NAME)
    return model


@contextmanager
def laid_out(model: PreTrainedModel, layout: Layout, inputs: Tensor) -> Iterator[dict[str, Any]]:
    """Meanwhile a model that attends by example makes no mask.

    Args:
        model: any causal LM; others than those of `attend_by_example` keep their masks.
        layout: of the batch.
        inputs: (B, T, D) embeddings, padded on the right.

    Yields:
        Arguments for `model`, which it hands on to its attention: where examples begin. They are
        no part of the context, for blocks that compute again do so after it has ended.
    """
    if model.config._attn_implementation != NAME:
        yield _for_flash(layout, inputs.device) if is_flash(model) else {}
        return
    # Without a mask transformers would look for examples itself, which waits for the device.
    ones = torch.ones(inputs.shape[:2], dtype=torch.bool, device=inputs.device)
    token = _known.set(True)
    try:
        yield {"layout": layout, "attention_mask": ones}
    finally:
        _known.reset(token)


def is_flash(model: PreTrainedModel) -> bool:
    """Whether a causal LM uses FlashAttention, which takes no masks."""
    return "flash" in (model.config._attn_implementation or "")


def _for_flash(layout: Layout, device: torch.device) -> dict[str, Any]:
    """Where examples begin, for one call over all rows laid end to end.

    From positions transformers would find them in a single row only; in several, examples would
    silently see each other.
    """
    if layout.examples is None:
        return {}
    lengths = [part.stop - part.start for _, part in layout.examples]
    ends = to_device(torch.tensor([0, *accumulate(lengths)], dtype=torch.int32), device)
    longest = max(lengths)
    return {
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def _window(config: Any) -> int | None:
    """How far a model without `layer_types` looks back, such as Mistral; None: to the beginning."""
    if getattr(config, "layer_types", None) is not None:
        return None
    window: int | None = getattr(config, "sliding_window", None)
    return window


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    mask: Tensor | None = None if _known.get() else sdpa_mask(*args, **kwargs)
    return mask


@torch.compiler.disable  # a graph would be made anew for each way to lay out a batch
def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """(R, H, T, d) heads to (R, T, H, d), as transformers' own functions do."""
    layout: Layout | None = kwargs.pop("layout", None)
    if _known.get() and layout is None:
        raise ConfigError(
            f"{type(module).__name__} does not tell its attention where examples begin",
            where="model.language_model.attention",
            fix="set it to eager, or data.pack=false",
        )
    examples = None if layout is None else layout.examples
    if attention_mask is not None or examples is None or query.shape[2] != key.shape[2]:
        return _whole(module, query, key, value, attention_mask, **kwargs)
    if len(examples) == len(query):
        return _whole(module, query, key, value, None, **kwargs)
    rows: list[list[Tensor]] = [[] for _ in query]
    for row, part in examples:
        here = slice(row, row + 1), slice(None), part
        seen, _ = _whole(module, query[here], key[here], value[here], None, **kwargs)
        rows[row].append(seen)
    return torch.cat([torch.cat(row, dim=1) for row in rows]), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)
