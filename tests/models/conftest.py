"""One tiny model for all tests that leave it as it is."""

import pytest

from tests.tiny import make_model, make_processor


@pytest.fixture(scope="session")
def processor():
    return make_processor()


@pytest.fixture(scope="session")
def model(processor):
    return make_model(processor)
