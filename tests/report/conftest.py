"""Results of a small run, as its files hold them, and an audit of a few samples."""

import numpy as np
import pytest

from locvlm.data.audit import Learned, Supervision
from locvlm.data.leaks import Benchmark, find_leak
from locvlm.data.split_audit import Audit, Named, SourceAudit
from locvlm.data.survey import survey
from locvlm.errors import DataError
from locvlm.io import append_jsonl, write_json
from locvlm.types import Message, Sample
from tests.data.conftest import annotated, picture


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


def _learned(kind, length):
    return Learned(0, kind, length, n_tokens=100, n_learned=25, n_turns=2, n_located=1)


@pytest.fixture
def audit():
    """Two annotated images and a conversation, one damaged sample, one leaked image."""
    talk = (Message("user", ("What is left?",)), Message("assistant", ("The left one.",)))
    said = Sample("talk", "t.json", picture(9), (48, 40), messages=talk)
    sources = [
        SourceAudit("data.train.a", "shards/a", 0.75, survey([annotated(0), annotated(1)])),
        SourceAudit("data.train.b", "shards/b", 0.25, survey([said, DataError("damaged")]), ["x"]),
    ]
    tokens = [_learned("talk", n) for n in range(1, 101)] + [_learned("annotated image", 400)]
    benchmark = Benchmark("pope", np.array([1, -1]), np.array([0, 7], np.uint64))
    leaks = [find_leak([1, -1, -1, -1], [5, 6, 0, 8], benchmark)]
    named = [[Named("data.train.a", "image 0", "a.tar")]]
    return Audit("train", sources, Supervision(tuple(tokens)), leaks, named, max_length=100)


def write_run(folder, name="model", *, scores=(1, 1, 0, 0), metrics=None, **more):
    """A run folder with four questions, or as many as there are scores."""
    items = [
        item(n, "right" if score else "wrong", score, key=f"quiz/{n}", image=f"{n}.png")
        for n, score in enumerate(scores)
    ]
    mean = sum(scores) / len(scores)
    own = [
        metric("quiz.accuracy", mean, n=len(scores), headline="Quiz accuracy", table="Quiz"),
        metric("quiz.easy", 0.5, n=2, table="Quiz"),
    ]
    results = {
        "format": 1,
        "title": f"{name} on quiz",
        "benchmark": "quiz",
        "version": "1",
        "protocol": {"split": "val", "prompt": {"text": "Q"}},
        "data": {"quiz.json": "abc", "images": 4},
        "metrics": own if metrics is None else metrics,
    } | more
    write_json(folder / "results.json", results)
    append_jsonl(folder / "items.jsonl", *items)
    return folder
