"""Training on several devices: what the ranks share, and how."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning import LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch._dynamo.exc import BackendCompilerFailed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.utils.checkpoint import checkpoint as recompute
from transformers.modeling_layers import GradientCheckpointingLayer

from locvlm.errors import ConfigError
from locvlm.models import LocVLM
from locvlm.models.parts import read_parts
from locvlm.models.quantization import is_quantized, quantize_parts
from locvlm.models.weights import unread
from locvlm.training.sharded import load_sharded, save_sharded

# What of a model's methods computes, beside `forward`.
_METHODS = ("features", "generate", "score")


class FSDP(ModelParallelStrategy):
    """Shards weights, gradients and optimizer states over all processes, on GPUs or CPUs.

    It is torch's FSDP2. Checkpoints are folders into which each process writes its part; they can
    be resumed by another number of processes.

    Args:
        replicas: copies of the weights, each of them sharded over as many processes of following
            ranks; with one for each computer, weights travel within computers only.
    """

    def __init__(self, replicas: int = 1):
        super().__init__()
        self.replicas = replicas

    def setup_environment(self) -> None:
        """Makes one mesh of all processes.

        Raises:
            ConfigError: they cannot be dealt out to the replicas.
        """
        self._data_parallel_size = self.num_nodes * self.num_processes
        self._tensor_parallel_size = 1
        shard_size(self._data_parallel_size, self.replicas)
        super().setup_environment()

    def shard(self, module: LightningModule) -> None:
        """Shards a module, for its `configure_model`; does nothing if it is sharded already."""
        policy = mixed_precision(str(self.precision_plugin.precision))
        mesh = self.device_mesh["data_parallel"]
        if self.replicas > 1:
            shape = self.replicas, shard_size(mesh.size(), self.replicas)
            names = "replicate", "shard"
            mesh = init_device_mesh(mesh.device_type, shape, mesh_dim_names=names)
        shard(module, mesh, policy)

    def setup_optimizers(self, trainer: Any) -> None:
        """As in any strategy.

        Raises:
            ConfigError: the optimizer works on whole tensors only.
        """
        super().setup_optimizers(trainer)
        if any(type(one).__module__.startswith("bitsandbytes") for one in self.optimizers):
            raise ConfigError(
                "bitsandbytes' optimizers do not know sharded weights",
                where="optimizer",
                fix="give adamw, whose moments fsdp shards, or trainer=ddp",
            )

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        """Writes a folder, whole or not at all; each process writes its part."""
        save_sharded(checkpoint, Path(self.broadcast(filepath)))

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads what `save_checkpoint` wrote; never runs what it holds."""
        path = Path(self.broadcast(checkpoint_path))
        assert self.model is not None
        assert self.lightning_module is not None
        strict = self.lightning_module.strict_loading
        return load_sharded(path, self.model, self.optimizers, strict=strict)


def shard_size(n_processes: int, replicas: int) -> int:
    """How many processes share one set of weights, see `FSDP`.

    Raises:
        ConfigError: the processes cannot be dealt out to the replicas.
    """
    if replicas < 1 or n_processes % replicas:
        raise ConfigError(
            f"{n_processes} processes cannot hold {replicas} replicas",
            where="trainer.strategy.replicas",
            fix="give a number that divides trainer.num_nodes times trainer.devices",
        )
    return n_processes // replicas


def shard(module: nn.Module, mesh: DeviceMesh, policy: MixedPrecisionPolicy | None = None) -> None:
    """Shards what a LightningModule trains, in place: each transformer block by itself.

    All processes must hold the same weights; but of a language model that was built without them
    (`locvlm.models.parts.empty`) each reads its part only now. A block is whole only while it
    computes; what lies outside of blocks, such as embeddings, head and adapter, is whole during a
    forward and backward pass.

    Args:
        module: holds a `LocVLM` as `model`, and perhaps layers of its own beside it.
        mesh: of the processes; with two dimensions the first is that of replicas.
        policy: in which types is computed and averaged; None: in that of the weights.

    Raises:
        ConfigError: there are weights of 8 bits, which cannot be sharded.
    """
    policy = policy or MixedPrecisionPolicy()
    model = module.get_submodule("model")
    assert isinstance(model, LocVLM)
    split = partial(fully_shard, mesh=mesh, mp_policy=policy)
    if not isinstance(model, FSDPModule):  # as after an earlier stage
        small = {f"{name}.weight" for name, layer in model.named_modules() if is_quantized(layer)}
        later = {name: found for name, found in unread(model).items() if name not in small}
        for part in (*blocks(model), model):
            quantize_parts(part, torch.device(mesh.device_type))
            split(part)
        for name in _METHODS:
            register_fsdp_forward_method(model, name)
        read_parts(model, later)
    inside = set(model.modules())
    for layer in module.modules():
        own = next(layer.parameters(recurse=False), None)
        if layer not in inside and own is not None and not isinstance(layer, FSDPModule):
            split(layer)


def mixed_precision(precision: str) -> MixedPrecisionPolicy:
    """What Lightning's `precision` means where weights are sharded.

    Gradients are averaged in float32 in any case.

    Raises:
        ConfigError: it is float16, which would need its gradients scaled.
    """
    if precision.startswith("16"):
        raise ConfigError(
            f"fsdp does not train in {precision}",
            where="trainer.precision",
            fix="give bf16-mixed, bf16-true or 32-true",
        )
    # Weights travel between the processes in the type that they are used in.
    used = torch.bfloat16 if precision == "bf16-mixed" else None
    return MixedPrecisionPolicy(
        param_dtype=used, reduce_dtype=torch.float32, cast_forward_inputs=used is not None
    )


def compile_blocks(model: LocVLM, backend: str | Callable[..., Any] = "inductor") -> LocVLM:
    """Lets torch compile each transformer block, in place, when it first computes.

    Blocks of a kind share their code, so a model of 32 layers compiles as fast as one of two. It is
    compiled for any number of rows and tokens from the start, as each batch has others. Attention
    stays outside of the graphs: it goes example by example, each batch in another way. Weights keep
    their names, and answers come from the blocks as they were, whose cache grows with each token.

    Call it before `checkpoint_activations`.

    Args:
        model: its language model and encoder change how they compute.
        backend: of `torch.compile`; what it cannot compile raises a `ConfigError` then.
    """
    for block in blocks(model):
        block.forward = _compiled(block.forward, backend)
    return model


def checkpoint_activations(model: LocVLM) -> LocVLM:
    """Lets each transformer block forget what it computed and compute it again for its gradients.

    Memory for activations shrinks to one tensor per block; a step takes about a third longer.
    """
    for block in blocks(model):
        # The class's own switches work in training mode only, and frozen parts are not in it.
        block.forward = partial(recompute, block.forward, use_reentrant=False)
    return model


def blocks(model: LocVLM) -> list[nn.Module]:
    """The transformer blocks of encoder and language model."""
    language = [m for m in model.language_model.modules() if _is_block(m)]
    return [*model.encoder.vit.blocks, *language]


def _compiled(forward: Callable[..., Any], backend: str | Callable[..., Any]) -> Any:
    fast = torch.compile(forward, backend=backend, dynamic=True)

    def compute(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("use_cache"):
            return forward(*args, **kwargs)
        try:
            return fast(*args, **kwargs)
        except BackendCompilerFailed as error:
            raise ConfigError(
                f"torch cannot compile here: {str(error).splitlines()[0]}",
                where="compile",
                fix="install a C++ compiler for CPUs (g++), or triton for GPUs; or leave out "
                "compile=true",
            ) from error

    return compute


def rank_part(loss: Tensor, weight: Tensor) -> Tensor:
    """A rank's loss, scaled so that the mean over ranks is the loss of their batches as one.

    Ranks average gradients as if each had learned as much. Where one has fewer answers to learn, or
    shorter ones, its tokens would count for more than those of the others.

    Args:
        loss: mean over what this rank's batch teaches.
        weight: what that mean is over.
    """
    if not dist.is_initialized():
        return loss
    mean = weight.detach().float().clone()  # all_reduce writes into it
    dist.all_reduce(mean)
    mean /= dist.get_world_size()
    return loss * weight / mean.masked_fill(mean == 0, 1.0)


def _is_block(module: nn.Module) -> bool:
    return isinstance(module, GradientCheckpointingLayer)  # every block of transformers is one
