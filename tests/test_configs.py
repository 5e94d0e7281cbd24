"""Every file in `conf/` composes under the command that uses it and names only what is there."""

import importlib
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from locvlm.config import check_targets

CONF = Path(__file__).parents[1] / "conf"
# Each command with what it cannot do without; a second model brings other groups into play.
STARTS = [
    ("train", ()),
    ("train", ("model=locvlm_b",)),
    ("audit", ()),
    ("evaluate", ("checkpoint=x",)),
    ("prepare", ("output=x",)),
]
# What a user has to give with a choice.
NEEDS = {
    "data=shards": ("data.train.localization.shards=x",),
    "tokenizer=hub": ("tokenizer.pretrained_model_name_or_path=x",),
}


def composed(command, overrides, **options):
    importlib.import_module(f"locvlm.{command}")  # registers the schema
    GlobalHydra.instance().clear()
    with initialize_config_module("locvlm.conf", version_base="1.3"):
        return compose(command, overrides=list(overrides), **options)


def choices(command, start):
    """Overrides that choose each option of each group, and the file that they choose."""
    made = composed(command, start, return_hydra_config=True).hydra.runtime.choices
    for key, chosen in made.items():
        group, _, place = key.partition("@")
        if group.startswith("hydra/"):
            continue
        # What a recipe puts into a stage belongs to it; elsewhere every option fits.
        options = [chosen] if place.startswith("stages.") else stems(CONF / group)
        for option in options:
            choice = f"{key}={option}"
            yield (choice, *NEEDS.get(choice, ())), f"{group}/{option}.yaml"


def stems(folder):
    return sorted(path.stem for path in folder.glob("*.yaml"))


def cases():
    """(command, overrides, file that they compose); a choice is made under one command."""
    seen = set()
    for command, start in STARTS:
        yield command, start, f"{command}.yaml"
        for choice, file in choices(command, start):
            if choice not in seen:
                seen.add(choice)
                yield command, (*start, *choice), file
    for experiment in stems(CONF / "experiment"):
        yield "train", (f"+experiment={experiment}",), f"experiment/{experiment}.yaml"


CASES = list(cases())


@pytest.mark.parametrize(
    ("command", "overrides"),
    [case[:2] for case in CASES],
    ids=[" ".join((command, *overrides)) for command, overrides, _ in CASES],
)
def test_each_option_composes_and_names_only_what_is_there(command, overrides):
    cfg = composed(command, overrides)
    check_targets(OmegaConf.to_container(cfg, resolve=True))


def test_no_file_is_left_over():
    files = {str(path.relative_to(CONF)) for path in CONF.rglob("*.yaml")}
    assert files == {file for _, _, file in CASES}


@pytest.mark.parametrize("command", ["train", "audit", "evaluate", "prepare"])
def test_an_unknown_top_level_key_is_refused(command):
    with pytest.raises(Exception, match="Could not override 'nonsense'"):
        composed(command, ["nonsense=1"])
