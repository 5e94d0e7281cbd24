"""The accuracy of each kind of question, as a table with a row for each."""

from collections.abc import Sequence

from locvlm.evaluation.bootstrap import ratio
from locvlm.evaluation.results import Column, Metric, Row


def by_kind(
    key: str,
    table: str,
    kinds: Sequence[str],
    scores: Sequence[float],
    images: Sequence[str],
    *,
    seed: int,
) -> list[Metric]:
    """One metric for each kind, the commonest first.

    Args:
        key: comes before the kind in the keys of the metrics.
        table: its title.
        kinds: (K,) of each question; one without a kind, "", is in no row.
        scores: (K,) 0 to 1.
        images: (K,) that are resampled whole.
        seed: of the resampling.
    """
    places: dict[str, list[int]] = {}
    for place, kind in enumerate(kinds):
        places.setdefault(kind, []).append(place)
    places.pop("", None)
    metrics = []
    for kind, chosen in sorted(places.items(), key=lambda pair: -len(pair[1])):
        row = Row(key, table, kind, [images[place] for place in chosen], seed)
        metrics += row.metrics(Column(kind, "Accuracy", ratio([scores[place] for place in chosen])))
    return metrics
