"""The most memory of a training step, found by running it on tensors without contents."""

import math
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from locvlm.models.language import embeddings, next_token_loss
from locvlm.models.layout import Layout
from locvlm.training.flops import Work
from locvlm.training.strategies import blocks


class Load(NamedTuple):
    """What one device works on in a step.

    rows:    of the batch; a packed row holds several examples, here it counts as one
    tokens:  of a row, image tokens included
    learned: of a row
    images:  of a row
    """

    rows: int
    tokens: int
    learned: int
    images: int = 1

    @property
    def work(self) -> Work:
        """What it costs, see `locvlm.training.flops.Cost`."""
        pairs = self.rows * self.tokens**2
        each = (self.images, self.tokens, self.learned)
        images, tokens, learned = (self.rows * number for number in each)
        return Work(self.rows, images, tokens, pairs, learned)


_FEW = 3  # blocks: the first, the last, and one between them


@dataclass(frozen=True, slots=True)
class Step:
    """Bytes beside weights and the optimizer's state.

    activations: at the end of the last block's forward pass, copies of weights in the type that is
                 computed in included
    logits:      what the loss and its gradients take on top
    apart:       the most of all but the gradients of weights
    together:    the most, those gradients included
    """

    activations: int
    logits: int
    apart: int
    together: int

    def sharded(self, n: int) -> "Step":
        """Where each of `n` devices keeps a part of the gradients."""
        return replace(self, together=self.apart + math.ceil((self.together - self.apart) / n))


class Live(TorchDispatchMode):
    """Counts the bytes of tensors that operations make, while they live.

    Args:
        known: tensors that were there before; they do not count.
    """

    def __init__(self, known: Iterable[Tensor] = ()):
        super().__init__()
        self._known = {tensor.untyped_storage()._cdata for tensor in known}
        self._living: dict[int, Any] = {}
        self._gradients: set[int] = set()
        self._of_gradients = 0
        self.now = self.most = self.apart = 0

    def since(self) -> tuple[int, int]:
        """The most since it was asked last: of all but gradients of weights, and of all."""
        found = self.apart, self.most
        self.apart, self.most = self.now - self._of_gradients, self.now
        return found

    def is_gradient(self, tensor: Tensor) -> None:
        """From now on this tensor is the gradient of a weight."""
        storage = tensor.untyped_storage()
        if storage._cdata in self._living and storage._cdata not in self._gradients:
            self._gradients.add(storage._cdata)
            self._of_gradients += storage.nbytes()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation and counts what it made."""
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage())
        self.most = max(self.most, self.now)
        self.apart = max(self.apart, self.now - self._of_gradients)
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or key in self._living:
            return
        self._living[key] = weakref.ref(storage, lambda _: self._drop(key, size))
        self.now += size

    def _drop(self, key: int, size: int) -> None:
        del self._living[key]
        self.now -= size
        if key in self._gradients:
            self._gradients.remove(key)
            self._of_gradients -= size


def trace(model: Any, load: Load, half: torch.dtype | None = None) -> Step:
    """Runs forward and backward pass of a step, and follows what lives.

    Call it within a `FakeTensorMode`. What a tensor's own kernels take for a moment is not seen.
    Where the language model's blocks are all alike, only a few of them run: each moment's bytes
    grow by the same number with each block.

    Args:
        model: encoder, adapter and language model, with what learns set.
        load: of the step.
        half: the type of mixed precision; None: that of the weights.
    """
    owner, layers = _layers(model.language_model)
    if owner is None or not load.tokens or len(layers) <= _FEW + 1 or not _are_alike(model, layers):
        return _step(_run(model, load, half))
    runs = []
    for n in (_FEW, _FEW + 1):
        owner.layers = layers[:n]
        runs.append(_run(model, load, half))
    owner.layers = layers
    more = len(layers) - _FEW
    few, one_more = ([moments[i] for i in (0, 1, 2, -2, -1)] for moments in runs)
    return _step(
        [
            _Moment(*(a + more * (b - a) for a, b in zip(first, second, strict=True)))
            for first, second in zip(few, one_more, strict=True)
        ]
    )


class _Moment(NamedTuple):
    """Bytes in a part of a step: at its end, and the most without and with weights' gradients."""

    end: int
    apart: int
    together: int


def _step(moments: list[_Moment]) -> Step:
    activations = moments[0].end
    return Step(
        activations=activations,
        logits=moments[1].together - activations if len(moments) > 1 else 0,
        apart=max(moment.apart for moment in moments),
        together=max(moment.together for moment in moments),
    )


def _run(model: Any, load: Load, half: torch.dtype | None) -> list[_Moment]:
    """Of the blocks' forward pass, the loss, the backward pass of each block, and the rest."""
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    layers = blocks(model)[len(model.encoder.vit.blocks) :]
    moments: list[_Moment] = []

    def mark(*_: Any) -> None:
        moments.append(_Moment(live.now, *live.since()))

    def follow(module: nn.Module, args: Any, hidden: Any) -> None:
        if module is layers[-1]:
            mark()
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        if hidden.requires_grad:
            hidden.register_hook(mark)

    with Live([*model.parameters(), *model.buffers()]) as live:
        hooks = [
            weight.register_post_accumulate_grad_hook(lambda one: live.is_gradient(one.grad))
            for weight in learning
        ]
        hooks += [layer.register_forward_hook(follow) for layer in layers]
        with torch.autocast("cpu", half, enabled=half is not None):
            loss = _loss(model, load)
        if not load.tokens:
            mark()
        loss.backward()
        del loss
        if load.tokens:
            mark()
    for hook in hooks:
        hook.remove()
    for weight in learning:
        weight.grad = None
    return moments if load.tokens else [_Moment(moments[0].end, *live.since())]


def _layers(language: nn.Module) -> tuple[Any, nn.ModuleList]:
    """What holds a language model's blocks as `layers`, and these; None where nothing does."""
    for module in language.modules():
        layers = getattr(module, "layers", None)
        if isinstance(layers, nn.ModuleList):
            return module, layers
    return None, nn.ModuleList()


def _are_alike(model: Any, layers: nn.ModuleList) -> bool:
    kinds = getattr(model.language_model.config, "layer_types", None) or ()
    shapes = {
        tuple((name, one.shape, one.dtype, one.requires_grad) for name, one in x.named_parameters())
        for x in layers
    }
    held = len(blocks(model)) - len(model.encoder.vit.blocks)
    return len(set(kinds)) <= 1 and len(shapes) == 1 and held == len(layers)


def _loss(model: Any, load: Load) -> Tensor:
    """As `LocVLM.forward` gives it."""
    encoder, language = model.encoder, model.language_model
    shape = load.rows * load.images, 3, encoder.image_size, encoder.image_size
    with torch.set_grad_enabled(any(weight.requires_grad for weight in encoder.parameters())):
        features = encoder(torch.empty(shape, dtype=torch.uint8))
    if not load.tokens:  # a stage that trains the encoder alone
        return features.float().sum()
    ids = torch.zeros(load.rows, load.tokens, dtype=torch.long)
    words = embeddings(language)(ids)
    images = model.adapter(features).to(words.dtype).flatten(0, 1)
    places = torch.zeros(len(images), dtype=torch.long)
    inputs = words.flatten(0, 1).index_copy(0, places, images).view_as(words)
    del words, images, features
    learned = torch.zeros(load.rows * load.learned, dtype=torch.long)
    layout = Layout(places, learned, None, load.rows)
    return next_token_loss(language, inputs, layout, ids, torch.empty(ids.shape))
