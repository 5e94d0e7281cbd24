import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.errors import DataError
from locvlm.evaluation.bootstrap import RESAMPLES
from locvlm.evaluation.paired import ALL, compare, compare_parts, joined, mcnemar


def items(scores, wanted="yes", images=None):
    return [
        {
            "key": f"q/{n}",
            "image": images[n] if images else f"{n}",
            "wanted": wanted,
            "score": score,
        }
        for n, score in enumerate(scores)
    ]


def test_the_difference_is_that_of_the_means_and_outcomes_are_counted():
    found = compare(items([1, 1, 1, 0]), items([1, 0, 0, 0]))
    assert (found.a, found.b, found.difference.value) == (0.75, 0.25, 0.5)
    assert found.difference.n == 4
    assert found.outcomes == {
        "both right": 1,
        "only A right": 2,
        "only B right": 0,
        "both wrong": 1,
    }


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (0, 6, 0.03125), (2, 8, 0.109375), (4, 4, 1.0)],
)
def test_mcnemar_is_the_exact_binomial_test(only_a, only_b, p):
    assert mcnemar(only_a, only_b) == pytest.approx(p)


def test_mcnemar_takes_counts_far_beyond_floats():
    assert mcnemar(20_000, 20_000) == 1.0
    assert mcnemar(0, 20_000) == 0.0


def test_a_clear_difference_is_significant_and_a_coins_is_not():
    clear = compare(items([1] * 70 + [0] * 30), items([1] * 40 + [0] * 60))
    assert clear.is_significant
    assert clear.difference.low > 0
    assert clear.p_mcnemar == pytest.approx(2 / 2**30)
    coin = compare(items([1, 0] * 50), items([0, 1] * 50))
    assert not coin.is_significant
    assert coin.difference.low < 0 < coin.difference.high
    assert coin.p > 0.5


def test_the_interval_is_close_to_the_normal_one():
    a, b = [1] * 300 + [0] * 100 + [1] * 600, [0] * 300 + [1] * 100 + [1] * 600
    found = compare(items(a), items(b))
    half = 1.96 * ((0.4 - 0.2**2) / 1000) ** 0.5
    assert found.difference.low == pytest.approx(0.2 - half, abs=0.006)
    assert found.difference.high == pytest.approx(0.2 + half, abs=0.006)


def test_questions_about_one_image_are_drawn_together():
    a, b = [1] * 60 + [0] * 40, [0] * 100
    images = [str(n // 20) for n in range(100)]
    alone, together = compare(items(a), items(b)), compare(items(a, images=images), items(b))
    assert together.difference.low < alone.difference.low - 0.2
    assert alone.is_significant
    assert not together.is_significant


def test_few_images_are_never_sure():
    found = compare(items([1, 1, 1, 1, 1]), items([0, 0, 0, 0, 0]))
    assert found.p == found.p_mcnemar == 0.0625


def test_only_images_that_differ_make_sure():
    found = compare(items([1, 1, 1, 1] + [1] * 50), items([0, 0, 0, 0] + [1] * 50))
    assert found.p == found.p_mcnemar == 0.125


def test_equal_runs_differ_by_nothing_but_could_still_differ_on_other_images():
    found = compare(items([1, 0] * 10), items([1, 0] * 10))
    assert (found.difference.value, found.p, found.p_mcnemar) == (0, 1, 1)
    assert found.difference.high == -found.difference.low == pytest.approx(1 - 0.025 ** (1 / 20))


def test_scores_between_have_no_mcnemar_and_count_as_right_from_a_half():
    found = compare(items([0.3, 1.0]), items([0.6, 0.9]))
    assert found.p_mcnemar is None
    assert found.outcomes["only B right"] == found.outcomes["both right"] == 1


def test_questions_of_one_run_only_are_left_out_and_named():
    found = compare(items([1, 1, 0]), items([1, 1, 0, 1])[1:])
    assert found.difference.n == 2
    assert (found.only_a, found.only_b) == (["q/0"], ["q/3"])
    assert (found.whole_a, found.whole_b) == ((2 / 3, 3), (2 / 3, 3))
    assert (found.a, found.b) == (0.5, 0.5)


def test_one_key_with_two_right_answers_is_another_question():
    other = [*items([1, 1], wanted="no"), *items([0] * 3)[2:]]
    found = compare(items([1] * 3), other)
    assert found.unlike == ["q/0", "q/1"]
    assert found.difference.n == 1
    assert joined(items([1] * 3), other)[0][0]["key"] == "q/2"


def test_runs_that_share_no_question_cannot_be_compared():
    with pytest.raises(DataError, match="no question is in both runs, of 2 and 1"):
        compare(items([1, 1]), [{"key": "z", "image": "", "wanted": "yes", "score": 1}])


def test_parts_and_galleries_are_compared_on_their_own():
    def run(scores):
        keys = ["a/1", "a/2", "a/3", "b/1"]
        groups = ["one", "one", "two", ""]
        return [
            {**item, "key": key, "group": group}
            for item, key, group in zip(items(scores), keys, groups, strict=True)
        ]

    found = compare_parts(run([1, 1, 0, 0]), run([0, 1, 1, 0])[:3])
    assert {name: one.difference.value for name, one in found.items()} == {
        ALL: 0,
        "a": 0,
        "a: one": 0.5,
        "a: two": -1,
    }
    assert found[ALL].only_a == ["b/1"]


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 4)), min_size=1))
def test_swapping_the_runs_turns_the_sign_and_keeps_the_p(rows):
    images = [str(image) for _, _, image in rows]
    a, b = (items([float(row[n]) for row in rows], images=images) for n in (0, 1))
    there, back = compare(a, b), compare(b, a)
    assert there.difference.value == pytest.approx(-back.difference.value)
    assert there.difference.low == pytest.approx(-back.difference.high)
    assert there.p == pytest.approx(back.p)
    assert there.p_mcnemar == back.p_mcnemar
    assert 2 / (1 + RESAMPLES) <= there.p <= 1
