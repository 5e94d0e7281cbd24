"""Says what a training takes: `python -m locvlm.plan model=locvlm_l trainer.devices=8`.

Memory, FLOPs and hours, without weights and without a network; see docs/plan.md.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING, DictConfig, OmegaConf

from locvlm.cli import hydra_command, print_table
from locvlm.config import check_targets, nearest
from locvlm.errors import ConfigError
from locvlm.experiment import ExperimentConfig

if TYPE_CHECKING:
    from torch import nn

    from locvlm.training.plan import Memory


@dataclass
class ExamplesConfig:
    """What an epoch of a stage holds; see `conf/plan.yaml`."""

    number: int = MISSING
    text: int = MISSING
    learned: int = MISSING
    images: int = 1


@dataclass
class PlanConfig(ExperimentConfig):
    """What `conf/plan.yaml` may hold: what shapes a training, as in `conf/train.yaml`."""

    gpu: str = MISSING
    peak: float | None = None
    mfu: float = 0.4
    examples: dict[str, ExamplesConfig] = field(default_factory=dict)
    architectures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """What a stage takes; memory in bytes on one device, FLOPs of all devices together."""

    name: str
    parameters: Mapping[str, tuple[int, int]]  # of each part: all, and those that learn
    memory: "Memory"
    accumulates: bool
    tokens: int  # per epoch
    steps: int  # of the optimizer, per epoch
    total_steps: int
    flops: int  # in all
    hours: float
    features: int  # bytes of its images' features in 16 bits, on disk


def plan(cfg: DictConfig) -> list[StagePlan]:
    """What each stage that `cfg` runs takes.

    Raises:
        ConfigError: the number of devices or their speed is not said, or the language model's
            architecture is not known here.
    """
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    check_targets(settings)
    if unknown := [name for name in cfg.run if name not in cfg.stages]:
        fix = f"choose from {', '.join(cfg.stages)}"
        raise ConfigError(f"no stage named {', '.join(unknown)}", where="run", fix=fix)
    return [_stage(settings, name) for name in cfg.run]


def _stage(settings: dict[str, Any], name: str) -> StagePlan:
    from hydra.utils import instantiate

    from locvlm.training.flops import cost
    from locvlm.training.module import train_only
    from locvlm.training.plan import gathered, hours, memory
    from locvlm.training.step import Load

    stage, trainer = settings["stages"][name], settings["trainer"]
    n_devices = _n_devices(trainer)
    images_alone = stage["trained"] == ["encoder"]
    model = _model(settings)
    train_only(model, stage["trained"])
    held = settings["examples"].get(name) or settings["examples"]["instruct"]
    encoder: Any = model.get_submodule("encoder")
    image_tokens = held["images"] * encoder.n_patches
    load = Load(
        rows=stage.get("batch_size") or stage["data"]["batch_size"],
        tokens=0 if images_alone else held["text"] + image_tokens,
        learned=0 if images_alone else held["learned"],
        images=held["images"],
    )
    per_example = cost(model).flops(load._replace(rows=1).work)
    parameters = {part: _parameters(child) for part, child in model.named_children()}
    accumulated = trainer.get("accumulate_grad_batches") or 1
    needed = memory(
        model,
        instantiate(stage["optimizer"], _convert_="all"),
        load,
        precision=trainer["precision"],
        quantization=settings["quantization"],
        gpu=trainer["accelerator"] != "cpu",
    )
    shared = _shared(needed, trainer.get("strategy"), n_devices, gathered(model))
    number = stage["data"].get("epoch_length") or held["number"]
    batch = load.rows * n_devices * accumulated
    steps = math.ceil(number / batch)
    limit = stage.get("max_steps") or -1
    total = limit if limit > 0 else steps * (stage.get("max_epochs") or 1)
    flops = per_example * batch * total
    return StagePlan(
        name=name,
        parameters=parameters,
        memory=shared,
        accumulates=accumulated > 1,
        tokens=load.tokens * number,
        steps=steps,
        total_steps=total,
        flops=flops,
        hours=hours(flops, n_devices, _peak(settings), settings["mfu"]),
        features=2 * number * held["images"] * encoder.n_patches * encoder.width,
    )


def _model(settings: dict[str, Any]) -> "nn.Module":
    """The model's parts without memory for their weights, with LoRA if there is any."""
    import torch
    from hydra.utils import instantiate
    from torch import nn

    nodes = settings["model"]
    encoder = {key: value for key, value in nodes["encoder"].items() if key != "pretrained"}
    adapter = nodes["adapter"] | {"pretrained": None}
    with torch.device("meta"):
        parts = nn.ModuleDict({"encoder": instantiate(encoder, _convert_="all")})
        language = _language_model(settings)
        width = language.get_input_embeddings().embedding_dim
        make = instantiate(adapter, _convert_="all")
        parts["adapter"] = make(parts["encoder"].width, width)
        parts["language_model"] = language
        if settings["lora"] is not None:
            instantiate(settings["lora"], _convert_="all")(model=parts)
    return parts


def _language_model(settings: dict[str, Any]) -> Any:
    from hydra.utils import instantiate

    from locvlm.models.language import fresh

    node = settings["model"]["language_model"]
    if "path" not in node:
        import torch

        with torch.device("cpu"):
            processor = instantiate(settings["processor"], _convert_="all")
        return instantiate(node, _convert_="all")(vocab_size=len(processor.tokenizer))
    arguments = settings["architectures"].get(node["path"]) or _published(node["path"])
    dtype = arguments.get("dtype", "float32") if node["dtype"] == "auto" else node["dtype"]
    return fresh(**(arguments | {"dtype": dtype}))


def _published(path: str) -> dict[str, Any]:
    from transformers import AutoConfig

    from locvlm.models.language import architecture

    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the architecture of {path} is not known here",
            where="model.language_model.path",
            fix="give a folder that holds its config.json, or its sizes under `architectures`",
        ) from error
    dtype = str(config.dtype or "float32").removeprefix("torch.")
    return architecture(config) | {"dtype": dtype}


def _parameters(part: "nn.Module") -> tuple[int, int]:
    weights = list(part.parameters())
    return sum(w.numel() for w in weights), sum(w.numel() for w in weights if w.requires_grad)


def _shared(needed: "Memory", strategy: Any, n_devices: int, whole: int) -> "Memory":
    """What one of several devices needs, by how they share the work."""
    from locvlm.training.strategies import shard_size

    if n_devices == 1:
        return needed
    if "fsdp" in str(strategy).lower():
        replicas = strategy.get("replicas", 1) if isinstance(strategy, dict) else 1
        return needed.sharded(shard_size(n_devices, replicas), whole)
    return replace(needed, buckets=needed.gradients)


def _n_devices(trainer: dict[str, Any]) -> int:
    devices = trainer["devices"]
    number = len(devices) if isinstance(devices, list) else devices
    if not isinstance(number, int) or number < 1:
        raise ConfigError(
            f"how many devices are {devices!r}?",
            where="trainer.devices",
            fix="give a number: trainer.devices=8",
        )
    return number * int(trainer.get("num_nodes") or 1)


def _peak(settings: dict[str, Any]) -> float:
    from locvlm.training.flops import PEAK_FLOPS

    if settings["peak"] is not None:
        return float(settings["peak"])
    if settings["gpu"] not in PEAK_FLOPS:
        raise ConfigError(
            f"no GPU called {settings['gpu']!r} in the table",
            where="gpu",
            fix=f"{nearest(settings['gpu'], PEAK_FLOPS)}, or give peak=<FLOPs per second>",
        )
    return PEAK_FLOPS[settings["gpu"]]


def _print(plans: list[StagePlan], settings: DictConfig) -> None:
    gib = 2**30
    print_table(
        "Parameters",
        ["stage", "part", "parameters", "learn"],
        [
            (one.name, part, f"{every:,}", f"{learning:,}")
            for one in plans
            for part, (every, learning) in one.parameters.items()
        ],
    )
    columns = ["weights", "gradients", "buckets", "optimizer", "activations", "logits"]
    print_table(
        "Memory of one device, GiB",
        ["stage", *columns, "at most", "with checkpoint_activations"],
        [
            (
                one.name,
                *(getattr(one.memory, column) / gib for column in columns),
                one.memory.peak(accumulates=one.accumulates) / gib,
                one.memory.peak(accumulates=one.accumulates, checkpointing=True) / gib,
            )
            for one in plans
        ],
    )
    print_table(
        f"Time on {settings.gpu} at a utilization of {settings.mfu:g}",
        ["stage", "tokens per epoch", "steps per epoch", "steps", "FLOPs", "hours", "features GiB"],
        [
            (
                one.name,
                f"{one.tokens:,}",
                f"{one.steps:,}",
                f"{one.total_steps:,}",
                f"{one.flops:.2e}",
                one.hours,
                one.features / gib,
            )
            for one in plans
        ],
    )


@hydra_command("plan", PlanConfig)
def main(cfg: DictConfig) -> None:
    """The command."""
    _print(plan(cfg), cfg)


if __name__ == "__main__":
    main()
