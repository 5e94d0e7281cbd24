"""Reads RefCOCO, RefCOCO+ and RefCOCOg: expressions that each refer to one object."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, NamedTuple, TypeAlias

from locvlm.data.quarantine import Quarantine
from locvlm.data.readers.fields import (
    Id,
    by_id,
    category_names,
    check_given,
    check_size,
    read_box,
    read_id,
    read_list,
    read_text,
    shown,
)
from locvlm.data.readers.images import check_folder, read_image
from locvlm.data.readers.phrases import description_of
from locvlm.data.readers.pickles import read_pickle
from locvlm.errors import ConfigError, DataError
from locvlm.json_stream import iter_json
from locvlm.negatives import Negatives, RandomNegatives
from locvlm.text import said_once
from locvlm.types import Instance, Sample, Size

# The expressions of each annotation, in their order
Said: TypeAlias = dict[Id, dict[str, None]]
# A pickle can hold one list a million times; real references have up to about 10 sentences.
_MAX_SENTENCES = 100
_EVALUATE = "to evaluate, it begins with benchmark.source"


class _Annotation(NamedTuple):
    id: Id
    category: str
    box: Any
    crowd: bool


@dataclass(frozen=True, slots=True)
class RefCocoReader:
    """Samples of one split, one for each image, with all annotated objects of the image.

    A referred object is one instance for each of its expressions, each with a unique description;
    the others have none, and make sure that no category is taken for the only one of its kind.
    What is absent are expressions about other images' objects, of categories that this image has
    no annotation of: only those that name their category ("zebra on left"), else the category.

    The pickle is read without running anything in it. It and the boxes of the split are held in
    memory; `instances` is read in a stream.

    Args:
        refs: the pickle, such as `refs(unc).p`.
        instances: `instances.json` beside it: images, annotations, categories.
        images: folder of the image files (COCO's train2014).
        split: train, val, testA or testB (RefCOCOg: test).
        sentences: `all` expressions of an object, or the `first`.
        n_negatives: absent expressions per image.
        limit: stop after that many images; None reads all.
        seed: of the drawing of negatives.
        verbatim: descriptions are the expressions word for word, as benchmarks compare them.

    Raises:
        ConfigError: a file or the split is missing, or `sentences` is something else.
    """

    refs: str | None
    instances: str | None
    images: str | None
    split: str | None = None
    sentences: Literal["all", "first"] = "all"
    n_negatives: int = 4
    limit: int | None = None
    seed: int = 0
    verbatim: bool = False

    def __post_init__(self) -> None:
        fix = """add 'source.refs="refs(unc).p"' with quotes, because of the parentheses"""
        check_given(self.refs, "a file of expressions", "refs", f"{fix}; {_EVALUATE}")
        fix = "add instances=FILE, or benchmark.source.instances=FILE to evaluate"
        check_given(self.instances, "a file of boxes", "instances", fix)
        fix = "add source.split=train (or val, testA, testB, test)"
        check_given(self.split, "a split", "split", f"{fix}; {_EVALUATE}")
        if self.sentences not in ("all", "first"):
            raise ConfigError(
                f"no sentences called {shown(self.sentences)}",
                where="source.sentences",
                fix="choose all or first",
            )

    @property
    def sources(self) -> list[str]:
        return [str(self.refs), str(self.instances)]

    def read(self, quarantine: Quarantine) -> Iterator[Sample]:
        """Samples in the order of `instances`; what cannot be used goes into `quarantine`.

        Raises:
            DataError: a file is not what it should be, has no such split, or the image folder is
                missing.
        """
        file = str(self.instances)
        folder = check_folder(self.images)
        said = self._expressions(quarantine)
        names = category_names(iter_json(file, "categories.item"), file)
        annotations = _annotations(file, names, said.keys(), quarantine)
        draw = _absent_expressions(names.values(), annotations, said)
        n_read = 0
        for where, id_, image in by_id(iter_json(file, "images.item"), "id", file, quarantine):
            if id_ not in said:  # of another split, or met before
                continue
            if n_read == self.limit:
                return
            n_read += 1
            group = annotations.get(id_, [])
            rng = Random(f"negatives {self.seed} {id_}")
            try:
                data, size = read_image(folder, image.get("file_name"))
                check_size(image, size, where)
            except DataError as error:
                quarantine.add(str(id_), error)
            else:
                yield Sample(
                    key=str(id_),
                    source=f"{file}, image {id_}",
                    image=data,
                    size=size,
                    instances=tuple(_instances(group, said[id_], size, where, quarantine)),
                    absent=tuple(draw({one.category for one in group}, rng, self.n_negatives)),
                    extra={"image": image["file_name"]},
                )
            del said[id_]
        for id_ in said:
            where = f"{self.refs}, image {id_}"
            quarantine.add(str(id_), DataError("expressions about no image", where=where))

    def _expressions(self, quarantine: Quarantine) -> dict[Id, Said]:
        """The expressions of the split, by image and annotation."""
        refs = read_pickle(str(self.refs))
        if not isinstance(refs, list):
            raise DataError("not RefCOCO's list of references", where=str(self.refs))
        found: dict[Id, Said] = defaultdict(lambda: defaultdict(dict))
        splits = set()
        for n, ref in enumerate(refs):
            where = f"{self.refs}, reference {n}"
            try:
                split = read_text(ref, "split", where)
                splits.add(split[:20])
                if split != self.split:
                    continue
                image, annotation = read_id(ref, "image_id", where), read_id(ref, "ann_id", where)
                texts = read_list(ref, "sentences", where)
                if len(texts) > _MAX_SENTENCES:
                    raise DataError(f"reference with {len(texts)} sentences", where=where)
            except DataError as error:
                quarantine.add(f"reference {n}", error)
                continue
            for sentence in texts[:1] if self.sentences == "first" else texts:
                try:
                    sent = read_text(sentence, "sent", where)
                    text = sent if self.verbatim else description_of(sent) or sent
                    found[image][annotation][text] = None
                except DataError as error:
                    quarantine.add(f"reference {n}", error)
        if not found:
            raise DataError(
                f"no expressions in the split {shown(self.split)}",
                where=str(self.refs),
                fix=f"there are {', '.join(sorted(splits)[:9]) or 'no splits'}",
            )
        return found


def _annotations(
    file: str, names: Mapping[Id, str], images: Collection[Id], quarantine: Quarantine
) -> dict[Id, list[_Annotation]]:
    """What `images` show, by image."""
    groups: dict[Id, list[_Annotation]] = defaultdict(list)
    items = iter_json(file, "annotations.item")
    for where, image, item in by_id(items, "image_id", file, quarantine):
        if image not in images:
            continue
        try:
            category = read_id(item, "category_id", where)
            if category not in names:
                raise DataError(f"unknown category id: {category}", where=where)
            groups[image].append(
                _Annotation(
                    id=read_id(item, "id", where),
                    category=names[category],
                    box=item.get("bbox"),
                    crowd=bool(item.get("iscrowd", 0)),
                )
            )
        except DataError as error:
            quarantine.add(str(image), error)
    return groups


def _instances(
    annotations: Sequence[_Annotation], said: Said, size: Size, where: str, quarantine: Quarantine
) -> Iterator[Instance]:
    unique = said_once(said.values())
    for one in annotations:
        place = f"{where}, annotation {one.id}"
        try:
            box = read_box(one.box, size, place)
        except DataError as error:
            quarantine.add(f"annotation {one.id}", error)
            continue
        for text in said.get(one.id) or [None]:
            yield Instance(one.category, box, text, crowd=one.crowd, unique=text in unique)
    for id_ in said.keys() - {one.id for one in annotations}:
        missing = DataError("expression about no annotation", where=f"{where}, annotation {id_}")
        quarantine.add(f"annotation {id_}", missing)


def _absent_expressions(
    names: Iterable[str],
    annotations: Mapping[Id, Sequence[_Annotation]],
    said: Mapping[Id, Said],
) -> Negatives:
    """Draws expressions about objects of categories that an image does not show."""
    naming: dict[str, dict[str, None]] = {name: {} for name in sorted(set(names))}
    for image, group in annotations.items():
        for one in group:
            naming[one.category].update(
                (text, None) for text in said[image].get(one.id, ()) if one.category in text
            )
    texts = {category: list(found) or [category] for category, found in naming.items()}
    categories = RandomNegatives(list(texts))

    def draw(present: set[str], rng: Random, n: int) -> list[str]:
        return [rng.choice(texts[category]) for category in categories(present, rng, n)]

    return draw
