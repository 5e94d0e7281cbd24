"""Results of a small run, as its files hold them."""

import pytest


def metric(key, value, **more):
    return {
        "key": key,
        "value": value,
        "low": None if value is None else value - 0.1,
        "high": None if value is None else value + 0.1,
        "n": 0 if value is None else 40,
        "table": "Table | one",
        "row": "row",
        "column": key.split(".")[-1],
        "better": "higher",
        "headline": "",
        "chance": None,
    } | more


def item(n, outcome, score, **more):
    return {
        "key": f"part/{n}",
        "group": "Where is it?",
        "image": "photo",
        "question": "Where is the <b>dog</b>?",
        "answer": "<script>alert(1)</script>",
        "wanted": "there",
        "outcome": outcome,
        "score": score,
        "marks": [{"role": "true", "location": [1, 2, 8, 9], "label": "dog"}],
    } | more


@pytest.fixture
def results():
    return {
        "title": "runs/x/model on tiny",
        "summary": "1 image, 3 questions",
        "benchmark": "tiny",
        "protocol": {"part": {"prompts": ["</pre><script>alert(2)</script>"]}},
        "metrics": [
            metric("part.row.accuracy", 0.75, headline="Right answers", chance=0.5),
            metric("part.row.lost", 0.2, better="lower", n=20),
            metric("part.row.other", None, row="second row"),
        ],
        "histograms": [
            {"table": "Table | one", "title": "Overlap", "counts": [1, 2], "threshold": 0.5}
        ],
    }
