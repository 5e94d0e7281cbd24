"""Captions of whole images against what people wrote: METEOR and CIDEr-D."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from locvlm.errors import DataError
from locvlm.evaluation.answers import Given, read_answers
from locvlm.evaluation.benchmarks.asking import Read
from locvlm.evaluation.benchmarks.files import Entry, to_questions
from locvlm.evaluation.benchmarks.worded import worded_columns, worded_item
from locvlm.evaluation.metrics.wording import (
    Tokenizer,
    check_tokenizer,
    wording,
    wording_protocol,
)
from locvlm.evaluation.results import Row, Score
from locvlm.io import read_json
from locvlm.predictors.ask import Answer
from locvlm.types import Question

Images = dict[str, tuple[str, list[str]]]  # by id: file name, captions


class Captions:
    """One caption for each image, against the captions of a file in COCO's form.

    Args:
        references: {"annotations": [{image_id, caption}], "images": [{id, file_name}]}; the
            images may be missing where recorded answers are scored.
        images: folder of the images; None for scoring recorded answers.
        prompt: the question.
        tokenizer: ptb, as papers have it, or plain, see `wording`.
        seed: of the resampling.

    Raises:
        ConfigError: there is no such tokenizer, or it needs Java, which is missing.
        DataError: the file is missing or holds no captions, or its images are missing.

    Source: Chen et al., Microsoft COCO Captions, 2015; pycocoevalcap.
    """

    name = "captions"
    version = "1"

    def __init__(
        self,
        references: str | Path,
        images: str | Path | None = None,
        prompt: str = "Provide a one-sentence caption for the provided image.",
        tokenizer: Tokenizer = "ptb",
        seed: int = 0,
    ):
        check_tokenizer(tokenizer)
        self.files = [str(references)]
        self.split = Path(references).stem
        self.prompt = prompt
        self.tokenizer = tokenizer
        self.seed = seed
        (file,) = self.files
        self.asked = to_questions(self.name, _entries(file, prompt), source=file, images=images)

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What a stranger needs to repeat it."""
        return {
            "references": self.split,
            "prompt": self.prompt,
            **wording_protocol(self.tokenizer),
            "seed": self.seed,
        }

    def questions(self) -> list[Question]:
        """One for each image, in the order of their first captions."""
        return self.asked.questions

    def read_answers(self, file: str | Path) -> Given:
        """Captions by image_id: COCO's results format."""
        return read_answers(file, ("image_id",), ("caption",))

    def score(self, answers: Sequence[Answer], read: Read) -> Score:
        """METEOR and CIDEr-D over the answered images."""
        texts = [answer.text for answer in answers]
        references = [answer.question.meta["references"] for answer in answers]
        (found,) = wording([texts], references, self.tokenizer)
        images = [answer.question.sample.key for answer in answers]
        row = Row(self.name, "Captions", self.split, images, self.seed)
        metrics = row.metrics(*worded_columns(found))
        items = [
            worded_item(answer, near, group="Captions")
            for answer, near in zip(answers, found.near, strict=True)
        ]
        return Score(metrics, items, {"images": len(set(images)), **self.asked.left_out})

    def figures(self, score: Score) -> Mapping[str, float]:
        """As pycocoevalcap prints them: METEOR is a fraction, CIDEr a number up to 10."""
        return score.values


def _entries(file: str, prompt: str) -> Iterator[Entry]:
    for id_, (name, captions) in _captions(file).items():
        yield Entry(id_, name, (prompt,), {"references": captions})


def _captions(file: str) -> Images:
    content = read_json(file)
    content = content if isinstance(content, dict) else {}
    names = {
        str(image["id"]): image["file_name"]
        for image in _list(content.get("images"))
        if isinstance(image, dict) and "id" in image and isinstance(image.get("file_name"), str)
    }
    found: Images = {}
    for n, annotation in enumerate(_list(content.get("annotations"))):
        of = annotation if isinstance(annotation, dict) else {}
        id_, caption = of.get("image_id"), of.get("caption")
        if not isinstance(id_, int | str) or not isinstance(caption, str):
            raise DataError(
                "this is no caption: it needs image_id and caption",
                where=f"{file}, annotations[{n}]",
                fix="give a file such as captions_val2014.json",
            )
        found.setdefault(str(id_), (names.get(str(id_), str(id_)), []))[1].append(caption)
    if not found:
        raise DataError(
            "there are no captions: a list of annotations is missing or empty",
            where=file,
            fix="give a file such as captions_val2014.json",
        )
    return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
