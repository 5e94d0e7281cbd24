"""What an experiment may set, for all commands that compose one."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


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
