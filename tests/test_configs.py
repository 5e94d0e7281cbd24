"""Every file in `conf/` composes under the command that uses it and names only what is there."""

import importlib
from itertools import zip_longest
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from locvlm.arguments import option_names
from locvlm.config import check_targets
from locvlm.score import benchmark_names

SCORED = benchmark_names()
CONF = Path(__file__).parents[1] / "conf"
# Each command with what it cannot do without; a second model brings other groups into play.
STARTS = [
    ("train", ()),
    ("train", ("model=locvlm_b",)),
    ("audit", ()),
    ("plan", ()),
    ("evaluate", ("checkpoint=x",)),
    ("score", ("benchmark=pope", "answers=x")),
    ("build", ("builder=hal", "output=x")),
    ("export", ("checkpoint=x", "output=x")),
    ("prepare", ("output=x",)),
    ("convert", ("dialect@from=llava", "dialect@to=ivb", "input=x", "output=y")),
]
OWNED = ("stages.", "benchmark.", "builder.")
# What a user has to give with a choice.
NEEDS = {
    "data=shards": ("data.train.localization.shards=x",),
    "tokenizer=hub": ("tokenizer.path=x",),
}


def composed(command, overrides, **options):
    importlib.import_module(f"locvlm.{command}")  # registers the schema
    GlobalHydra.instance().clear()
    with initialize_config_module("locvlm.conf", version_base="1.3"):
        return compose(command, overrides=list(overrides), **options)


def options(command, start):
    """The groups of a command, each with the overrides that choose one of its options."""
    chosen = composed(command, start, return_hydra_config=True).hydra.runtime.choices
    for key in chosen:
        group, _, place = key.partition("@")
        # What a recipe mounts in a stage, or a benchmark in itself, belongs to them; elsewhere
        # every option fits.
        if not group.startswith("hydra/") and not place.startswith(OWNED):
            found = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
            yield [f"{key}={name}" for name in found if command != "score" or name in SCORED]


def rounds(command, start):
    """Overrides that together choose every option at least once: the first ones, the second..."""
    for choices in zip_longest(*options(command, start)):
        made = [choice for choice in choices if choice is not None]
        yield [*start, *made, *(need for choice in made for need in NEEDS.get(choice, ()))]


def cases():
    for command, start in STARTS:
        yield command, list(start)
        for overrides in rounds(command, start):
            yield command, overrides
    for judge in option_names("judge"):
        yield "score", ["benchmark=msvd_qa", "answers=x", f"judge@benchmark.judge={judge}"]
    for name in ("refcoco", "mdetr"):
        described = ["benchmark=region_description", f"source@benchmark.source={name}"]
        yield "score", ["answers=x", *described]
        yield "evaluate", ["checkpoint=x", *described]
    for names in option_names("exclude"):
        yield "build", ["builder=hal", "output=x", f"exclude@builder.exclude={names}"]
    for path in sorted((CONF / "experiment").glob("*.yaml")):
        yield "train", [f"+experiment={path.stem}"]


CASES = list(cases())


@pytest.mark.parametrize(("command", "overrides"), CASES)
def test_options_compose_and_name_only_what_is_there(command, overrides):
    cfg = composed(command, overrides)
    check_targets(OmegaConf.to_container(cfg, resolve=True))


def test_no_file_is_left_over():
    used = {f"{command}.yaml" for command, _ in STARTS}
    for command, overrides in CASES:
        chosen = composed(command, overrides, return_hydra_config=True).hydra.runtime.choices
        used |= {f"{key.partition('@')[0]}/{option}.yaml" for key, option in chosen.items()}
    assert {str(path.relative_to(CONF)) for path in CONF.rglob("*.yaml")} <= used


@pytest.mark.parametrize("command", ["train", "plan", "audit", "evaluate", "export", "prepare"])
def test_an_unknown_top_level_key_is_refused(command):
    with pytest.raises(Exception, match="Could not override 'nonsense'"):
        composed(command, ["nonsense=1"])
