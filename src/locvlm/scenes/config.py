"""The keys of `conf/scenes/`, which no `_target_` checks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from locvlm.config import check_keys


@dataclass(frozen=True, slots=True)
class ScenesConfig:
    """What `conf/scenes/` may hold."""

    world: Any
    talk: Any
    sides: Any
    side_talk: Any
    splits: Any
    n_pairs: int
    seed: int


@dataclass(frozen=True, slots=True)
class SplitsConfig:
    """The number of scenes in each split."""

    train: int
    val: int
    test: int


def check_scenes(node: Mapping[Any, Any]) -> None:
    """Refuses mistyped keys: Hydra's `+scenes.sead=1` adds any.

    Raises:
        ConfigError: names the key, and the nearest one that there is.
    """
    check_keys(node, ScenesConfig, "scenes")
    check_keys(node["splits"], SplitsConfig, "scenes.splits")
