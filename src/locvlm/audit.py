"""Shows what a model would learn from a data set: `python -m locvlm.audit data=scenes`.

Prints samples token by token with labels, weights and meanings, and the supervised share; exit
status 1 where nothing would be learned.
"""

from dataclasses import dataclass
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from locvlm.cli import plain_errors, print_table, set_up_logging


@dataclass
class AuditConfig:
    """What `conf/audit.yaml` may hold; Hydra refuses any other top-level key."""

    data: Any = MISSING
    processor: Any = MISSING
    tokenizer: Any = MISSING
    coordinates: Any = MISSING
    geometry: Any = MISSING
    chat: Any = MISSING
    objectives: Any = MISSING
    prompts: Any = MISSING
    model: Any = MISSING
    scenes: Any = MISSING
    scenes_folder: str = MISSING
    seed: int = 0
    samples: int = 1
    checked: int = 200


ConfigStore.instance().store(name="audit_schema", node=AuditConfig)


def audit(cfg: DictConfig) -> float:
    """Prints `cfg.samples` samples token by token, and returns the supervised share of more.

    Raises:
        DataError: nothing in the data set is learned.
    """
    from hydra.utils import instantiate

    from locvlm.config import check_targets
    from locvlm.data.audit import supervised_share, token_rows

    check_targets(OmegaConf.to_container(cfg, resolve=True))
    processor = instantiate(cfg.processor)
    examples = instantiate(cfg.data, processor=processor).examples("train")
    draws = examples.mixture.epoch(0)[: max(cfg.checked, cfg.samples)]
    for draw in draws[: cfg.samples]:
        sample, messages = examples.sample(draw)
        rows = token_rows(processor.encode(sample, messages), processor)
        print_table(
            f"{sample.key} ({sample.source})",
            ["position", "token", "id", "label", "weight", "stands for"],
            [
                (row.position, repr(row.token), row.id, row.label, f"{row.weight:g}", row.meaning)
                for row in rows
            ],
        )
    share = supervised_share(examples[draw]["example"] for draw in draws)
    print(f"{share:.1%} of the tokens are learned ({len(draws)} samples looked at)")
    return share


@hydra.main(version_base="1.3", config_path="pkg://locvlm.conf", config_name="audit")
@plain_errors
def main(cfg: DictConfig) -> None:
    """Prints the audit of what `cfg` names."""
    set_up_logging()
    audit(cfg)


if __name__ == "__main__":
    main()
