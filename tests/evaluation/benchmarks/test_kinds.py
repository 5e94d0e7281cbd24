from locvlm.evaluation.benchmarks.kinds import by_kind


def test_each_kind_has_its_row_the_commonest_first():
    kinds, scores = ["verify", "query", "query", ""], [1.0, 0.5, 0.0, 0.0]
    metrics = by_kind("quiz.kind", "Quiz", kinds, scores, ["a", "a", "b", "b"], seed=0)
    assert [(metric.key, metric.row) for metric in metrics] == [
        ("quiz.kind.query", "query"),
        ("quiz.kind.verify", "verify"),
    ]
    assert [metric.estimate.value for metric in metrics] == [0.25, 1.0]
    assert [metric.estimate.n for metric in metrics] == [2, 1]
