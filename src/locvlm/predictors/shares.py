"""Several processes answer the questions of one benchmark, each its share of them."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locvlm.errors import ConfigError
from locvlm.io import append_jsonl, drop_torn_line
from locvlm.predictors.ask import Answer, Predictor, answers_in, ask, fingerprints, header
from locvlm.types import Question


@dataclass(frozen=True, slots=True)
class Share:
    """The questions of one process: share `index` (from 0) of `count`."""

    index: int
    count: int


def to_share(text: str) -> Share:
    """Reads "1/4".

    Raises:
        ConfigError: it is none.

    >>> to_share("1/4")
    Share(index=1, count=4)
    """
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
    if found is None or int(found[1]) >= int(found[2]):
        raise ConfigError(
            f"{text!r} is no share of the questions",
            where="share",
            fix="give its number and that of all, from 0/4 to 3/4",
        )
    return Share(int(found[1]), int(found[2]))


def ask_together(
    questions: Sequence[Question],
    predictor: Predictor,
    file: Path,
    *,
    count: int = 1,
    running: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[Answer]:
    """As `ask`, while other processes answer the shares 1 to `count` - 1.

    Args:
        questions: as in `ask`.
        predictor: as in `ask`.
        file: as in `ask`; what earlier runs left in shares goes into it first.
        count: of shares; this process takes share 0.
        running: whether others are still at work; raises where one has failed.
        on_progress: told the number of questions that have their answer, of anybody.

    Raises:
        DataError: as in `ask`.
    """

    def told(_: int = 0) -> None:
        running()
        on_progress(sum(map(_n_answers, [file, *share_files(file)])))

    if count > 1:
        ask_share(questions, predictor, file, Share(0, count), on_progress=told)
        while running():
            told()
            time.sleep(0.2)
    merge(questions, predictor, file)
    return ask(questions, predictor, file, on_progress=on_progress)


def ask_share(
    questions: Sequence[Question],
    predictor: Predictor,
    file: Path,
    share: Share,
    *,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[Answer]:
    """Asks the questions of one share, and keeps the answers in a file of its own beside `file`.

    Questions about one image are in one share. What any process has answered before, in whatever
    number of shares, is not asked again.

    Args:
        questions: all of them, the same in each process.
        predictor: the same in each process.
        file: of all answers, see `merge`.
        share: of this process.
        on_progress: told the number of questions of this share that have their answer.

    Raises:
        DataError: some file holds the answers of another predictor.
    """
    own = share_file(file, share)
    answered: set[str] = set()
    for other in {file, *share_files(file)} - {own}:
        answered |= answers_in(other, predictor, growing=True).keys()
    mine = [
        question
        for question, key, index in _shared(questions, share.count)
        if index == share.index and key not in answered
    ]
    return ask(mine, predictor, own, on_progress=on_progress)


def merge(questions: Sequence[Question], predictor: Predictor, file: Path) -> None:
    """Brings the answers of all shares into `file`, as one process would have left it.

    Args:
        questions: all of them; their order is that of the answers.
        predictor: who gave them.
        file: of all answers; what it holds already stays.

    Raises:
        DataError: some file holds the answers of another predictor.
    """
    shares = share_files(file)
    if not shares:
        return
    known: dict[str, dict[str, Any]] = {}
    for one in [file, *shares]:
        drop_torn_line(one)
        known = answers_in(one, predictor) | known
    asked = dict.fromkeys(fingerprints(questions))
    order = [*(key for key in known if key not in asked), *(key for key in asked if key in known)]
    whole = file.with_name(f".{file.name}")
    whole.unlink(missing_ok=True)
    append_jsonl(whole, header(predictor), *(known[key] for key in order))
    whole.replace(file)
    for one in shares:
        one.unlink()


def share_file(file: Path, share: Share) -> Path:
    """Where the answers of a share go.

    >>> share_file(Path("answers.jsonl"), Share(1, 4)).name
    'answers.1-of-4.jsonl'
    """
    return file.with_name(f"{file.stem}.{share.index}-of-{share.count}{file.suffix}")


def share_files(file: Path) -> list[Path]:
    """The files of all shares that were ever begun and not yet merged."""
    return sorted(file.parent.glob(f"{file.stem}.*-of-*{file.suffix}"))


def forget(file: Path) -> None:
    """Deletes all answers, of shares too."""
    for one in [file, *share_files(file)]:
        one.unlink(missing_ok=True)


def _n_answers(file: Path) -> int:
    return max(0, file.read_bytes().count(b"\n") - 1) if file.exists() else 0


def _shared(questions: Sequence[Question], count: int) -> list[tuple[Question, str, int]]:
    """Each question with its fingerprint and the number of its share; images take turns."""
    images: dict[Any, int] = {}
    of: dict[str, int] = {}
    found = []
    for question, key in zip(questions, fingerprints(questions), strict=True):
        image = question.image or (question.sample.image and id(question.sample.image)) or key
        turn = images.setdefault(image, len(images))
        found.append((question, key, of.setdefault(key, turn % count)))
    return found
