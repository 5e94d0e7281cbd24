"""Checks what a config would build before anything is built, and guards what checkpoints name.

A node is plain data or a `_target_` with its arguments, as Hydra's `instantiate` takes them.
"""

import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from difflib import get_close_matches
from types import ModuleType
from typing import Any, NamedTuple

from locvlm.errors import CheckpointError, ConfigError

SPECIAL = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")
# What a saved model is built from. Not all of `locvlm`: `locvlm.io` writes files, and
# `locvlm.models.language.pretrained` downloads.
CHECKPOINT_PARTS = (
    "locvlm.chat",
    "locvlm.coordinates",
    "locvlm.geometry",
    "locvlm.models.adapter",
    "locvlm.models.encoder",
    "locvlm.models.language.fresh",
)


class _Place(NamedTuple):
    """A dict somewhere in a config, and the path of keys to it."""

    node: dict[str, Any]
    where: str


def check_targets(node: Any, where: str = "") -> None:
    """Refuses targets that do not exist and arguments that they do not take.

    Hydra itself lets `model.widht: 99` in a YAML file pass until the target is called. Arguments
    may be missing here: callers add some, and partial targets get theirs later.

    Args:
        node: plain containers, such as `OmegaConf.to_container(cfg, resolve=True)` gives.
        where: path of keys to `node`, for messages.

    Raises:
        ConfigError: names the key, and the nearest one that the target takes.
    """
    for place in _places(node, where):
        _check_special_keys(place)
        if "_target_" in place.node:
            target = locate(place.node["_target_"], _join(place.where, "_target_"))
            _check_arguments(target, place)


def check_keys(node: Iterable[Any], schema: type, where: str) -> None:
    """Refuses keys that a schema does not have: Hydra's `+key=value` adds any.

    Args:
        node: a dict, or what iterates over its keys.
        schema: a dataclass.
        where: path of keys to `node`, for messages.

    Raises:
        ConfigError: names the key, and the nearest one of the schema.
    """
    known = [field.name for field in fields(schema)]
    for key in node:
        if key not in known:
            raise ConfigError(
                f"{schema.__name__} takes no {key!r}",
                where=_join(where, str(key)),
                fix=nearest(key, known),
            )


def check_allowed(node: Any, allowed: Sequence[str] = CHECKPOINT_PARTS) -> None:
    """Refuses targets that a checkpoint must not name: its config.json may be a stranger's.

    What counts is where the target is defined, not by which path it is named: `os.system` is
    refused under any name, as `locvlm.models.x.os.system` too.

    Args:
        node: what was read from the checkpoint.
        allowed: dotted paths of packages, modules, classes or functions, with all below them.

    Raises:
        CheckpointError: names the target.
    """
    packages = {path.partition(".")[0] for path in allowed}
    for place in _places(node, ""):
        if "_target_" not in place.node:
            continue
        name, where = place.node["_target_"], _join(place.where, "_target_")
        # Compared before anything is imported: importing runs code.
        if isinstance(name, str) and name.partition(".")[0] in packages:
            try:
                target = locate(name, where)
            except ConfigError as error:
                raise _other_version(error) from error
            if f"{_defined_at(target)}.".startswith(tuple(f"{path}." for path in allowed)):
                continue
        raise CheckpointError(
            f"a checkpoint must not name {name!r}",
            where=where,
            fix=f"only what is defined in {', '.join(allowed)} is built",
        )


def build(node: dict[str, Any], **given: Any) -> Any:
    """Builds the target of a node that was read from a checkpoint.

    Unlike `hydra.utils.instantiate` it leaves all values as they are: no `${...}` is resolved,
    lists stay lists, and errors of the target reach the caller unchanged.

    Args:
        node: JSON values, with a `_target_` that `check_allowed` allows.
        given: arguments beside those of `node`, or in their place.

    Raises:
        CheckpointError: the node names what it must not, or does not fit this version.
    """
    check_allowed(node)
    try:
        check_targets(node)
    except ConfigError as error:
        raise _other_version(error) from error
    return _made(node, given)


def locate(name: Any, where: str = "") -> Any:
    """The class or function at a dotted path; imports what is needed on the way, and no more.

    Raises:
        ConfigError: there is none; names the nearest one.
    """
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"{name!r} is not a dotted path to a class or function", where=where)
    first, *rest = name.split(".")
    found = _import(first, where)
    path = first
    for part in rest:
        try:
            found = getattr(found, part)
        except AttributeError:
            if not isinstance(found, ModuleType) or not _is_module(found, part):
                fix = nearest(part, _public_names(found))
                raise ConfigError(f"{path} has no {part!r}", where=where, fix=fix) from None
            found = _import(f"{path}.{part}", where)
        path = f"{path}.{part}"
    if not callable(found):
        raise ConfigError(f"{name} is a {type(found).__name__}, nothing to call", where=where)
    return found


def nearest(name: Any, known: Iterable[Any]) -> str:
    """What to write in the place of a name that is not known, in words."""
    known = [str(one) for one in known]
    if close := get_close_matches(str(name), known, n=1):
        return f"did you mean {close[0]!r}?"
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"choose from {shown}" if known else "leave it out"


def _places(node: Any, where: str) -> Iterator[_Place]:
    """All dicts in `node`, itself first."""
    if isinstance(node, dict):
        yield _Place(node, where)
        for key, value in node.items():
            yield from _places(value, _join(where, str(key)))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _places(value, f"{where}[{index}]")


def _check_special_keys(place: _Place) -> None:
    for key, value in place.node.items():
        here = _join(place.where, str(key))
        if key not in SPECIAL:
            # `_partal_: true` would reach a target that takes any keyword.
            if isinstance(key, str) and re.fullmatch(r"_[a-z]+_", key):
                fix = nearest(key, SPECIAL)
                raise ConfigError(f"{key!r} means nothing to Hydra", where=here, fix=fix)
        elif "_target_" not in place.node and key not in {"_convert_", "_recursive_"}:
            raise ConfigError(f"{key!r} without a _target_", where=here)
        elif key in ("_partial_", "_recursive_") and not isinstance(value, bool):
            raise ConfigError(f"{key} must be true or false, got {value!r}", where=here)
        elif key == "_args_" and not isinstance(value, list | tuple):
            raise ConfigError(f"_args_ must be a list, got {value!r}", where=here)


def _check_arguments(target: Any, place: _Place) -> None:
    name = place.node["_target_"]
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # built in C without a signature
        return
    kinds = {parameter.kind for parameter in parameters}
    positional = [
        p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    n_args = len(place.node.get("_args_", ()))
    if n_args > len(positional) and inspect.Parameter.VAR_POSITIONAL not in kinds:
        raise ConfigError(
            f"{name} takes {len(positional)} positional arguments, got {n_args}",
            where=_join(place.where, "_args_"),
        )
    for key in place.node.keys() - set(SPECIAL):
        where = _join(place.where, str(key))
        if key in positional[:n_args]:
            raise ConfigError(f"{name} gets {key!r} from _args_ already", where=where)
        if key not in named and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise ConfigError(f"{name} takes no {key!r}", where=where, fix=nearest(key, named))


def _import(name: str, where: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:  # a module can fail in any way; all of them end here
        raise ConfigError(f"cannot import {name}: {error}", where=where) from error


def _is_module(package: ModuleType, name: str) -> bool:
    return name in _module_names(package)


def _module_names(package: ModuleType) -> set[str]:
    return {module.name for module in pkgutil.iter_modules(getattr(package, "__path__", ()))}


def _public_names(owner: Any) -> list[str]:
    names = {*dir(owner), *(_module_names(owner) if isinstance(owner, ModuleType) else ())}
    return sorted(name for name in names if not name.startswith("_"))


def _defined_at(target: Any) -> str:
    return f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', '')}"


def _other_version(error: ConfigError) -> CheckpointError:
    return CheckpointError(
        error.what, where=error.where, fix="load it with the version of locvlm that saved it"
    )


def _made(node: Any, given: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_made(value, {}) for value in node]
    if not isinstance(node, dict):
        return node
    if not node.get("_recursive_", True):
        values = dict(node)
    else:
        values = {key: _made(value, {}) for key, value in node.items()}
    arguments = {key: value for key, value in values.items() if key not in SPECIAL} | given
    if "_target_" not in node:
        return arguments
    target = functools.partial(locate(node["_target_"]), *values.get("_args_", ()), **arguments)
    return target if node.get("_partial_") else target()


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
