"""Questions about videos with their right answers, from the files of four data sets."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from locvlm.errors import DataError
from locvlm.evaluation.answers import records
from locvlm.evaluation.benchmarks.rows import read_rows

# By the number that stands in the files.
ACTIVITYNET = (
    "motion",
    "spatial",
    "temporal",
    "yes_no",
    "color",
    "object",
    "location",
    "number",
    "other",
)
FREE = ACTIVITYNET[3:]  # yes/no too, as the official program has it
TGIF = ("object", "number", "color", "location")
WORDS = ("what", "who", "how", "when", "where", "other")


class VideoQuestion(NamedTuple):
    """One question about a video.

    Args:
        id: that answers refer to.
        video: its name, as the data set has it.
        question: as it stands there.
        gold: the right answer.
        kind: what the question is about.
    """

    id: str
    video: str
    question: str
    gold: str
    kind: str


class Found(NamedTuple):
    """What files say.

    Args:
        asked: the questions.
        kinds: what is counted on its own: the kinds of a question, by a name.
        left_out: records without their other half, by reason.
    """

    asked: list[VideoQuestion]
    kinds: Mapping[str, Sequence[str]]
    left_out: Mapping[str, int]


def read_activitynet_qa(questions: str, annotations: str) -> Found:
    """ActivityNet-QA: questions and answers in two files, joined by question_id.

    Raises:
        DataError: a file is missing or holds something else, or not one record has its other half.
    """
    truth = {
        _text(record, "question_id", where): (
            _text(record, "answer", where),
            _kind(record, ACTIVITYNET, where),
        )
        for where, record in records(annotations)
    }
    asked, alone = [], 0
    for where, record in records(questions):
        key = _text(record, "question_id", where)
        if key in truth:
            video, text = _text(record, "video_name", where), _text(record, "question", where)
            asked.append(VideoQuestion(key, video, text, *truth[key]))
        else:
            alone += 1
    if not asked:
        raise DataError(
            f"none of its {alone:,} questions has an answer in {annotations}",
            where=questions,
            fix="give the files of one split, such as test_q.json and test_a.json",
        )
    unasked = len(truth.keys() - {one.id for one in asked})
    found = {"question without annotation": alone, "annotation without question": unasked}
    kinds = {kind: (kind,) for kind in ACTIVITYNET} | {"free": FREE}
    return Found(asked, kinds, {why: n for why, n in found.items() if n})


def read_open_ended_qa(questions: str) -> Found:
    """MSRVTT-QA or MSVD-QA: id, video_id, question and answer; the kind is the question's word.

    Raises:
        DataError: the file is missing or holds something else.
    """
    asked = []
    for where, record in records(questions):
        key, video, text, gold = (
            _text(record, name, where) for name in ("id", "video_id", "question", "answer")
        )
        word = text.strip().partition(" ")[0].lower()
        asked.append(VideoQuestion(key, video, text, gold, word if word in WORDS else "other"))
    return Found(asked, {word: (word,) for word in WORDS}, {})


def read_tgif_frameqa(questions: str) -> Found:
    """TGIF-QA's FrameQA: a table separated by tabs; its vid_id names a question, not a video.

    Raises:
        DataError: the file is missing or holds something else.
    """
    columns = ("gif_name", "question", "answer", "type", "vid_id")
    asked = [
        VideoQuestion(
            row["vid_id"],
            row["gif_name"],
            row["question"],
            row["answer"],
            _kind(row, TGIF, where),
        )
        for where, row in read_rows(questions, columns, "\t")
    ]
    return Found(asked, {kind: (kind,) for kind in TGIF}, {})


def _text(record: Any, name: str, where: str) -> str:
    value = record.get(name) if isinstance(record, dict) else None
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    raise DataError(f"there is no text at {name!r}", where=where)


def _kind(record: Mapping[str, Any], kinds: tuple[str, ...], where: str) -> str:
    number = _text(record, "type", where)
    if number in map(str, range(len(kinds))):
        return kinds[int(number)]
    raise DataError(f"type is {number[:20]!r}, not 0 to {len(kinds) - 1}", where=where)
