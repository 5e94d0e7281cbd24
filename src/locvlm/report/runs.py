"""Finished runs as their folders hold them, and in what two of them are not alike."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from locvlm.errors import DataError
from locvlm.io import read_json, read_jsonl

RESULTS, ITEMS = "results.json", "items.jsonl"
FORMAT = 1
_TEXTS = ("key", "table", "row", "column", "better", "headline")
_NUMBERS = ("value", "low", "high")
_ITEM_TEXTS = ("key", "group", "image", "question", "answer", "wanted", "outcome")
_SHOWN = 60  # characters of a value that a message quotes
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Measured:
    """A run of a benchmark.

    Args:
        folder: of its files.
        results: the contents of results.json.
        name: what it is called in tables; no two runs of a comparison that are about the same
            questions have one name.
    """

    folder: Path
    results: Mapping[str, Any]
    name: str

    @property
    def benchmark(self) -> str:
        """The name of its benchmark."""
        return str(self.results["benchmark"])

    @property
    def metrics(self) -> Sequence[Mapping[str, Any]]:
        """In the order of its file."""
        metrics: Sequence[Mapping[str, Any]] = self.results["metrics"]
        return metrics

    @property
    def data(self) -> tuple[str, ...]:
        """Tells what it asked: hashes of the benchmark's files, or one of all questions."""
        hashes = {key: value for key, value in self.results["data"].items() if key != "images"}
        files = sorted(str(value) for key, value in hashes.items() if key != "sha256")
        return tuple(files) or tuple(str(value) for value in hashes.values())

    def items(self) -> list[dict[str, Any]]:
        """Every question with what came of it; empty where the file is missing.

        Raises:
            DataError: the file is malformed; names the line.
        """
        path = self.folder / ITEMS
        if not path.is_file():
            return []
        return [_checked_item(item, f"{path}, line {line}") for line, item in read_jsonl(path)]


def read_runs(paths: Sequence[str | Path]) -> list[Measured]:
    """The runs at or below each path, each once, in the order of the paths.

    Args:
        paths: run folders, results.json files, or folders above them.

    Raises:
        DataError: there is none at a path, or what was named is no results file of ours. Below a
            folder, files that are none are left out with a warning.
    """
    found: dict[Path, tuple[Path, Mapping[str, Any]]] = {}
    for path in map(Path, paths):
        here = list(_read(path))
        if not here:
            raise DataError(
                f"there is no {RESULTS} here",
                where=str(path),
                fix="give the output folder of locvlm.evaluate or locvlm.score, or one above",
            )
        for file, results in here:
            found.setdefault(file.resolve(), (file.parent, results))
    return _named(list(found.values()))


def differences(run: Measured, other: Measured) -> list[str]:
    """In what the protocols of two runs differ, field by field: "version: 2, not 1"."""
    one, two = _facts(run), _facts(other)
    return [
        f"{field}: {_short(one.get(field))}, not {_short(two.get(field))}"
        for field in dict.fromkeys((*one, *two))
        if one.get(field) != two.get(field)
    ]


def _facts(run: Measured) -> dict[str, Any]:
    """What must be equal for two numbers to mean the same, by name."""
    facts = {"version": run.results["version"]}
    facts |= dict(_flat("protocol", run.results["protocol"]))
    facts["data"] = " ".join(value[:12] for value in run.data)
    facts["answered"] = max((metric["n"] for metric in run.metrics), default=0)
    return facts


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from _flat(f"{name}.{key}", below)
    else:
        yield name, value


def _short(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _read(path: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Results files with their contents: the one that is named, or all below a folder."""
    named = path if path.is_file() else path / RESULTS
    if named.is_file():
        yield named, _checked(read_json(named), str(named))
        return
    for file in sorted(path.rglob(RESULTS)):
        try:
            yield file, _checked(read_json(file), str(file))
        except DataError as error:
            logger.warning("left out: %s (%s)", error.what, error.where)


def _named(found: Sequence[tuple[Path, Mapping[str, Any]]]) -> list[Measured]:
    """Runs by their subject; by their folder too where a subject comes twice."""
    runs = [Measured(folder, results, _subject(results)) for folder, results in found]
    seen = [(run.benchmark, run.data, run.name) for run in runs]
    return [
        Measured(run.folder, run.results, f"{run.name} ({run.folder})")
        if seen.count(of) > 1
        else run
        for run, of in zip(runs, seen, strict=True)
    ]


def _subject(results: Mapping[str, Any]) -> str:
    return str(results["title"]).removesuffix(f" on {results['benchmark']}")


def _checked(results: Any, where: str) -> Mapping[str, Any]:
    """`results`, if it is what an evaluation writes.

    Raises:
        DataError: it is not.
    """
    try:
        texts = all(isinstance(results[key], str) for key in ("title", "benchmark", "version"))
        maps = all(isinstance(results[key], dict) for key in ("protocol", "data"))
        good = texts and maps and all(map(_is_metric, results["metrics"]))
        version = results["format"]
    except (LookupError, TypeError, AttributeError):
        good, version = False, None
    if version not in (None, FORMAT):
        raise DataError(
            f"these results have format {str(version)[:20]}, this program reads {FORMAT}",
            where=where,
            fix="compare them with the version of locvlm that wrote them",
        )
    if not good:
        raise DataError(
            "this is no results file of an evaluation",
            where=where,
            fix="give a results.json that locvlm.evaluate or locvlm.score wrote",
        )
    checked: Mapping[str, Any] = results
    return checked


def _is_metric(metric: Any) -> bool:
    numbers = [metric[key] for key in _NUMBERS] + [metric.get("chance")]
    return (
        all(isinstance(metric[key], str) for key in _TEXTS)
        and all(number is None or _is_number(number) for number in numbers)
        and isinstance(metric["n"], int)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _checked_item(item: Any, where: str) -> dict[str, Any]:
    if (
        isinstance(item, dict)
        and set(map(type, map(item.get, _ITEM_TEXTS))) == {str}
        and _is_number(item.get("score"))
    ):
        return item
    raise DataError(
        "this line is no question of a run",
        where=where,
        fix="evaluate again; answers that are there are not asked for again",
    )
