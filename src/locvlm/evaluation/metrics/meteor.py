"""METEOR 1.5, the original program: words match as they are, by stem, synonym and paraphrase."""

from collections.abc import Sequence
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from locvlm.evaluation.bootstrap import Pooled
from locvlm.evaluation.metrics.java import check_programs, failed, start

Floats = NDArray[np.float64]
# The program's own for English: what a match of each kind weighs (exact, stem, synonym,
# paraphrase), the weight of recall, the exponent and the weight of the penalty for broken order,
# and the weight of content words against function words.
WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
N_STATISTICS = 23
_SEPARATOR = "|||"


class Meteor:
    """The running program; it starts in ten seconds and is then asked for one text at a time.

    Use it as a context manager. Its answers are statistics, which `meteor` makes scores of.

    Raises:
        ConfigError: Java or the package pycocoevalcap is missing.
    """

    def __init__(self) -> None:
        jar = str(check_programs() / "meteor" / "meteor-1.5.jar")
        self._options = ["-Xmx2G", "-jar", jar, "-", "-", "-stdio", "-l", "en", "-norm"]
        self._errors = TemporaryFile()  # noqa: SIM115  closed with the program
        self._program = start(self._options, self._errors)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._program.kill()
        self._program.communicate()
        self._errors.close()

    def statistics(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
        """The program's statistics of each candidate against its references.

        Args:
            candidates: (K,) as `ptb_words` gives them: words and single spaces.
            references: (K,) likewise, at least one for each candidate; the best one counts.

        Returns:
            (K, 23) numbers that can be added over candidates.

        Raises:
            LocVLMError: the program ends early.
        """
        rows = [
            self._ask("SCORE", *of, candidate)
            for candidate, of in zip(candidates, references, strict=True)
        ]
        return np.array(rows, dtype=np.float64).reshape(-1, N_STATISTICS)

    def _ask(self, *fields: str) -> list[float]:
        line = f" {_SEPARATOR} ".join(field.replace(_SEPARATOR, "") for field in fields)
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        try:
            self._program.stdin.write(line.encode() + b"\n")
            self._program.stdin.flush()
            numbers = [float(number) for number in self._program.stdout.readline().split()]
        except (OSError, ValueError) as error:
            raise failed(self._options, self._errors) from error
        if len(numbers) != N_STATISTICS:  # none, where the program has ended
            raise failed(self._options, self._errors)
        return numbers


def meteor(statistics: Floats) -> Pooled:
    """METEOR of all candidates: of the sum of their statistics, not the mean of their scores.

    Args:
        statistics: (K, 23) from `Meteor`.
    """
    return Pooled(statistics, meteor_scores)


def meteor_scores(statistics: Floats) -> Floats:
    """The scores, 0 to 1, of statistics or of their sums, as the program computes them.

    Args:
        statistics: (..., 23): words and function words of candidate and reference, then matched
            content words, function words of both for each kind of match, then chunks and matched
            words.

    Returns:
        (...,), 0 where nothing matches.

    Source: Denkowski and Lavie, Meteor Universal, WMT 2014; MeteorScorer.java of METEOR 1.5.
    """
    words, function = statistics[..., 0:2], statistics[..., 2:4]
    # Of each kind of match: content words of candidate and reference, then function words of both.
    matches = statistics[..., 4:20].reshape(*statistics.shape[:-1], 4, 2, 2)
    chunks, matched = statistics[..., 20], statistics[..., 21:23]
    content_or_function = np.array([DELTA, 1 - DELTA])
    found = np.einsum("...kfs,k,f->...s", matches, WEIGHTS, content_or_function)
    weight = DELTA * (words - function) + (1 - DELTA) * function
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = np.moveaxis(found / weight, -1, 0)
        mean = 1 / ((1 - ALPHA) / precision + ALPHA / recall)
        broken = chunks / (matched.sum(axis=-1) / 2)
    whole = np.all(matches.sum(axis=(-3, -2)) == words, axis=-1) & (chunks == 1)
    score = mean * (1 - GAMMA * np.where(whole, 0, broken) ** BETA)
    return np.where(found.min(axis=-1) > 0, score, 0.0)
