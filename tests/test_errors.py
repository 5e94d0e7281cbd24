import copy
import pickle

import pytest

from locvlm.errors import CheckpointError, ConfigError, DataError, LocVLMError


def test_the_message_says_what_where_and_what_to_do():
    error = DataError("image is cut short", where="a.tar", fix="prepare it again")
    assert str(error) == "image is cut short\n  where: a.tar\n  fix:   prepare it again"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "no stage"),
        ({"where": "run"}, "no stage\n  where: run"),
        ({"fix": "add one"}, "no stage\n  fix:   add one"),
        ({"where": "", "fix": ""}, "no stage"),
    ],
)
def test_what_is_not_known_has_no_line(said, message):
    assert str(ConfigError("no stage", **said)) == message


@pytest.mark.parametrize("kind", [DataError, ConfigError, CheckpointError])
def test_every_kind_is_caught_as_an_error_of_ours_and_as_no_other_kind(kind):
    kinds = {DataError, ConfigError, CheckpointError}
    assert [other for other in kinds if issubclass(kind, other)] == [kind]
    with pytest.raises(LocVLMError, match="wrong"):
        raise kind("wrong")


@pytest.mark.parametrize("carry", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy])
def test_an_error_survives_the_way_between_processes(carry):
    error = DataError("image is cut short", where="a.tar", fix="prepare it again")
    back = carry(error)
    assert type(back) is DataError
    assert (back.what, back.where, back.fix) == ("image is cut short", "a.tar", "prepare it again")
    assert str(back) == str(error)
