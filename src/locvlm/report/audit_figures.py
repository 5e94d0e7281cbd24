"""All figures of an audit as JSON values, for audit.json."""

from collections.abc import Sequence
from typing import Any

from locvlm.data.audit import Supervision
from locvlm.data.leaks import Leak
from locvlm.data.split_audit import Audit, SourceAudit
from locvlm.data.survey import WORDS, quantiles
from locvlm.data.verdict import Finding

Figures = dict[str, Any]


def figures(audit: Audit, warnings: Sequence[Finding]) -> Figures:
    """The figures of an audit, its warnings, and the names of leaked samples."""
    learned = audit.learned
    return {
        "split": audit.split,
        "samples": audit.n_samples,
        "bad_samples": audit.n_bad,
        "max_bad_samples": audit.max_bad_samples,
        "warnings": [finding._asdict() for finding in warnings],
        "leaks": [
            _leak(leak) | {"samples": [one._asdict() for one in named]}
            for leak, named in zip(audit.leaks, audit.leaked, strict=True)
        ],
        "tokenized": {
            "samples": learned.n_samples,
            "bad": [bad.why for bad in learned.bad],
            "max_length": audit.max_length,
            "all": _learned(learned),
            "kinds": {kind: _learned(part) for kind, part in learned.kinds().items()},
        },
        "sources": {source.name: _source(source) for source in audit.sources},
    }


def _leak(leak: Leak) -> Figures:
    return {
        "benchmark": leak.benchmark,
        "images": leak.n_images,
        "leaked": leak.n_leaked,
        "leaked_by_coco_id": leak.n_by_id,
        "leaked_by_bytes": leak.n_by_bytes,
        "compared_with_nothing": leak.n_unknown,
        "training_samples": len(leak.positions),
    }


def _learned(part: Supervision) -> Figures:
    lengths = quantiles(part.lengths)
    return {
        "samples": part.n_samples,
        "tokens": lengths and lengths._asdict(),
        "cut": part.n_cut,
        "nothing_to_learn": part.n_silent,
        "learned_share": part.share,
        "located_turns_share": part.located,
    }


def _source(source: SourceAudit) -> Figures:
    survey = source.survey
    spans = {"widths": quantiles(survey.widths), "heights": quantiles(survey.heights)}
    return {
        "folder": source.folder,
        "share_of_draws": source.share,
        "samples": source.n_samples,
        "lost_samples": list(source.lost),
        "kinds": dict(survey.kinds.most_common()),
        "images": survey.widths.total(),
        **{name: span and span._asdict() for name, span in spans.items()},
        "counts": dict(survey.counts),
        "problems": dict(survey.problems),
        "examples": {
            problem: [str(one) for one in named] for problem, named in survey.examples.items()
        },
        "keys_of_several_samples": source.same_key.number,
        "images_of_several_samples": source.same_image.number,
        "images_with_coco_name": source.n_coco_names,
        "words": {
            word: {
                place: survey.words[word, place] for place in ("user", "assistant", "description")
            }
            for word in WORDS
        },
        "categories": dict(survey.categories.most_common()),
        "single_instances": dict(survey.singles.most_common()),
    }
