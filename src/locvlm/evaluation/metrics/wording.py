"""How near texts are to what people wrote: METEOR and CIDEr-D, after one tokenizer."""

from collections.abc import Mapping, Sequence
from itertools import chain, islice
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from locvlm.errors import ConfigError
from locvlm.evaluation.bootstrap import Pooled
from locvlm.evaluation.metrics.cider import cider_d
from locvlm.evaluation.metrics.java import check_programs
from locvlm.evaluation.metrics.meteor import Floats, Meteor, meteor, meteor_scores
from locvlm.evaluation.metrics.ptb import LONGEST, plain_words, ptb_words

Tokenizer: TypeAlias = Literal["ptb", "plain"]
_TOKENIZERS = {"ptb": ptb_words, "plain": plain_words}


class Wording(NamedTuple):
    """The metrics of texts, and (K,) how near each text is, 0 to 1."""

    metrics: Mapping[str, Pooled]
    near: Floats


def wording(
    versions: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    tokenizer: Tokenizer = "ptb",
) -> list[Wording]:
    """The metrics of each version of some texts against the same references.

    With the tokenizer `ptb` they are `meteor` and `cider`, the numbers that papers print; with
    `plain`, which needs no Java, `cider_plain`: it must not be compared with theirs.

    Args:
        versions: (K,) texts each, such as answers as they are and without their frame.
        references: (K,) what people wrote, at least one text each.
        tokenizer: ptb or plain.

    Raises:
        ConfigError: Java or the package pycocoevalcap is missing.
    """
    tokenize = _TOKENIZERS[tokenizer]
    of = regrouped(tokenize(list(chain(*references))), references)
    candidates = [tokenize(texts) for texts in versions]
    ciders = [cider_d(texts, of) for texts in candidates]
    if tokenizer == "plain":
        return [Wording({"cider_plain": _mean(cider)}, cider / 10) for cider in ciders]
    with Meteor() as program:
        rows = [program.statistics(texts, of) for texts in candidates]
    return [
        Wording({"meteor": meteor(row), "cider": _mean(cider)}, meteor_scores(row))
        for row, cider in zip(rows, ciders, strict=True)
    ]


def check_tokenizer(tokenizer: str) -> None:
    """Makes sure before a model is asked that its answers can be scored.

    Raises:
        ConfigError: there is no such tokenizer, or it cannot be run.
    """
    if tokenizer not in _TOKENIZERS:
        raise ConfigError(
            f"there is no tokenizer {tokenizer!r}", where="tokenizer", fix="choose ptb or plain"
        )
    if tokenizer == "ptb":
        check_programs()


def wording_protocol(tokenizer: Tokenizer) -> dict[str, Any]:
    """What a stranger needs to repeat the metrics, as JSON values."""
    cider = "CIDEr-D of pycocoevalcap, times 10; rarity counted among the answered references"
    cut = f"texts are cut after {LONGEST:,} characters"
    if tokenizer == "plain":
        return {"tokenizer": f"runs of letters and digits; {cut}", "cider_plain": cider}
    return {
        "tokenizer": f"PTBTokenizer of CoreNLP 3.4.1, lower case, no punctuation; {cut}",
        "meteor": "METEOR 1.5, -l en -norm; statistics summed over the corpus, for the interval "
        "over drawn images",
        "cider": cider,
    }


def regrouped(texts: Sequence[str], groups: Sequence[Sequence[object]]) -> list[list[str]]:
    """Texts in one row as groups of the sizes of `groups`.

    >>> regrouped(["a", "b", "c"], [[1], [2, 3]])
    [['a'], ['b', 'c']]
    """
    rest = iter(texts)
    return [list(islice(rest, len(group))) for group in groups]


def _mean(scores: Floats) -> Pooled:
    # No `Ratio`: one of 0 or 1 is taken for a share of right answers, and CIDEr-D goes up to 10.
    counted = np.stack([scores, np.ones_like(scores)], axis=1)
    return Pooled(counted, lambda sums: sums[..., 0] / sums[..., 1])
