import pytest

from locvlm.evaluation.metrics import binary

# POPE's evaluate.py on LLaVA-1.5-7B's answers, `random` split: TP 85, FP 9, TN 111, FN 35.
SAYS = [True] * 85 + [True] * 9 + [False] * 111 + [False] * 35
GOLD = [True] * 85 + [False] * 9 + [False] * 111 + [True] * 35


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (binary.accuracy(SAYS, GOLD), 0.8167),
        (binary.precision(SAYS, GOLD), 0.9043),
        (binary.recall(SAYS, GOLD), 0.7083),
        (binary.f1(SAYS, GOLD), 0.7944),
        (binary.yes_ratio(SAYS), 0.3917),
        (binary.false_yes_rate(SAYS, GOLD), 9 / 120),
    ],
)
def test_gives_popes_official_figures(metric, expected):
    assert metric.value == pytest.approx(expected, abs=5e-5)


def test_precision_without_any_yes_counts_nothing():
    assert binary.precision([False], [True]).n == 0


def test_refuses_answers_that_do_not_match():
    with pytest.raises(ValueError, match="1 answers for 2 truths"):
        binary.accuracy([True], [True, False])
