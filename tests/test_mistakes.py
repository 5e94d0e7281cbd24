import pytest
from hydra import compose, initialize_config_dir, initialize_config_module
from hydra.utils import instantiate
from omegaconf import OmegaConf

import locvlm.train  # registers its schema
from locvlm.errors import ConfigError, DataError
from locvlm.mistakes import mistake, refused

assert locvlm.train


def caught(action, *args):
    with pytest.raises(Exception) as info:  # noqa: PT011  # whatever a library raises
        action(*args)
    return mistake(info.value)


def composed(*overrides):
    with initialize_config_module("locvlm.conf", version_base="1.3"):
        return compose("train", list(overrides))


def refuse(bins=0):
    raise ConfigError(f"bins must be at least 1, got {bins}", where="coordinates.bins")


def too_fast(lr):
    raise ValueError(f"Invalid learning rate: {lr}")


def test_an_error_of_ours_is_its_own_message():
    error = DataError("image is cut short", where="a.tar", fix="prepare it again")
    assert mistake(error) is error


@pytest.mark.parametrize(
    ("override", "what", "where", "fix"),
    [
        ("modell=tiny", "there is no key 'modell'", "modell", "did you mean 'model'?"),
        (
            "stages.instruct.max_epoch=1",
            "there is no key 'max_epoch'",
            "stages.instruct.max_epoch",
            "did you mean 'max_epochs'?",
        ),
        (
            "scenes.splits.trian=1",
            "there is no key 'trian'",
            "scenes.splits.trian",
            "did you mean 'train'?",
        ),
        (
            "stages.instruct.data.batch_size=8",
            "there is no key 'batch_size'",
            "stages.instruct.data.batch_size",
            "give it a part of its own: add +data@stages.instruct.data=NAME, one of conf/data/",
        ),
        (
            "model=tinny",
            "no model is called 'tinny'",
            "model",
            "did you mean 'tiny'?; your own go into DIR/model/ with --config-dir DIR",
        ),
        ("seed=abc", "Value 'abc' of type 'str' could not be converted to Integer", "seed", None),
        ("~sead", "Could not delete from config. 'sead' does not exist.", None, None),
    ],
)
def test_a_mistake_on_the_command_line_is_named_with_its_key(override, what, where, fix):
    found = caught(composed, override)
    assert isinstance(found, ConfigError)
    assert (found.what, found.where, found.fix) == (what, where, fix)


def test_a_sweep_over_what_has_the_key_is_told_how_to_give_it(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train", "-m", "model=tiny,small"])
    found = caught(composed, "model.no_default_has_it=1")
    assert found.fix.endswith("or ++model.no_default_has_it=... for a key of what -m goes through")


def test_an_override_that_cannot_be_read_says_how_to_write_it():
    found = caught(composed, "name=a=[b")
    assert found.where == "name=a=[b"
    assert "quotes" in found.fix


def test_malformed_yaml_is_named_with_its_file_and_line(tmp_path):
    (tmp_path / "mine.yaml").write_text("a: [1\nb: 2\n")

    def broken():
        with initialize_config_dir(str(tmp_path), version_base="1.3"):
            compose("mine")

    found = caught(broken)
    assert found.what == "malformed YAML: expected ',' or ']', but got ':'"
    assert found.where == f"{tmp_path}/mine.yaml, line 2, column 2"


def test_what_a_target_of_ours_refuses_is_its_own_message():
    node = OmegaConf.create({"_target_": f"{__name__}.refuse"})
    found = caught(instantiate, node)
    assert (found.what, found.where) == ("bins must be at least 1, got 0", "coordinates.bins")


def test_a_value_that_another_librarys_target_refuses_is_named_with_its_key():
    node = OmegaConf.create({"optimizer": {"_target_": f"{__name__}.too_fast", "lr": -1}})
    found = caught(instantiate, node)
    assert (found.what, found.where) == ("Invalid learning rate: -1", "optimizer")


def without_its_package():
    raise ModuleNotFoundError("Requirement 'wandb' not met.\nHINT: Try `pip install wandb`")


def test_a_target_whose_package_is_not_installed_says_so():
    found = caught(instantiate, {"logger": {"_target_": f"{__name__}.without_its_package"}})
    assert found.what == "Requirement 'wandb' not met. HINT: Try `pip install wandb`"
    assert (found.where, found.fix) == ("logger", "install it, or change this setting")


def test_a_missing_value_names_its_key():
    cfg = OmegaConf.create({"data": {"images": "???"}})
    found = caught(lambda: cfg.data.images)
    assert (found.what, found.where) == ("this needs a value", "data.images")
    assert found.fix == "add data.images=... to the command"


def test_an_interpolation_of_nothing_names_its_key():
    cfg = OmegaConf.create({"coordinates": {"bins": "${model.image_size}"}})
    found = caught(lambda: OmegaConf.to_container(cfg, resolve=True))
    assert found.what.startswith("Interpolation key 'model.image_size' not found")
    assert found.where == "coordinates.bins"


@pytest.mark.parametrize("bug", [ValueError("a bug"), TypeError("a bug"), OSError("gone")])
def test_a_bug_is_no_mistake(bug):
    assert mistake(bug) is None


def test_a_bug_inside_a_target_is_no_mistake():
    assert caught(instantiate, {"_target_": "builtins.int", "nonsense": 1}) is None


def test_only_refused_values_are_refusals():
    assert refused(ValueError("too small"), "trainer").where == "trainer"
    assert refused(KeyError("a bug"), "trainer") is None
