import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.errors import ConfigError
from locvlm.evaluation.judges_free import ByRule, Case, contains, exact, polarity, verbatim


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("dog", "dog", (True, True, True)),
        ("Dog.", "dog", (False, True, True)),
        ("two", "2", (False, True, True)),
        ("It is a dog", "dog", (False, False, True)),
        ("a hot dog stand", "hot dog", (False, False, True)),
        ("hotdog", "dog", (False, False, False)),
        ("no dog", "cat", (False, False, False)),
        ("dog", "a dog in the park", (False, False, False)),
        ("", "", (True, True, True)),
        ("cat", "", (False, False, False)),
        ("the", "", (False, True, True)),
    ],
)
def test_from_the_strictest_rule_to_the_mildest(answer, gold, expected):
    assert (verbatim(answer, gold), exact(answer, gold), contains(answer, gold)) == expected


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("Yes, it is", "yes", True),
        ("It is not.", "no", True),
        ("No", "Yes.", False),
        ("Perhaps", "no", False),
        ("no", "brown", None),
    ],
)
def test_polarity_is_judged_where_the_truth_is_yes_or_no(answer, gold, expected):
    assert polarity(answer, gold) is expected


def test_a_judge_by_rule_gives_a_verdict_for_each_case():
    cases = [Case("1", "?", "dog", "The dog"), Case("2", "?", "dog", "cat")]
    assert [verdict.right for verdict in ByRule("exact")(cases)] == [True, False]
    assert [verdict.score for verdict in ByRule("exact")(cases)] == [None, None]
    assert ByRule("exact").protocol["kind"] == "exact"


def test_an_unknown_rule_is_refused():
    with pytest.raises(ConfigError, match="no rule 'exactly'"):
        ByRule("exactly")


@given(st.text(), st.text())
def test_no_text_breaks_a_rule_and_each_is_milder_than_the_one_before(answer, gold):
    polarity(answer, gold)
    assert verbatim(answer, gold) <= exact(answer, gold) <= contains(answer, gold)
