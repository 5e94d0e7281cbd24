"""The LightningModule: loss, optimizer, freezing, and nothing else."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from locvlm.data.collate import Batch, n_samples
from locvlm.errors import ConfigError

NamedParameters: TypeAlias = Sequence[tuple[str, nn.Parameter]]
MakeOptimizer: TypeAlias = Callable[[NamedParameters], Optimizer]
MakeScheduler: TypeAlias = Callable[[Optimizer, int], LRScheduler]


class LocVLMModule(LightningModule):
    """Trains a `LocVLM` on batches of tokens and images.

    Args:
        model: the network; it knows nothing of Lightning and is saved without this class.
        optimizer: makes the optimizer from (name, parameter) pairs of what is trained, such as
            `functools.partial(torch.optim.AdamW, lr=2e-5)`; `_partial_: true` in configs.
        scheduler: makes the schedule from the optimizer and the step count; None keeps the rate.
        trained: names of the parts of `model` that learn; all others are frozen.

    Raises:
        ConfigError: `trained` names a part that the model does not have.
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

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        loss: Tensor = self.model(**batch)
        self.log("train/loss", loss, prog_bar=True, batch_size=n_samples(batch))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs the loss of a batch."""
        loss = self.model(**batch)
        size = n_samples(batch)
        self.log("val/loss", loss, prog_bar=True, sync_dist=True, batch_size=size)

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
        ConfigError: `model` has no such part.
    """
    parts = dict(model.named_children())
    if unknown := sorted(set(names) - parts.keys()):
        raise ConfigError(
            f"no part named {', '.join(unknown)} in {type(model).__name__}",
            where="trained",
            fix=f"choose from {', '.join(parts)}",
        )
    model.requires_grad_(False)
    for name in names:
        parts[name].requires_grad_(True)
    model.train()
