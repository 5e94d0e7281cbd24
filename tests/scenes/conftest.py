"""The world as its configs describe it."""

import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate


@pytest.fixture(scope="session")
def settings():
    with initialize_config_module("locvlm.conf", version_base="1.3"):
        return compose(overrides=["+scenes=default"]).scenes


@pytest.fixture(scope="session")
def world(settings):
    return instantiate(settings.world)


@pytest.fixture(scope="session")
def talk(settings):
    return instantiate(settings.talk)


@pytest.fixture(scope="session")
def sides(settings):
    return instantiate(settings.sides, _convert_="all")
