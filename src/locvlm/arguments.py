"""Arguments as `key=value` in plain text: commands whose values hold paths and nothing else.

Hydra's grammar gives a meaning to commas, parentheses and quotes; a path may hold them all. Here a
value is taken as it stands.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib.resources import files
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError

from locvlm.config import check_targets
from locvlm.errors import ConfigError


def compose_plain(
    command: str,
    group: str,
    arguments: Sequence[str],
    *,
    names: Collection[str],
    own: Collection[str],
    chosen: Collection[str] = (),
) -> DictConfig:
    """The config of a command that is about one benchmark.

    `benchmark=name` chooses an option of `group`; all other keys go into its node, except for those
    of the command itself. A key with dots goes into the nodes below.

    Args:
        command: name of its config in `conf/`.
        group: folder in `conf/` that holds what `benchmark=` chooses, and the key of its node.
        arguments: of the command line.
        names: of the benchmarks that the command takes.
        own: keys of the command itself.
        chosen: keys of the node that choose an option of the group that the last word of the key
            names; outer ones before inner ones.

    Raises:
        ConfigError: a key is unknown or missing, or a value is no option or no number.
    """
    from hydra import compose, initialize_config_module

    pairs = dict(_pair(argument) for argument in arguments)
    name = pairs.pop("benchmark", None)
    if name is None or name not in names:
        raise ConfigError(
            f"there is no benchmark {name!r}" if name else "name the benchmark",
            fix=f"give benchmark= one of {', '.join(names)}",
        )
    with initialize_config_module("locvlm.conf", version_base="1.3"):
        overrides = [f"{group}={name}"]
        cfg = compose(command, overrides)
        for key in chosen:
            if key in pairs and _has(cfg[group], key):
                of = key.rpartition(".")[2]
                overrides.append(f"{of}@{group}.{key}={_option(of, key, pairs.pop(key))}")
                cfg = compose(command, overrides)
    _forget_places(cfg[group])
    allowed = [*own, *(str(key) for key in cfg[group] if not str(key).startswith("_"))]
    for key, value in pairs.items():
        _set(cfg, key if key in own else f"{group}.{key}", value, f"{key}={value}", name, allowed)
    missing = sorted(map(str, OmegaConf.missing_keys(cfg)))
    if missing:
        needed = [key.removeprefix(f"{group}.") for key in missing]
        raise ConfigError(
            f"{name} needs {', '.join(needed)}", fix=f"add {' '.join(f'{n}=...' for n in needed)}"
        )
    check_targets(OmegaConf.to_container(cfg, resolve=True))
    return cfg


def option_names(group: str) -> Mapping[str, str]:
    """The options of a group in `conf/`, each with the text of its file."""
    folder = files("locvlm.conf") / group
    found = (file for file in folder.iterdir() if file.name.endswith(".yaml"))
    return {
        file.name.removesuffix(".yaml"): file.read_text()
        for file in sorted(found, key=lambda file: file.name)
    }


def _forget_places(node: DictConfig) -> None:
    """Leaves out where `evaluate` looks for files: here they are named, and images not needed."""
    for key, value in OmegaConf.to_container(node, resolve=False).items():  # type: ignore[union-attr]
        if isinstance(value, dict):
            _forget_places(node[key])
        elif str(value).startswith("${data_root}"):
            node[key] = None if key == "images" else MISSING


def _pair(argument: str) -> tuple[str, str]:
    key, sign, value = argument.partition("=")
    if not sign:
        raise ConfigError(
            "arguments are key=value", where=repr(argument), fix="see which there are by --help"
        )
    return key, value


def _has(node: DictConfig, key: str) -> bool:
    """Whether a key with dots is there, if only with null."""
    parent, _, last = key.rpartition(".")
    below = OmegaConf.select(node, parent) if parent else node
    return isinstance(below, DictConfig) and last in below


def _option(group: str, key: str, value: str) -> str:
    names = option_names(group)
    if value not in names:
        raise ConfigError(
            f"there is no {group} {value!r}", fix=f"give {key}= one of {', '.join(names)}"
        )
    return value


def _set(
    cfg: DictConfig, path: str, value: str, where: str, name: str, allowed: Sequence[str]
) -> None:
    parent, _, key = path.rpartition(".")
    node: Any = OmegaConf.select(cfg, parent) if parent else cfg
    if not isinstance(node, DictConfig) or key not in list(node) or key.startswith("_"):
        given = where.partition("=")[0]
        near = get_close_matches(given, allowed, n=1)
        raise ConfigError(
            f"{name} takes no {given}",
            where=where,
            fix=f"did you mean {near[0]}?" if near else f"it takes {', '.join(allowed)}",
        )
    default = None
    with suppress(InterpolationKeyError):  # of what another command has
        default = None if OmegaConf.is_missing(node, key) else node[key]
    node[key] = _typed(value, default, where)


def _typed(value: str, default: Any, where: str) -> Any:
    """The value, as a number where the default is one."""
    if isinstance(default, bool):
        if value not in ("true", "false"):
            raise ConfigError("this is true or false", where=where)
        return value == "true"
    if not isinstance(default, int | float):
        return value.replace("${", "\\${")  # a path is no interpolation
    try:
        return type(default)(value)
    except ValueError:
        raise ConfigError("this is a number", where=where) from None
