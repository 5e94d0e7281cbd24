import sys

import numpy as np
import pytest

from locvlm.errors import ConfigError
from locvlm.evaluation.metrics.cider import cider_d


def test_agrees_with_the_official_program_on_real_captions(captions, official):
    for name, (candidates, references) in captions.items():
        found = cider_d(candidates, references)
        assert found.mean() == pytest.approx(official[name]["corpus"]["CIDEr"], abs=1e-12)
        each = [scores["CIDEr"] for scores in official[name]["per_id"].values()]
        assert found == pytest.approx(each, abs=1e-12)


def test_a_caption_like_its_reference_scores_ten_and_one_with_nothing_of_it_zero():
    references = [["a black dog runs here"], ["two red cars park there"], ["one old man sits"]]
    found = cider_d(["a black dog runs here", "a green tree", ""], references)
    assert found == pytest.approx([10, 0, 0])


def test_empty_references_are_no_error():
    assert np.array_equal(cider_d(["a", ""], [[""], ["", ""]]), [0, 0])
    assert len(cider_d([], [])) == 0


def test_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocoevalcap.cider.cider_scorer", None)
    with pytest.raises(ConfigError, match="pycocoevalcap"):
        cider_d(["a"], [["a"]])
