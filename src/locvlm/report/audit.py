"""An audit in a few numbers and tables, for the terminal and the page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from locvlm.data.split_audit import Audit
from locvlm.data.survey import WORDS, Quantiles, quantiles

TOP, BOTTOM = 8, 4


@dataclass(frozen=True, slots=True)
class AuditTable:
    """One table: its columns, rows of values, and what one must know to read it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""

    def is_text(self, column: int) -> bool:
        """Whether a column holds words, which are read from the left."""
        cells = (row[column] for row in self.rows)
        return any(isinstance(cell, str) and not cell.endswith(" %") for cell in cells)

    @staticmethod
    def cell(value: object) -> str:
        """A value as people read it."""
        return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def headlines(audit: Audit) -> list[tuple[str, str]]:
    """Name and value of the few numbers that sum up an audit."""
    learned = audit.learned
    lengths = quantiles(learned.lengths)
    found = [
        ("samples", f"{audit.n_samples:,}"),
        ("bad samples", f"{audit.n_bad:,}"),
        ("tokens learned", _percent(learned.share)),
        ("turns with a location", _percent(learned.located)),
        ("longest sequence", f"{lengths.max:,}" if lengths else "-"),
    ]
    if audit.leaks:
        leaked = {position for leak in audit.leaks for position in leak.positions}
        found.append(("samples of benchmarks", f"{len(leaked):,}"))
    return found


def tables(audit: Audit) -> list[AuditTable]:
    """What people read of an audit, the most important table first."""
    made = [_sources(audit), _leaks(audit), _tokens(audit), _images(audit)]
    made += [_words(audit), _categories(audit)]
    return [table for table in made if table.rows]


def _sources(audit: Audit) -> AuditTable:
    rows = [
        (
            source.name,
            source.folder,
            source.n_samples,
            len(source.lost) + source.survey.problems["bad"],
            _percent(source.share),
            _list(source.survey.kinds),
        )
        for source in audit.sources
    ]
    return AuditTable(
        f"Sources of data.{audit.split}",
        ["source", "shards", "samples", "bad", "of draws", "kinds"],
        rows,
        "All samples were read: checksums, records and image headers.",
    )


def _leaks(audit: Audit) -> AuditTable:
    n_named, n_images = map(
        sum,
        zip(*((s.n_coco_names, s.survey.widths.total()) for s in audit.sources), strict=True),
    )
    return AuditTable(
        "Benchmark images in these data",
        ["benchmark", "images", "leaked", "by COCO id", "by bytes", "not compared", "in samples"],
        [
            (
                leak.benchmark,
                leak.n_images,
                leak.n_leaked,
                leak.n_by_id,
                leak.n_by_bytes,
                leak.n_unknown,
                len(leak.positions),
            )
            for leak in audit.leaks
        ],
        f"{n_named:,} of {n_images:,} images of these data have a COCO name; the bytes of all "
        "were compared with those of benchmarks that bring their images.",
    )


def _tokens(audit: Audit) -> AuditTable:
    learned = audit.learned
    groups = learned.kinds()
    if len(groups) > 1:
        groups["all"] = learned
    rows = []
    for kind, part in groups.items():
        lengths = quantiles(part.lengths)
        rows.append(
            (
                kind,
                len(part.samples),
                *(lengths or ()),
                _percent(part.n_cut / len(part.samples)),
                _percent(part.share),
                _percent(part.n_silent / len(part.samples)),
                _percent(part.located),
            )
        )
    return AuditTable(
        "Tokens, as training sees them",
        [
            *("kind", "samples", "min", "median", "95 %", "max", "cut", "learned"),
            *("nothing to learn", "turns with a location"),
        ],
        rows,
        f"Of the first {learned.n_samples} draws of training; sequences are cut at "
        f"{audit.max_length:,} tokens.",
    )


def _images(audit: Audit) -> AuditTable:
    rows: list[Sequence[object]] = []
    for source in audit.sources:
        survey = source.survey
        problems = survey.problems
        rows.append(
            (
                source.name,
                survey.widths.total(),
                _span(quantiles(survey.widths)),
                _span(quantiles(survey.heights)),
                problems["other size"],
                survey.counts["locations"],
                problems["outside"],
                problems["no area"],
                problems["plain text"],
                source.same_image.number,
                source.same_key.number,
            )
        )
    return AuditTable(
        "Images and locations",
        [
            *("source", "images", "widths", "heights", "other size", "locations"),
            *("outside", "no area", "as text", "images twice", "keys twice"),
        ],
        rows,
        "Widths and heights: min / median / 95 % / max. Problems are counted in samples.",
    )


_PLACES = {"in questions": "user", "in answers": "assistant", "in descriptions": "description"}


def _words(audit: Audit) -> AuditTable:
    found = sum((source.survey.words for source in audit.sources), Counter())
    rows = [
        (word, *(found[word, place] for place in _PLACES.values()))
        for word in WORDS
        if any(found[word, place] for place in _PLACES.values())
    ]
    n_turns = sum(source.survey.counts["assistant turns"] for source in audit.sources)
    return AuditTable(
        "Words of place",
        ["word", *_PLACES],
        rows,
        f"In {n_turns:,} finished turns; what objectives write is not counted.",
    )


def _categories(audit: Audit) -> AuditTable:
    found = sum((source.survey.categories for source in audit.sources), Counter())
    singles = sum((source.survey.singles for source in audit.sources), Counter())
    counts = sum((source.survey.counts for source in audit.sources), Counter())
    ordered = sorted(found, key=lambda name: (-found[name], name))
    shown = ordered if len(ordered) <= TOP + BOTTOM else [*ordered[:TOP], "...", *ordered[-BOTTOM:]]
    rows = [
        ("...", None, None, None)
        if name == "..."
        else (
            name[:60],
            found[name],
            _percent(found[name] / found.total()),
            _percent(singles[name] / found[name]),
        )
        for name in shown
    ]
    return AuditTable(
        f"Categories: {len(found):,} of {found.total():,} instances",
        ["category", "instances", "of all", "alone in their image"],
        rows,
        f"{_percent(singles.total() / max(1, found.total()))} of the instances are alone of their "
        f"category; {counts['images with a nameable instance']:,} of "
        f"{counts['annotated images']:,} annotated images have one that can be asked for by name.",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _span(found: Quantiles | None) -> str:
    return "" if found is None else " / ".join(map(str, found))


def _list(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{name[:40]} {count:,}" for name, count in ordered[:6]]
    return ", ".join(named) + (", ..." if len(ordered) > len(named) else "")
