"""What Lightning and torch say of things that are meant as they are."""

import logging
import warnings

QUIET = (
    ".*does not have many workers",
    "The number of training batches .* is smaller than the logging interval",
    "The `srun` command is available on your system but is not used",
    "Found .* in eval mode at the start of training",  # frozen parts
    "Experiment logs directory .* exists and is not empty",
    "Total length of `list` across ranks is zero",  # a stage without validation data
    "FSDP2-wrapped module .* returned a view tensor",  # nothing is written into it
    "You have overridden `on_before_batch_transfer` in `LightningModule`",  # data has none
    "'set_vital' is deprecated",
    ".*LeafSpec.* is deprecated",
)


def quiet() -> None:
    """Silences them for good; for commands."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in QUIET:
        warnings.filterwarnings("ignore", message)
