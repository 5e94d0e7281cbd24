"""Shows what a model would learn from a data set: `python -m locvlm.audit data=scenes n=3`.

Prints samples token by token with labels, weights and meanings, and how much is learned of more of
them; exit status 1 where nothing would be.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from locvlm.cli import plain_errors, print_table, set_up_logging
from locvlm.errors import ConfigError, DataError

if TYPE_CHECKING:
    from locvlm.data import Draw, Examples
    from locvlm.data.audit import Supervision


@dataclass
class AuditConfig:
    """What `conf/audit.yaml` may hold: what shapes training data, as in `conf/train.yaml`."""

    n: int = 1
    checked: int = 200
    split: str = "train"
    seed: int = 0
    data: Any = MISSING
    processor: Any = MISSING
    tokenizer: Any = MISSING
    coordinates: Any = MISSING
    geometry: Any = MISSING
    chat: Any = MISSING
    objectives: Any = MISSING
    prompts: Any = MISSING
    description_share: float = 1.0
    answer_weight: float = 1.0
    number_weights: list[float] = field(default_factory=list)
    model: Any = MISSING
    scenes: Any = MISSING
    scenes_folder: str = MISSING
    # Not looked at; experiments and recipes set them.
    name: str = ""
    run: Any = None
    stages: Any = None
    trainer: Any = None


ConfigStore.instance().store(name="audit_schema", node=AuditConfig)


def audit(cfg: DictConfig) -> "Supervision":
    """Prints `cfg.n` samples token by token, and how much is learned of `cfg.checked`.

    Raises:
        ConfigError: there is no such split.
        DataError: nothing in the data set is learned.
    """
    from hydra.utils import instantiate

    from locvlm.config import check_targets
    from locvlm.data import Draw
    from locvlm.data.audit import check_supervised, supervision

    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    check_targets(settings)
    if cfg.split not in ("train", "val"):
        raise ConfigError(
            f"no split called {cfg.split!r}", where="split", fix="choose train or val"
        )
    settings["data"].pop("processor")
    processor = instantiate(settings["processor"], _convert_="all")
    make = instantiate(settings["data"], _convert_="all", _partial_=True)
    examples = make(processor=processor).examples(cfg.split)
    rows = examples.mixture.epoch(0)[: max(cfg.checked, cfg.n)].tolist()
    draws = [Draw(*row) for row in rows]
    for draw in draws[: cfg.n]:
        _show(examples, draw)
    found = supervision(examples, draws)
    check_supervised(found)
    print(
        f"{found.share:.1%} of {found.n_tokens:,} tokens are learned in {found.n_samples} samples; "
        f"{found.n_silent} samples give nothing to learn, {len(found.bad)} are bad"
    )
    for reason in found.bad[:3]:
        print(reason)
    if examples.unreadable:
        print(f"{len(examples.unreadable)} samples are cut off; {examples.unreadable[0]}")
    return found


def _show(examples: "Examples", draw: "Draw") -> None:
    from locvlm.data.audit import token_rows

    try:
        sample, messages = examples.sample(draw)
        rows = token_rows(examples.processor.encode(sample, messages), examples.processor)
    except DataError as error:
        print(error)
        return
    print_table(
        f"{sample.key} ({sample.source})",
        ["position", "token", "id", "label", "weight", "stands for"],
        [
            (row.position, repr(row.token), row.id, row.label, f"{row.weight:g}", row.meaning)
            for row in rows
        ],
    )


@hydra.main(version_base="1.3", config_path="pkg://locvlm.conf", config_name="audit")
@plain_errors
def main(cfg: DictConfig) -> None:
    """Prints the audit of what `cfg` names."""
    set_up_logging()
    audit(cfg)


if __name__ == "__main__":
    main()
