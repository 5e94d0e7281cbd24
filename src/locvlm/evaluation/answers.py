"""Recorded answers in the files that official programs read, joined with their questions."""

import logging
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from locvlm.errors import DataError
from locvlm.io import read_json, read_jsonl
from locvlm.predictors.ask import Answer
from locvlm.types import Question

NAMED = 3  # ids that a warning names
SHOWN = 40  # characters of what is quoted
FEW = 0.1  # share of the answers that may be to other words; a wrong split of POPE has a half
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Given:
    """What a file says.

    Args:
        file: that was read.
        texts: by id; where an id comes twice, its last answer, as official programs have it.
        repeated: ids that came with two different answers.
        prompts: by id, what was asked, where the file says so: LLaVA's at `prompt`, POPE's at
            `question`.
    """

    file: str
    texts: Mapping[str, str]
    repeated: Sequence[str] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)


class Matched(NamedTuple):
    """Answers that belong to questions, in the order of the questions, and what did not fit."""

    answers: list[Answer]
    counts: dict[str, int]


def read_answers(
    file: str | Path, ids: Sequence[str], texts: Sequence[str], in_order: Sequence[str] = ()
) -> Given:
    """The answers in a JSON array or in JSON Lines, whatever the file is called.

    Args:
        file: of records, each with an id and a text; numbers are read as their text.
        ids: keys of the id; the first one that a record has counts.
        texts: keys of the text, likewise.
        in_order: the ids of all questions, where records may do without: each answers the question
            in its place.

    Raises:
        DataError: the file is missing or malformed, or a record lacks either; names the record.
    """
    prompts: dict[str, str] = {}

    def answers() -> Iterator[tuple[str, str]]:
        for place, (where, record) in enumerate(records(file)):
            has_place = place < len(in_order) and isinstance(record, dict)
            if has_place and record.keys().isdisjoint(ids):
                key = in_order[place]
            else:
                key = _field(record, ids, where)
            asked = record.get("prompt", record.get("question"))
            if isinstance(asked, str):
                prompts[key] = asked
            yield key, _field(record, texts, where)

    return replace(to_given(file, answers()), prompts=prompts)


def to_given(file: str | Path, answers: Iterable[tuple[str, str]]) -> Given:
    """What `file` says: (id, text) of each answer, in its order."""
    found: dict[str, str] = {}
    repeated: dict[str, None] = {}
    for key, text in answers:
        if found.get(key, text) != text:
            repeated[key] = None
        found[key] = text
    return Given(str(file), found, list(repeated))


def records(file: str | Path) -> Iterator[tuple[str, Any]]:
    """(place, record) of a JSON array or JSON Lines file; POPE's are either, both named .json.

    Raises:
        DataError: the file is missing, malformed, or holds something else.
    """
    if _begins_with(file, b"["):
        for number, record in enumerate(read_json(file), start=1):
            yield f"{file}, record {number}", record
    else:
        for line, record in read_jsonl(file):
            yield f"{file}, line {line}", record


def match(questions: Sequence[Question], given: Given) -> Matched:
    """The answers to `questions`, by `meta["id"]`.

    What does not fit is logged with its first ids and counted; the metrics stand on the answered
    questions alone. An answer whose prompt does not hold the words of the question, at
    `meta["question"]`, counts as well: ids of POPE's splits are the same, their questions are not.

    Raises:
        DataError: there are no answers, they are the questions themselves, or they belong to other
            questions: hardly one to these, or more than `FEW` of them by their prompts.
    """
    if not given.texts:
        raise DataError("there are no answers in this file", where=given.file)
    known = {question.meta["id"] for question in questions}
    answers = [
        Answer(question, given.texts[question.meta["id"]])
        for question in questions
        if question.meta["id"] in given.texts
    ]
    # A part of the questions is answered, or answers are scored in part: both are meant, not both.
    if len(answers) * 2 < min(len(given.texts), len(known)):
        raise DataError(
            f"{len(answers) or 'none'} of its {len(given.texts):,} answers "
            f"{'belong' if len(answers) > 1 else 'belongs'} to one of the "
            f"{len(questions):,} questions",
            where=given.file,
            fix=f"the questions' ids are like {_some(sorted(known))}, the answers' like "
            f"{_some(given.texts)}: give the files of one benchmark and split",
        )
    if all(answer.text == answer.question.meta.get("question") for answer in answers):
        raise DataError(
            "these are the questions, not answers to them",
            where=given.file,
            fix="give answers=FILE of a model's answers",
        )
    elsewhere = [
        answer for answer in answers if given.prompts and _asks_else(answer, given.prompts)
    ]
    if len(elsewhere) > FEW * len(answers):
        raise _of_others(elsewhere, len(answers), given)
    misfits = {
        "questions without an answer": sorted(known - given.texts.keys()),
        "answers to unknown questions": sorted(given.texts.keys() - known),
        "questions answered twice, the last counts": list(given.repeated),
        "answers whose prompt asks something else": [
            answer.question.meta["id"] for answer in elsewhere
        ],
    }
    for what, found in misfits.items():
        if found:
            logger.warning("%s: %d %s: %s", given.file, len(found), what, _some(found))
    counts = {what: len(found) for what, found in misfits.items() if found}
    return Matched(answers, {"questions": len(questions), "answered": len(answers), **counts})


def _of_others(elsewhere: Sequence[Answer], n_answers: int, given: Given) -> DataError:
    meta = elsewhere[0].question.meta
    return DataError(
        f"{len(elsewhere):,} of its {n_answers:,} answers are to other questions: "
        f"{meta['id'][:SHOWN]!r} asks {meta['question'][:SHOWN]!r}, its answer was given to "
        f"{given.prompts[meta['id']][:SHOWN]!r}",
        where=given.file,
        fix="give the questions that were asked, of the same split; where only the wording "
        "differs, leave the prompts out of the answers",
    )


def _asks_else(answer: Answer, prompts: Mapping[str, str]) -> bool:
    meta = answer.question.meta
    words, prompt = meta.get("question"), prompts.get(meta["id"])
    return words is not None and prompt is not None and words.strip().lower() not in prompt.lower()


def _field(record: Any, keys: Sequence[str], where: str) -> str:
    if not isinstance(record, dict):
        raise DataError(f"this is no record, but {str(record)[:SHOWN]!r}", where=where)
    key = next((key for key in keys if key in record), None)
    value = None if key is None else record[key]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return value
    found = ", ".join(map(repr, record)) or "no keys"
    raise DataError(
        f"there is no text at {' or '.join(map(repr, keys))}; the record has {found}"
        if key is None
        else f"there is no text at {key!r}, but {str(value)[:SHOWN]!r}",
        where=where,
        fix="give a file of answers in the benchmark's own format",
    )


def _begins_with(file: str | Path, mark: bytes) -> bool:
    try:
        with Path(file).open("rb") as stream:
            return stream.read(64).removeprefix(BOM_UTF8).lstrip().startswith(mark)
    except OSError:
        return False  # the reader says what is wrong


def _some(names: Sequence[str] | Mapping[str, str]) -> str:
    first = (repr(name[:SHOWN]) for name in list(names)[:NAMED])
    return ", ".join(first) + (", ..." if len(names) > NAMED else "")
