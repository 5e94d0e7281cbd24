"""Visual LLMs that read and write image coordinates as text.

The names below are imported when they are first used: `import locvlm` waits for no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from locvlm.data import LocVLMDataModule
    from locvlm.errors import LocVLMError
    from locvlm.models import LocVLM
    from locvlm.processor import Processor
    from locvlm.training import LocVLMModule
    from locvlm.types import Box, Instance, Message, Point, Question, Sample

    __version__: str

_HOMES = {
    "Box": "locvlm.types",
    "Instance": "locvlm.types",
    "LocVLM": "locvlm.models",
    "LocVLMDataModule": "locvlm.data",
    "LocVLMError": "locvlm.errors",
    "LocVLMModule": "locvlm.training",
    "Message": "locvlm.types",
    "Point": "locvlm.types",
    "Processor": "locvlm.processor",
    "Question": "locvlm.types",
    "Sample": "locvlm.types",
}

__all__ = [
    "Box",
    "Instance",
    "LocVLM",
    "LocVLMDataModule",
    "LocVLMError",
    "LocVLMModule",
    "Message",
    "Point",
    "Processor",
    "Question",
    "Sample",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("locvlm")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
