"""The LightningModule: loss, optimizer, freezing, and nothing else."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from locvlm.data.collate import Batch, n_samples
from locvlm.errors import CheckpointError, ConfigError
from locvlm.models import LocVLM, lora
from locvlm.models.layout import find_layout
from locvlm.models.loss import learned_weight
from locvlm.models.weights import differences
from locvlm.training.callbacks import shown_each_step
from locvlm.training.strategies import FSDP, rank_part

NamedParameters: TypeAlias = Sequence[tuple[str, nn.Parameter]]
MakeOptimizer: TypeAlias = Callable[[NamedParameters], Optimizer]
MakeScheduler: TypeAlias = Callable[[Optimizer, int], LRScheduler]


class LocVLMModule(LightningModule):
    """Trains a `LocVLM` on batches of tokens and images.

    Checkpoints leave out what can never learn: weights beneath LoRA, and quantized ones.

    Args:
        model: the network; it knows nothing of Lightning and is saved without this class.
        optimizer: makes the optimizer from (name, parameter) pairs of what is trained, such as
            `functools.partial(torch.optim.AdamW, lr=2e-5)`; `_partial_: true` in configs.
        scheduler: makes the schedule from the optimizer and the step count; None keeps the rate.
        trained: names of the parts of `model` that learn; all others are frozen.

    Raises:
        ConfigError: `trained` names a part that the model does not have, or that cannot learn.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: MakeOptimizer,
        scheduler: MakeScheduler | None = None,
        trained: Sequence[str] = ("adapter", "language_model"),
    ):
        super().__init__()
        self.model = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        train_only(model, trained)
        self.strict_loading = not lora.is_fixed(model)  # checked by on_load_checkpoint instead

    def configure_model(self) -> None:
        """Shards the model where the strategy does; Lightning calls it when all processes run."""
        if isinstance(self.trainer.strategy, FSDP):
            self.trainer.strategy.shard(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leaves out what stays as it is, and notes of which language model it was."""
        if lora.is_fixed(self.model):
            checkpoint["fixed"] = lora.fingerprint(self.model)
            checkpoint["state_dict"] = self._kept(checkpoint["state_dict"])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of another model.

        Raises:
            CheckpointError: names what differs.
        """
        if not lora.is_fixed(self.model):
            return
        lora.check_fixed(self.model, checkpoint.get("fixed"), "ckpt_path")
        wanted = self._kept(self.state_dict())
        if lines := differences(wanted, checkpoint["state_dict"]):
            raise CheckpointError(
                "this is of another model:\n" + "\n".join(f"    {line}" for line in lines),
                where="ckpt_path",
                fix="give model and lora as in the run that wrote it",
            )

    def _kept(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: tensor
            for name, tensor in tensors.items()
            if lora.is_kept(name.removeprefix("model."))
        }

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Adds the layout while the batch is on the CPU, so that no step waits for its device."""
        if not isinstance(self.model, LocVLM) or "input_ids" not in batch:
            return batch
        layout = find_layout(
            batch["input_ids"],
            self.model.image_token_id,
            batch.get("attention_mask"),
            batch.get("labels"),
            batch.get("position_ids"),
        )
        return {**batch, "layout": layout}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        loss = self._loss(batch)
        size, in_bar = n_samples(batch), shown_each_step(self)
        self.log("train/loss", loss, prog_bar=in_bar, sync_dist=True, batch_size=size)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs the loss of a batch."""
        size = n_samples(batch)
        self.log("val/loss", self._loss(batch), prog_bar=True, sync_dist=True, batch_size=size)

    def _loss(self, batch: Batch) -> Tensor:
        loss: Tensor = self.model(**batch)
        return rank_part(loss, learned_weight(batch["labels"], batch.get("loss_weights")))

    def configure_optimizers(self) -> Any:
        """Optimizer and schedule of what is trained.

        Raises:
            ConfigError: the optimizer refuses its settings, or the schedule knows no length.
        """
        named = [
            (name.removeprefix("model."), parameter)
            for name, parameter in self.named_parameters()
            if parameter.requires_grad
        ]
        try:
            optimizer = self.optimizer(named)
        except ValueError as error:  # such as a negative learning rate
            raise ConfigError(str(error), where="optimizer", fix="change this setting") from error
        if self.scheduler is None:
            return optimizer
        scheduler = self.scheduler(optimizer, self._n_steps())
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        """As in any module, but gradients go at once.

        Lightning drops them after the next forward pass only: they would lie beside activations.
        """
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        optimizer.zero_grad(set_to_none=True)

    def _n_steps(self) -> int:
        n_steps = self.trainer.estimated_stepping_batches
        if not 0 < n_steps < float("inf"):
            raise ConfigError(
                "a schedule must know how many steps there are, and this data has no length",
                where="max_steps",
                fix="set max_steps, or train without a scheduler",
            )
        return int(n_steps)


def train_only(model: nn.Module, names: Sequence[str]) -> None:
    """Freezes `model` but for its parts `names`; frozen parts stay in evaluation mode.

    Raises:
        ConfigError: as in `trainable`.
    """
    learning = trainable(model, names)
    model.requires_grad_(False)
    for parameter in learning:
        parameter.requires_grad_(True)
    model.train()


def trainable(model: nn.Module, names: Sequence[str], where: str = "trained") -> list[nn.Parameter]:
    """The parameters of some parts: `encoder`, `adapter`, `language_model`, and `lora` if any.

    Args:
        model: a `LocVLM`.
        names: of the parts.
        where: they are named, for error messages.

    Raises:
        ConfigError: `model` has no such part, or it is one that cannot learn: the weights beneath
            LoRA, quantized ones, and those in float16.
    """
    parts = {name: list(part.parameters()) for name, part in model.named_children()}
    if weights := lora.lora_parameters(model):
        parts["lora"] = list(weights.values())
    if lora.is_fixed(model):
        del parts["language_model"]
        if "language_model" in names:
            raise ConfigError(
                "the language model's own weights cannot learn: they are quantized or beneath LoRA",
                where=where,
                fix="let LoRA learn in their place: trained=[adapter,lora], lora=default",
            )
    if unknown := sorted(set(names) - parts.keys()):
        hint = "; LoRA has to be added first: lora=default" if "lora" in unknown else ""
        raise ConfigError(
            f"no part named {', '.join(unknown)} in {type(model).__name__}",
            where=where,
            fix=f"choose from {', '.join(parts)}{hint}",
        )
    learning = [parameter for name in names for parameter in parts[name]]
    if any(parameter.dtype == torch.float16 for parameter in learning):
        raise ConfigError(
            "weights in float16 cannot learn: steps of a usual rate round to nothing",
            where="model.language_model.dtype",
            fix="set it to float32; trainer.precision=bf16-mixed computes in 16 bits all the same",
        )
    return learning
