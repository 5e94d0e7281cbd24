"""Trains a model in stages: `python -m locvlm.train +experiment=binned224`."""

import logging
import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import MISSING, DictConfig, MissingMandatoryValue, OmegaConf, open_dict

from locvlm.cli import hydra_command
from locvlm.config import check_keys, check_targets
from locvlm.errors import ConfigError
from locvlm.evaluate import evaluate
from locvlm.experiment import ExperimentConfig, check_seed
from locvlm.io import sha256, write_text
from locvlm.mistakes import refused

if TYPE_CHECKING:
    from lightning import Trainer

    from locvlm.models import LocVLM
    from locvlm.processor import Processor
    from locvlm.training import Stage

logger = logging.getLogger(__name__)


@dataclass
class StageConfig:
    """What a stage in `conf/stage/` may hold.

    Its length is `max_epochs` or `max_steps`; `batch_size` is another than the data's own, `chat`
    another format than the model's.
    """

    trained: list[str] = MISSING
    data: Any = MISSING
    optimizer: Any = MISSING
    scheduler: Any = None
    max_epochs: int | None = None
    max_steps: int = -1
    batch_size: int | None = None
    chat: Any = None
    module: Any = field(default_factory=lambda: {"_target_": "locvlm.training.LocVLMModule"})


@dataclass
class TrainConfig(ExperimentConfig):
    """What `conf/train.yaml` may hold; Hydra refuses any other top-level key."""

    stages: dict[str, StageConfig] = field(default_factory=dict)
    callbacks: Any = MISSING
    logger: Any = MISSING
    checkpoint: str | None = None
    ckpt_path: str | None = None
    evaluate: str | None = None


def folder_name(overrides: str) -> str:
    """A name for the folder of a sweep's run; file systems take 255 bytes at most.

    It is one folder, whatever paths the overrides hold, and no shell or Hydra reads more in it.
    """
    name = re.sub(r"[^\w.+@-]+", "-", overrides)
    return name if len(name) <= 200 else f"{name[:180]}-{sha256(overrides.encode())[:12]}"


OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)


def train(cfg: DictConfig, folder: Path) -> float | None:
    """Builds what `cfg` names and trains it in `folder`.

    Returns:
        The last validation loss, for sweeps; None where nothing was validated.
    """
    from locvlm.scenes.config import check_scenes

    if unknown := [name for name in cfg.run if name not in cfg.stages]:
        raise ConfigError(
            f"no stage named {', '.join(unknown)}",
            where="run",
            fix=f"choose from {', '.join(cfg.stages)}",
        )
    for name, stage in cfg.stages.items():  # Hydra takes +stages.instruct.lr=1 in silence
        check_keys(stage, StageConfig, f"stages.{name}")
    check_scenes(cfg.scenes)
    check_seed(cfg.seed)
    if cfg.ckpt_path not in (None, "last"):
        raise ConfigError(
            f"ckpt_path is {cfg.ckpt_path!r}",
            where="ckpt_path",
            fix="give ckpt_path=last to go on with the run in this folder; "
            "checkpoint=<folder> begins with the weights of a saved model",
        )
    check_targets(OmegaConf.to_container(cfg, resolve=True))
    # Imported here: torch and lightning take seconds, and `--help` must not wait for them.
    from lightning import seed_everything
    from lightning.pytorch.utilities import rank_zero_only

    from locvlm.models.checkpoint import load_processor, model_from
    from locvlm.models.parts import read_parts
    from locvlm.training.noise import quiet
    from locvlm.training.stages import check_unused, run_stages

    quiet()
    resume = cfg.ckpt_path == "last"
    if not resume:
        check_unused(folder)
    rank_zero_only(write_text)(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    seed_everything(cfg.seed, workers=True, verbose=False)
    own: dict[str, Any] = {}
    if cfg.checkpoint is not None:
        # Its weights know its own token ids, whatever words the prompts of this run have.
        before = load_processor(cfg.checkpoint)
        own["tokenizer"] = before.tokenizer
    processor = _make(cfg.processor, **own)
    make = partial(_make, cfg.model, processor=processor, **_in_parts(cfg))
    model = make() if cfg.checkpoint is None else model_from(cfg.checkpoint, processor, make)
    if not _is_sharded(cfg):
        read_parts(model)
    if cfg.checkpoint is not None:
        _warn_of_changes(before.config(), processor.config())
    _freeze(model, cfg)
    stages = [_stage(cfg, name, processor) for name in cfg.run]
    return run_stages(model, stages, folder, resume=resume).get("val/loss")


def evaluation_config(cfg: DictConfig, folder: Path) -> DictConfig:
    """What `python -m locvlm.evaluate` would do with the model that `cfg` trains in `folder`.

    It asks about the scenes and with the prompts of the training. Needs Hydra to be initialized.

    Raises:
        ConfigError: there is no such benchmark, or it has to be told more.
    """
    from hydra.errors import MissingConfigException

    chosen = [f"checkpoint='{folder}/model'", f"benchmark={cfg.evaluate}"]
    try:
        evaluation = hydra.compose("evaluate", chosen)
        with open_dict(evaluation):
            evaluation.scenes, evaluation.prompts = cfg.scenes, cfg.prompts
        OmegaConf.to_container(evaluation, resolve=True, throw_on_missing=True)
    except (MissingConfigException, MissingMandatoryValue) as error:
        raise ConfigError(
            f"{cfg.evaluate} cannot be measured right after training: {error}",
            where="evaluate",
            fix="give evaluate=scenes, or run python -m locvlm.evaluate afterwards",
        ) from error
    return evaluation


def _in_parts(cfg: DictConfig) -> dict[str, Any]:
    """What builds the language model empty, where fsdp can let each process have its own part."""
    empty = {
        "locvlm.models.language.pretrained": "locvlm.models.parts.empty",
        "locvlm.models.language.fresh": "locvlm.models.parts.undrawn",
    }
    node = cfg.model.get("language_model")
    if node is None or node._target_ not in empty or not _is_sharded(cfg):
        return {}
    later: Any = OmegaConf.merge(node, {"_target_": empty[node._target_]})
    return {"language_model": _make(later)}


def _is_sharded(cfg: DictConfig) -> bool:
    strategy = cfg.trainer.get("strategy")
    return OmegaConf.is_dict(strategy) and strategy._target_ == "locvlm.training.FSDP"


def _freeze(model: "LocVLM", cfg: DictConfig) -> None:
    """Quantizes the language model and adds LoRA; then every stage must find what it trains."""
    from locvlm.models.quantization import quantize
    from locvlm.training.module import trainable
    from locvlm.training.strategies import checkpoint_activations, compile_blocks

    if cfg.quantization is not None:
        quantize(model, cfg.quantization)
    if cfg.lora is not None:
        _make(cfg.lora, model=model)
    if cfg.compile:
        compile_blocks(model)
    if cfg.checkpoint_activations:
        checkpoint_activations(model)
    for name in cfg.run:
        trainable(model, cfg.stages[name].trained, f"stages.{name}.trained")


def _warn_of_changes(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Says in which formats a model that is trained on will read and write from now on."""
    for name in ("coordinates", "geometry", "chat"):
        if before[name] != now[name]:
            logger.warning(
                "the checkpoint was trained with another %s: %s, now %s",
                name,
                _short(before[name]),
                _short(now[name]),
            )


def _short(node: dict[str, Any]) -> str:
    """What a node builds, and of what: "IVB(bins=224)"."""
    values = (f"{key}={value}" for key, value in node.items() if not key.startswith("_"))
    return f"{str(node.get('_target_')).rpartition('.')[2]}({', '.join(values)})"


def _stage(cfg: DictConfig, name: str, processor: "Processor") -> "Stage":
    from locvlm.training import Stage

    stage = cfg.stages[name]
    if stage.chat is not None:
        processor = processor.speaking(_make(stage.chat))

    given: dict[str, Any] = {"processor": processor}
    if stage.batch_size is not None:
        given["batch_size"] = stage.batch_size

    def module(model: Any) -> Any:
        return _make(
            stage.module,
            model=model,
            optimizer=_make(stage.optimizer),
            scheduler=None if stage.scheduler is None else _make(stage.scheduler),
            trained=list(stage.trained),
        )

    return Stage(
        name=name,
        module=module,
        data=partial(_make, stage.data, **given),
        trainer=partial(_trainer, cfg, stage),
    )


def _trainer(cfg: DictConfig, stage: DictConfig, folder: Path) -> "Trainer":
    trainer: Trainer = _make(
        cfg.trainer,
        max_epochs=stage.max_epochs,
        max_steps=stage.max_steps,
        default_root_dir=folder,
        callbacks=[_make(node) for node in cfg.callbacks.values()],
        logger=[_make(node, save_dir=folder) for node in cfg.logger.values()],
    )
    return trainer


def _make(node: DictConfig, **objects: Any) -> Any:
    """Builds a node; `objects` are arguments that exist already and take the place of its own."""
    from hydra.utils import instantiate

    plain: Any = OmegaConf.to_container(node, resolve=True)
    plain = {key: value for key, value in plain.items() if key not in objects}
    if not objects:
        return instantiate(plain, _convert_="all")
    # Built in two steps, so that a model never passes through OmegaConf, which would copy it.
    make = instantiate(plain, _convert_="all", _partial_=True)
    try:
        return make(**objects)
    except Exception as error:
        plain_words = refused(error, str(node._get_full_key(None)))
        if plain_words is None:
            raise
        raise plain_words from error


@hydra_command("train", TrainConfig, together=True)
def main(cfg: DictConfig) -> float | None:
    """The command."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    # Composed first, so that a mistake in its name does not wait for the end of training.
    evaluation = None if cfg.evaluate is None else evaluation_config(cfg, folder)
    loss = train(cfg, folder)
    if evaluation is not None:
        from lightning.pytorch.utilities import rank_zero_only

        rank_zero_only(evaluate)(evaluation)
    return loss


if __name__ == "__main__":
    # Not that of `__main__`: submitit's processes import the config's classes by their module.
    from locvlm import train as module  # noqa: PLW0406

    module.main()
