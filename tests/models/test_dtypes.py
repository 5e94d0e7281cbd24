import pytest
import torch

from locvlm.errors import ConfigError
from locvlm.models.dtypes import DTYPES, to_dtype


@pytest.mark.parametrize(("name", "dtype"), DTYPES.items())
def test_types_have_the_names_that_torch_gives_them(name, dtype):
    assert to_dtype(name, "x") == to_dtype(f"torch.{name}", "x") == to_dtype(dtype, "x") == dtype


@pytest.mark.parametrize("name", ["int8", "fp16", "", torch.float64])
def test_others_are_refused_with_what_there_is(name):
    with pytest.raises(ConfigError, match="bfloat16, float16, float32") as raised:
        to_dtype(name, "predictor.dtype")
    assert raised.value.where == "predictor.dtype"
