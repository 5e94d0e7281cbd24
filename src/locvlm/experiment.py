"""What an experiment may set, for all commands that compose one."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from locvlm.errors import ConfigError


@dataclass
class ExperimentConfig:
    """Keys that experiments, models and recipes set: `train`, `plan` and `audit` take them all.

    A command does not look at each of them, but the same `+experiment=...` fits every command.
    `quantization` is `4bit` or `8bit`: of the language model, beside which LoRA or the adapter
    learns.
    """

    name: str = ""
    seed: int = 0
    run: list[str] = MISSING
    stages: dict[str, Any] = field(default_factory=dict)
    model: Any = MISSING
    quantization: str | None = None
    checkpoint_activations: bool = False
    compile: bool = False
    lora: Any = None
    processor: Any = MISSING
    tokenizer: Any = MISSING
    coordinates: Any = MISSING
    geometry: Any = MISSING
    chat: Any = MISSING
    objectives: Any = MISSING
    prompts: Any = MISSING
    description_share: float = 1.0
    number_weights: list[float] = field(default_factory=list)
    answer_weight: float = 1.0
    data: Any = MISSING
    scenes: Any = MISSING
    scenes_folder: str = MISSING
    trainer: Any = None


def check_seed(seed: int) -> None:
    """Refuses seeds that numpy's generators do not take.

    Raises:
        ConfigError: `seed` is below 0, or has more than 32 bits.
    """
    if not 0 <= seed < 1 << 32:
        raise ConfigError(f"seed must be 0 to {(1 << 32) - 1}, got {seed}", where="seed")
