"""Types of a model's numbers, by the names that transformers gives them."""

import torch

from locvlm.errors import ConfigError

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def to_dtype(name: str | torch.dtype, where: str) -> torch.dtype:
    """The type that is named.

    Args:
        name: a key of `DTYPES`, or one of their values.
        where: it was given, for error messages.

    Raises:
        ConfigError: it is none of these.
    """
    found = DTYPES.get(str(name).removeprefix("torch."))
    if found is None:
        raise ConfigError(
            f"numbers of a model cannot be {str(name)!r}",
            where=where,
            fix=f"choose from {', '.join(DTYPES)}",
        )
    return found
