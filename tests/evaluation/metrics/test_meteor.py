import numpy as np
import pytest

from locvlm.errors import LocVLMError
from locvlm.evaluation.bootstrap import estimate
from locvlm.evaluation.metrics.meteor import Meteor, meteor, meteor_scores
from locvlm.evaluation.metrics.ptb import ptb_words
from tests.evaluation.metrics.test_ptb import HOSTILE


@pytest.fixture(scope="module")
def program(java_programs):
    with Meteor() as running:
        yield running


def statistics(words, function, *matches, chunks):
    """As the program writes them; `matches` are (content, function) for each kind, of both sides.

    Candidate and reference have the same numbers.
    """
    filled = [*matches, *[(0, 0)] * (4 - len(matches))]
    counts = [number for content, other in filled for number in (content, content, other, other)]
    matched = sum(map(sum, filled))
    return np.array([words, words, function, function, *counts, chunks, matched, matched], float)


def test_the_programs_own_score_of_a_sentence():
    # "a dog is running" against "the dog is running", as the program writes and scores it
    assert meteor_scores(statistics(4, 2, (2, 1), chunks=1)) == pytest.approx(0.4535606800758789)


def test_what_matches_word_for_word_is_one_and_what_shares_nothing_is_zero():
    assert meteor_scores(statistics(4, 2, (2, 2), chunks=1)) == 1
    assert meteor_scores(statistics(4, 2, chunks=0)) == 0
    assert meteor_scores(statistics(0, 0, chunks=0)) == 0


def test_a_synonym_counts_less_than_the_word_and_broken_order_less_than_whole():
    word = meteor_scores(statistics(4, 0, (4, 0), chunks=1))
    synonym = meteor_scores(statistics(4, 0, (3, 0), (0, 0), (1, 0), chunks=1))
    broken = meteor_scores(statistics(4, 0, (4, 0), chunks=4))
    assert word > synonym > broken


def test_the_corpus_is_scored_on_sums_and_its_interval_on_sums_of_drawn_items():
    rows = np.array([statistics(8, 2, (5, 1), chunks=2), statistics(3, 1, (1, 0), chunks=1)] * 20)
    found = estimate(meteor(rows), [n // 2 for n in range(40)])
    assert found.value == meteor_scores(rows.sum(axis=0))
    assert found.value != pytest.approx(meteor_scores(rows).mean())
    assert found.low == pytest.approx(found.value)  # all clusters are alike
    spread = estimate(meteor(rows))
    assert spread.low < found.value < spread.high


@pytest.mark.slow
def test_agrees_with_the_official_program_on_real_captions(captions, official, program):
    for name, (candidates, references) in captions.items():
        rows = program.statistics(candidates, references)
        wanted = official[name]["corpus"]["METEOR"]
        assert meteor(rows).value == pytest.approx(wanted, abs=1e-12)
        each = [scores["METEOR"] for scores in official[name]["per_id"].values()]
        assert meteor_scores(rows) == pytest.approx(each, abs=1e-12)


@pytest.mark.slow
def test_hostile_texts_keep_their_place(program):
    texts = [text for text in HOSTILE for _ in range(2)]
    texts[1::2] = ["a black dog"] * len(HOSTILE)
    lines = ptb_words(texts)
    scores = meteor_scores(program.statistics(lines, [["a black dog"]] * len(texts)))
    assert np.all(scores[1::2] == 1)
    assert np.all(scores[::2] < 0.5)
    # As references, and without the tokenizer that takes most of it out
    sides = [["a black dog", line] for line in lines[::2]]
    assert np.all(meteor_scores(program.statistics(["a black dog"] * len(sides), sides)) == 1)
    raw = program.statistics(["a ||| b", "EVAL ||| 1", ""], [["a b"], ["|||"], [""]])
    assert meteor_scores(raw) == pytest.approx([1, 0, 0])


@pytest.mark.slow
@pytest.mark.usefixtures("java_programs")
def test_a_program_that_ended_is_an_error_and_not_a_score():
    with Meteor() as running:
        running._program.kill()
        with pytest.raises(LocVLMError, match="ended early"):
            running.statistics(["a"], [["a"]])
