"""What a person did wrong, behind the exceptions of the libraries that noticed it."""

import sys
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from locvlm.config import nearest
from locvlm.errors import ConfigError, LocVLMError

# What targets raise about values that a config gave them. Any other exception is a bug.
_REFUSALS = ("ValueError", "MisconfigurationException")


def mistake(error: BaseException) -> LocVLMError | None:
    """The message for the user behind an exception; None where it is a bug.

    Exceptions of libraries are told by name: importing Hydra, OmegaConf and PyYAML takes longer
    than most of what commands do first.
    """
    if isinstance(error, LocVLMError):
        return error
    kind = type(error)
    match kind.__module__.partition(".")[0], kind.__name__:
        case "hydra", name:
            return _HYDRA.get(name, _cause)(error)
        case "omegaconf", name:
            return _OMEGACONF.get(name, lambda _: None)(error)
        case "yaml", _ if hasattr(error, "problem_mark"):
            return _malformed_yaml(error)
    return None


def refused(error: BaseException, where: str) -> ConfigError | None:
    """What a target found wrong with the values that a config gave it; None where it is a bug.

    Args:
        error: that the target raised.
        where: key of the target in the config.
    """
    if isinstance(error, ModuleNotFoundError):
        what = " ".join(str(error).split())
        return ConfigError(what, where=where, fix="install it, or change this setting")
    if type(error).__name__ not in _REFUSALS:
        return None
    return ConfigError(
        str(error).strip() or type(error).__name__,
        where=where,
        fix="change this setting; HYDRA_FULL_ERROR=1 shows where it was refused",
    )


def _missing_config(error: Any) -> ConfigError:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if not error.options or not name:
        return ConfigError(str(error).splitlines()[0])
    return ConfigError(
        f"no {group} is called {name!r}",
        where=group,
        fix=f"{nearest(name, error.options)}; your own go into DIR/{group}/ with --config-dir DIR",
    )


def _unreadable_override(error: Any) -> ConfigError:
    return ConfigError(
        f"cannot read this: {str(error).splitlines()[0]}",
        where=error.override,
        fix="write key=value; put quotes around what has spaces, brackets or equals signs: "
        "'key=\"a value\"'",
    )


def _instantiation(error: Any) -> LocVLMError | None:
    """`instantiate` wraps what the target raised, and names the key in its last line."""
    key = str(error).rpartition("full_key: ")[2].strip()
    cause = error.__cause__
    return _cause(error) or (refused(cause, key) if cause else None)


def _composition(error: Any) -> LocVLMError:
    return _cause(error) or ConfigError(str(error).splitlines()[0])


def _unknown_key(error: Any) -> ConfigError:
    known = [key for key in error.parent_node or () if key != "hydra"]
    fix = nearest(error.key, known)
    whole = error.full_key.rpartition(".")[0]
    group = whole.rpartition(".")[2]
    if not known and group and (files("locvlm.conf") / group).is_dir():
        # It follows another part, such as stages.align.data: ${data}; OmegaConf forgot which.
        fix = f"give it a part of its own: add +{group}@{whole}=NAME, one of conf/{group}/"
    if {"-m", "--multirun"} & set(sys.argv):
        # Hydra composes the defaults before the sweep: what is swept may well have the key.
        fix += f"; or ++{error.full_key}=... for a key of what -m goes through"
    return ConfigError(f"there is no key {error.key!r}", where=error.full_key, fix=fix)


def _first_line(error: Any) -> ConfigError:
    return ConfigError(str(error).splitlines()[0], where=error.full_key)


def _missing_value(error: Any) -> ConfigError:
    key = error.full_key
    return ConfigError("this needs a value", where=key, fix=f"add {key}=... to the command")


def _malformed_yaml(error: Any) -> ConfigError:
    mark = error.problem_mark
    return ConfigError(
        f"malformed YAML: {error.problem}",
        where=mark and f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}",
        fix="look for a missing bracket, quote or space there, or in the line above",
    )


def _cause(error: BaseException) -> LocVLMError | None:
    return next(filter(None, map(mistake, _causes(error))), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    while error.__cause__ is not None:
        error = error.__cause__
        yield error


_HYDRA = {
    "MissingConfigException": _missing_config,
    "OverrideParseException": _unreadable_override,
    "InstantiationException": _instantiation,
    "ConfigCompositionException": _composition,
    "SearchPathException": _composition,
}
_OMEGACONF = {
    "ConfigAttributeError": _unknown_key,
    "ConfigKeyError": _unknown_key,
    "InterpolationKeyError": _first_line,
    "InterpolationResolutionError": _first_line,
    "MissingMandatoryValue": _missing_value,
    "ValidationError": _first_line,
}
