"""Judges an audit: whether the data can be trained on, and what a person should look at."""

from typing import NamedTuple

from locvlm.data.split_audit import Audit, SourceAudit
from locvlm.data.survey import Problem
from locvlm.errors import DataError

ANNOTATED = "annotated image"
_MANY_SILENT = 0.1  # more samples without anything to learn are worth a warning


class Finding(NamedTuple):
    """What a person should look at, and what to do about it."""

    what: str
    fix: str


def check_trainable(audit: Audit) -> None:
    """Refuses data that cannot be trained on.

    Raises:
        DataError: all samples are bad, more are bad than training skips, or nothing is learned.
    """
    n_bad, n_samples, learned = audit.n_bad, audit.n_samples, audit.learned
    where = f"data.{audit.split}"
    if n_bad == n_samples or (learned.bad and not learned.samples):
        raise DataError(
            f"no sample can be used: {n_bad:,} of {n_samples:,} are bad; the first one: "
            f"{audit.bad[0]}",
            where=where,
            fix="prepare the data again",
        )
    if n_bad > audit.max_bad_samples:
        raise DataError(
            f"training would stop: {n_bad:,} of {n_samples:,} samples are bad, "
            f"{audit.max_bad_samples:,} allowed; the first one: {audit.bad[0]}",
            where=where,
            fix="prepare the data again, or raise data.max_bad_samples",
        )
    if learned.samples and not learned.n_learned:
        raise DataError(
            f"none of {learned.n_tokens:,} tokens is learned: there is no answer in these "
            f"{learned.n_samples} samples",
            where=where,
            fix="choose objectives other than none for annotated images; give conversations as "
            "data.train.conversation.shards, check that assistant turns are there, and that "
            "processor.max_length does not cut them off",
        )


def warnings(audit: Audit) -> list[Finding]:
    """What a person should look at, the worst first."""
    found = [*_leaked(audit), *_bad(audit)]
    for source in audit.sources:
        found += _misplaced(source)
    found += _unlearned(audit)
    for source in audit.sources:
        found += _doubled(source)
    return found + _not_compared(audit)


def _leaked(audit: Audit) -> list[Finding]:
    return [
        Finding(
            f"{leak.n_leaked:,} of {leak.n_images:,} images of {leak.benchmark} stand in "
            f"{len(leak.positions):,} samples: results on it would not count",
            "leave these samples out and prepare the data again; audit.json names them",
        )
        for leak in audit.leaks
        if leak.n_leaked
    ]


def _bad(audit: Audit) -> list[Finding]:
    if not audit.n_bad:
        return []
    return [
        Finding(
            f"{audit.n_bad:,} of {audit.n_samples:,} samples are bad; the first one: "
            f"{audit.bad[0]}",
            "prepare the data again; training skips up to data.max_bad_samples="
            f"{audit.max_bad_samples}",
        )
    ]


_MISPLACED: dict[Problem, tuple[str, str]] = {
    "other size": (
        "have images of another size than their record says: their boxes are misplaced",
        "annotate these very files, and prepare the data again",
    ),
    "unit square": (
        "have all their boxes in the first pixel: they look like shares of width and height",
        "shards hold pixels of the original image: multiply by its size",
    ),
    "no area": (
        "have boxes without area, or corners in the wrong order",
        "shards hold corners (x1, y1, x2, y2): were they given as x, y, width, height?",
    ),
    "outside": (
        "have locations outside their image",
        "look at them in audit.html: another size, or another order of numbers?",
    ),
    "plain text": (
        "hold locations as plain text: their numbers are learned as they stand, in whatever "
        "frame they were written",
        "prepare the data again in the dialect that they were written in, such as "
        "+dialect@source.dialect=llava, so that they become locations",
    ),
}


def _misplaced(source: SourceAudit) -> list[Finding]:
    survey = source.survey
    return [
        Finding(
            f"{survey.problems[problem]:,} of {source.n_samples:,} samples of {source.name} "
            f"{what}; the first one: {survey.examples[problem][0]}",
            fix,
        )
        for problem, (what, fix) in _MISPLACED.items()
        if survey.problems[problem]
    ]


def _unlearned(audit: Audit) -> list[Finding]:
    learned = audit.learned
    found = []
    for number, source in enumerate(audit.sources):
        own = [sample for sample in learned.samples if sample.source == number]
        if own and not any(sample.n_learned for sample in own):
            found.append(
                Finding(
                    f"nothing is learned of the {len(own)} samples of {source.name} that were "
                    "tokenized",
                    "leave the source out, or look at its samples token by token with n=3",
                )
            )
    if not found and learned.n_silent > _MANY_SILENT * learned.n_samples:
        found.append(
            Finding(
                f"{learned.n_silent} of {learned.n_samples} samples give nothing to learn; "
                "others take their places",
                "annotated images need a category with one instance, or absent ones",
            )
        )
    if learned.n_cut:
        found.append(
            Finding(
                f"{learned.n_cut} of {learned.n_samples} samples are longer than "
                f"{audit.max_length:,} tokens and lose their end; the longest has "
                f"{max(learned.lengths):,}",
                f"raise processor.max_length={audit.max_length}, or cut conversations in two",
            )
        )
    return found


def _doubled(source: SourceAudit) -> list[Finding]:
    found = []
    if source.same_key.number:
        found.append(
            Finding(
                f"{source.same_key.number:,} keys of {source.name} stand for several samples; the "
                f"first one: {' and '.join(source.same_key.first)}",
                "give records ids of their own: objectives draw by key, and errors name it",
            )
        )
    # Several conversations about one image are nothing odd.
    if source.same_image.number and set(source.survey.kinds) == {ANNOTATED}:
        found.append(
            Finding(
                f"{source.same_image.number:,} images of {source.name} are annotated more than "
                f"once; the first one: {' and '.join(source.same_image.first)}",
                "join their annotations: a category that one of them lacks counts as absent",
            )
        )
    return found


def _not_compared(audit: Audit) -> list[Finding]:
    has_names = any(source.n_coco_names for source in audit.sources)
    found = []
    for leak in audit.leaks:
        if leak.n_unknown:
            found.append(
                Finding(
                    f"{leak.n_unknown:,} of {leak.n_images:,} images of {leak.benchmark} have no "
                    "COCO name and no bytes: they were compared with nothing",
                    "add the folder of its image files to benchmarks",
                )
            )
        elif not (has_names or leak.n_has_bytes):
            found.append(
                Finding(
                    f"{leak.benchmark} names COCO images, and the samples have no COCO names: "
                    "nothing was compared",
                    "add the folder of its image files to benchmarks",
                )
            )
    return found
