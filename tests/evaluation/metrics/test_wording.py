import numpy as np
import pytest

from locvlm.errors import ConfigError
from locvlm.evaluation.bootstrap import Estimate, estimate
from locvlm.evaluation.metrics import java
from locvlm.evaluation.metrics.wording import check_tokenizer, wording, wording_protocol

pytest.importorskip("pycocoevalcap")

REFERENCES = [["a black dog runs"], ["two red cars", "cars that are red"], ["an old man sits"]]


def test_without_java_there_is_cider_alone_under_another_name():
    (found,) = wording([["A black dog runs!", "a tree", "\x00|||"]], REFERENCES, "plain")
    assert set(found.metrics) == {"cider_plain"}
    assert found.metrics["cider_plain"].value == pytest.approx(10 / 3)
    assert found.near == pytest.approx([1, 0, 0])


def test_each_version_of_the_texts_has_its_own_metrics():
    right = [of[0] for of in REFERENCES]
    good, bad = wording([right, ["nothing"] * 3], REFERENCES, "plain")
    assert good.metrics["cider_plain"].value > bad.metrics["cider_plain"].value == 0


@pytest.mark.slow
@pytest.mark.usefixtures("java_programs")
def test_with_java_there_are_the_numbers_that_papers_print():
    (found,) = wording([["A black dog runs.", "", "a man who is old sits"]], REFERENCES)
    assert set(found.metrics) == {"meteor", "cider"}
    assert found.near[0] == 1
    assert found.near[1] == 0
    assert 0.3 < found.near[2] < 1
    assert found.metrics["meteor"].value != pytest.approx(np.mean(found.near))


def test_the_interval_of_cider_knows_that_it_is_no_share():
    (found,) = wording([["x", "y", "z"]], REFERENCES, "plain")
    assert estimate(found.metrics["cider_plain"]) == Estimate(0, 0, 0, 3)


def test_no_texts_are_no_error():
    (found,) = wording([[]], [], "plain")
    assert np.isnan(found.metrics["cider_plain"].value)


def test_what_cannot_be_run_is_known_before_a_model_is_asked(monkeypatch):
    monkeypatch.setattr(java, "which", lambda name: None)
    with pytest.raises(ConfigError, match="Java 8"):
        check_tokenizer("ptb")
    check_tokenizer("plain")
    with pytest.raises(ConfigError, match="no tokenizer 'words'"):
        check_tokenizer("words")


def test_the_protocol_names_what_is_measured():
    assert "METEOR 1.5" in wording_protocol("ptb")["meteor"]
    assert set(wording_protocol("plain")) == {"tokenizer", "cider_plain"}
