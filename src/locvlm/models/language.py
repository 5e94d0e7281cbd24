"""The language model: any transformers causal LM, with its weights or fresh."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    DynamicCache,
    PreTrainedConfig,
    PreTrainedModel,
)

from locvlm.errors import CheckpointError, ConfigError
from locvlm.models.attention import attend_by_example, laid_out
from locvlm.models.drawn import changing
from locvlm.models.layout import Layout
from locvlm.models.loss import head_cross_entropy, weighted_cross_entropy

# Architectures whose logits are what their head gives; others scale or cap them afterwards.
PLAIN_HEADS = frozenset({"gemma", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"})


def pretrained(
    path: str, dtype: str = "auto", attention: str | None = None, vocab_size: int = 0
) -> PreTrainedModel:
    """A causal LM with its weights, from a local folder or the hub's cache.

    Args:
        path: folder or hub id; code that a hub repository brings is never run.
        dtype: of the weights: `auto`, `float32`, `bfloat16`, ...
        attention: transformers' `attn_implementation`; None: `sdpa`, with the examples of packed
            rows one by one, where the architecture has it.
        vocab_size: number of token ids that the model must know.

    Raises:
        CheckpointError: the weights cannot be had, or do not fit `vocab_size`.
    """
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            attn_implementation=attention,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (ImportError, OSError, ValueError) as error:
        raise cannot_load(path, error) from error
    model: PreTrainedModel = loaded[0]
    if missing := sorted(loaded[1]["missing_keys"]):
        raise CheckpointError(f"it lacks {len(missing)} weights, such as {missing[0]}", where=path)
    check_vocabulary(model, vocab_size, path)
    return model if attention else attend_by_example(model)


def cannot_load(path: str, error: Exception) -> CheckpointError:
    """What to raise where a language model cannot be had."""
    return CheckpointError(
        f"the language model {path} cannot be loaded: {error}",
        where="model.language_model.path",
        fix="download it once on a machine with a network (hf download "
        f"{path} --local-dir FOLDER) and give model.language_model.path=FOLDER",
    )


def check_vocabulary(model: PreTrainedModel, vocab_size: int, where: str) -> None:
    """Refuses a language model that does not know all token ids.

    Args:
        model: the language model.
        vocab_size: how many the tokenizer writes.
        where: the model comes from, for error messages.

    Raises:
        CheckpointError: it knows fewer.
    """
    n_rows = embeddings(model).num_embeddings
    if vocab_size > n_rows:
        raise CheckpointError(
            f"the tokenizer writes {vocab_size} token ids, the language model knows {n_rows}",
            where=where,
            fix="use the tokenizer that belongs to this language model",
        )


def fresh(
    architecture: str = "llama",
    *,
    attention: str | None = None,
    unit_init: bool = False,
    options: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    vocab_size: int | None = None,
) -> PreTrainedModel:
    """A causal LM with random weights.

    Args:
        architecture: transformers' model type, such as `llama` or `qwen2`.
        attention: as in `pretrained`. On CPUs with AVX512-BF16,
            `eager` in bf16 is the fastest for short sequences.
        unit_init: draw weights for a narrow model, see `init_unit`.
        options: of the architecture's configuration, such as `hidden_size`.
        dtype: of the weights: `float32`, `bfloat16`, ...
        vocab_size: number of token ids, in place of the one in `options`.

    Raises:
        ConfigError: transformers does not know the architecture, or it takes no such option or
            attention.
    """
    config = _config(architecture, dict(options or {}))
    if vocab_size is not None:
        config.vocab_size = vocab_size
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, attn_implementation=attention, dtype=dtype
        )
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"{architecture} cannot be built with attention {attention}: {error}",
            where="model.language_model.attention",
            fix="choose sdpa or eager",
        ) from error
    if attention is None:
        attend_by_example(model)
    return init_unit(model) if unit_init else model


@torch.no_grad()
def init_unit(model: PreTrainedModel) -> PreTrainedModel:
    """Draws weights so that every activation begins near unit size, whatever the width.

    transformers draws all weights with one small deviation, made for thousands of dimensions. In
    a narrow model the word embeddings then drown in the first attention output, and names stay
    unread for hundreds of steps. Here embeddings have deviation 1, matrices 1 / sqrt(fan in), and
    what writes into the residual stream begins at 0.
    """
    embeddings = {id(model.get_input_embeddings().weight)}
    head = model.get_output_embeddings().weight
    for name, parameter in model.named_parameters():
        if id(parameter) in embeddings:
            parameter.normal_()
        elif parameter is head:
            parameter.normal_(std=0.02)
        elif name.endswith(("o_proj.weight", "down_proj.weight")):
            parameter.zero_()
        elif parameter.ndim == 2:
            parameter.normal_(std=parameter.shape[1] ** -0.5)
    return model


@torch.no_grad()
def init_numbers(model: PreTrainedModel, tokens: Mapping[int, Sequence[int]]) -> None:
    """Draws the weights of integers' tokens so that numbers near in value look alike.

    Language models that were trained on text know which numbers are neighbours; one with random
    weights would have to find it out for each pair, and until then a box that is off by one is as
    wrong as any. The rows of an integer n, as it is read and as it is written, become
    cos(frequencies * n + phases): two integers have the inner product of a Gaussian of their
    distance, a tenth of the range wide.

    Args:
        model: the language model.
        tokens: the ids of each integer's tokens.

    Source: Rahimi and Recht, Random Features for Large-Scale Kernel Machines (2007).
    """
    if not tokens:
        return
    read: Any = model.get_input_embeddings().weight
    written: Any = model.get_output_embeddings().weight
    width = embeddings(model).embedding_dim
    frequencies = torch.randn(width) * 10 / max(1, *tokens)
    phases = torch.rand(width) * 2 * math.pi
    with changing(model):
        for number, ids in tokens.items():
            row = math.sqrt(2) * torch.cos(frequencies * number + phases)
            for token in ids:
                read[token] = row
                if written is not read:
                    written[token] = 0.05 * row


def fresh_arguments(model: PreTrainedModel) -> dict[str, Any]:
    """The arguments of `fresh` that build this architecture again, without its weights."""
    return {**architecture(model.config), "dtype": str(model.dtype).removeprefix("torch.")}


def architecture(config: PreTrainedConfig) -> dict[str, Any]:
    """The arguments of `fresh` that say the same as a configuration."""
    found = config.to_diff_dict()
    name = found.pop("model_type")
    known = AutoConfig.for_model(name).to_dict()
    return {
        "architecture": name,
        # A published config.json holds keys of its own besides, which say nothing to transformers.
        "options": {key: value for key, value in found.items() if key in known and key != "dtype"},
    }


def embeddings(model: PreTrainedModel) -> nn.Embedding:
    """The table of its tokens' embeddings."""
    table = model.get_input_embeddings()
    assert isinstance(table, nn.Embedding)
    return table


def caching(model: PreTrainedModel, cache: DynamicCache) -> dict[str, Any]:
    """The arguments of `model` that let it go on from `cache` and write into it.

    transformers 5.24 renamed `past_key_values` and warns at each call that uses the old name.
    """
    known = signature(model.forward).parameters
    return {"cache" if "cache" in known else "past_key_values": cache, "use_cache": True}


def next_token_loss(
    model: PreTrainedModel,
    inputs: Tensor,
    layout: Layout,
    labels: Tensor,
    weights: Tensor | None = None,
    position_ids: Tensor | None = None,
) -> Tensor:
    """The loss of the learned tokens; logits of all the others would take gigabytes.

    Args:
        model: the language model.
        inputs: (B, T, D) embeddings, padded on the right.
        layout: of the batch; it says which tokens predict a learned one.
        labels: (B, T), see `LocVLM.forward`.
        weights: (B, T) how much each label counts; None: all the same.
        position_ids: (B, T) of packed rows.
    """
    assert layout.learned is not None
    learned = layout.learned
    labels = labels.flatten()[learned + 1]
    weights = None if weights is None else weights.flatten()[learned + 1]

    def pick(hidden: Tensor) -> Tensor:
        return hidden.flatten(0, 1)[learned]

    with laid_out(model, layout, inputs) as known:
        # With a cache transformers would let packed examples see each other.
        arguments = {"inputs_embeds": inputs, "position_ids": position_ids, "use_cache": False}
        arguments |= known
        if model.config.model_type in PLAIN_HEADS:
            hidden = pick(model.get_decoder()(**arguments).last_hidden_state)
            return head_cross_entropy(model.get_output_embeddings(), hidden, labels, weights)
        with picking(model, lambda hidden: pick(hidden)[None]):
            logits: Tensor = model(**arguments).logits[0]
    return weighted_cross_entropy(logits, labels, weights)


@contextmanager
def picking(model: PreTrainedModel, pick: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Meanwhile `model` makes logits of what `pick` takes of its (B, T, D) hidden states only."""
    # Before the model's own head: what some models do to their logits later (scale, cap) stays.
    head: nn.Module = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, hidden: (pick(hidden[0]),))
    try:
        yield
    finally:
        hook.remove()


def _config(architecture: str, options: dict[str, Any]) -> PreTrainedConfig:
    try:
        known = AutoConfig.for_model(architecture).to_dict()
    except ValueError as error:
        raise ConfigError(
            f"transformers has no architecture {architecture!r}",
            where="model.language_model.architecture",
            fix="give its model type, such as llama or qwen2",
        ) from error
    if unknown := sorted(options.keys() - known.keys()):  # transformers would take any key
        raise ConfigError(
            f"{architecture} takes no {', '.join(unknown)}", where="model.language_model.options"
        )
    return AutoConfig.for_model(architecture, **options)
