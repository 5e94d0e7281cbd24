import pytest

from locvlm.errors import ConfigError
from locvlm.scenes.config import check_scenes

SPLITS = {"train": 1, "val": 1, "test": 1}


def test_known_keys_pass():
    check_scenes({"world": None, "n_pairs": 3, "splits": SPLITS})


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"sead": 1, "splits": SPLITS}, r"takes no 'sead'\n.*scenes\.sead\n.*'seed'"),
        ({"splits": {"trian": 1}}, r"takes no 'trian'\n.*scenes\.splits\.trian\n.*'train'"),
    ],
)
def test_a_mistyped_key_is_named_with_the_nearest(node, message):
    with pytest.raises(ConfigError, match=message):
        check_scenes(node)
