from collections import Counter
from random import Random

from locvlm.negatives import (
    AdversarialNegatives,
    PopularNegatives,
    RandomNegatives,
    count_categories,
)

IMAGES = [{"cat", "sofa"}, {"cat", "sofa"}, {"dog", "sofa"}, {"car", "road"}, {"car"}]
COUNTS, PAIRS = count_categories(IMAGES)


def test_counts_images_and_ordered_pairs():
    assert Counter(sofa=3, cat=2, car=2, dog=1, road=1) == COUNTS
    assert PAIRS["cat", "sofa"] == PAIRS["sofa", "cat"] == 2
    assert PAIRS["cat", "road"] == 0


def test_random_negatives_are_never_present_and_reach_every_absent_category():
    draw = RandomNegatives(sorted(COUNTS))
    drawn = {name for seed in range(50) for name in draw({"cat"}, Random(seed), 1)}
    assert drawn == set(COUNTS) - {"cat"}


def test_popular_negatives_are_the_most_frequent_absent_ones():
    assert PopularNegatives(COUNTS)({"sofa"}, Random(0), 2) == ["car", "cat"]


def test_adversarial_negatives_occur_with_what_is_present():
    assert AdversarialNegatives(COUNTS, PAIRS)({"cat"}, Random(0), 1) == ["sofa"]
    assert AdversarialNegatives(COUNTS, PAIRS)({"car"}, Random(0), 1) == ["road"]


def test_gives_fewer_where_fewer_are_absent():
    assert len(RandomNegatives(["cat", "dog"])({"cat"}, Random(0), 5)) == 1
