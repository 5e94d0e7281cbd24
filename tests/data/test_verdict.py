from array import array
from dataclasses import replace

import numpy as np
import pytest

from locvlm.data.audit import Bad, Learned, Supervision
from locvlm.data.leaks import Benchmark, find_leak
from locvlm.data.split_audit import Audit, Doubles, SourceAudit
from locvlm.data.survey import survey
from locvlm.data.verdict import check_trainable, warnings
from locvlm.errors import DataError
from locvlm.types import Box, Instance, Message
from tests.data.conftest import annotated, talked

GOOD = Learned(0, "talk", length=100, n_tokens=100, n_learned=50, n_turns=1, n_located=0)
SILENT = GOOD._replace(n_learned=0)


def source(*samples, lost=()):
    return SourceAudit("data.train.talk", "shards/talk", 1.0, survey(samples), lost)


def audit(*samples, learned=(GOOD,), bad=(), **more):
    return Audit("train", [source(*samples)], Supervision(tuple(learned), tuple(bad)), **more)


def said(found):
    return [finding.what for finding in warnings(found)]


def boxed(n, box):
    return replace(annotated(n), instances=(Instance("circle", box),))


def test_good_data_give_no_warning():
    found = audit(*map(talked, range(4)))
    check_trainable(found)
    assert warnings(found) == []


@pytest.mark.parametrize(
    ("sample", "what", "fix"),
    [
        (boxed(1, Box(0, 0, 99, 20)), "locations outside their image", "audit.html"),
        (boxed(1, Box(9, 9, 5, 5)), "boxes without area", "x, y, width, height"),
        (boxed(1, Box(0.1, 0.1, 0.9, 0.9)), "in the first pixel", "multiply"),
        (replace(annotated(1), size=(9, 9)), "images of another size", "these very files"),
        (
            replace(talked(1), messages=(Message("assistant", ("[1, 2, 3, 4]",)),)),
            "locations as plain text",
            "source.dialect",
        ),
        (DataError("damaged", where="a.tar"), "1 of 2 samples are bad", "prepare the data again"),
    ],
)
def test_each_problem_is_said_with_what_to_do(sample, what, fix):
    found = warnings(audit(talked(0), sample))
    matching = [finding for finding in found if what in finding.what]
    assert len(matching) == 1
    assert fix in matching[0].fix


def test_a_problem_is_shown_by_its_first_sample():
    [what] = said(audit(boxed(1, Box(0, 0, 99, 20)), boxed(2, Box(0, 0, 88, 20)), annotated(3)))
    assert what.startswith("2 of 3 samples of data.train.talk")
    assert "(0, 0, 99, 20) in 48 x 40 pixels: annotations.json, image 1" in what


def test_doubles_are_named():
    found = replace(source(annotated(0)), same_key=Doubles(3, ("a.tar", "b.tar")))
    [what] = said(replace(audit(), sources=[found]))
    assert what == (
        "3 keys of data.train.talk stand for several samples; the first one: a.tar and b.tar"
    )


def test_an_image_twice_matters_where_all_samples_are_annotations():
    twice = Doubles(1, ("a.tar", "b.tar"))
    annotations = replace(source(annotated(0)), same_image=twice)
    [what] = said(replace(audit(), sources=[annotations]))
    assert what.startswith("1 images of data.train.talk are annotated more than once; the first")
    talks = replace(source(talked(0), annotated(1)), same_image=twice)
    assert said(replace(audit(), sources=[talks])) == []


def test_a_source_of_which_nothing_is_learned_is_named():
    found = audit(talked(0), learned=[GOOD._replace(source=1), SILENT, SILENT])
    found = replace(found, sources=[*found.sources, replace(found.sources[0], name="b")])
    assert said(found) == [
        "nothing is learned of the 2 samples of data.train.talk that were tokenized"
    ]


def test_silent_samples_matter_where_they_are_many():
    assert said(audit(talked(0), learned=[GOOD] * 9 + [SILENT])) == []
    [what] = said(audit(talked(0), learned=[GOOD] * 8 + [SILENT]))
    assert what.startswith("1 of 9 samples give nothing to learn")


def test_cut_samples_are_said_with_the_longest():
    cut = GOOD._replace(length=300)
    [what] = said(audit(talked(0), learned=[GOOD, cut], max_length=100))
    assert "1 of 2 samples are longer than 100 tokens" in what
    assert "the longest has 300" in what


def leak(benchmark_ids, digests, sample_ids=(-1,)):
    benchmark = Benchmark("pope", np.array(benchmark_ids), np.array(digests, np.uint64))
    return find_leak(sample_ids, [7] * len(sample_ids), benchmark)


def test_a_leak_comes_first():
    found = audit(talked(0), DataError("damaged"), leaks=[leak([1, 2], [7, 0])])
    assert said(found)[0].startswith("1 of 2 images of pope stand in 1 samples")


def test_images_that_were_compared_with_nothing_are_said():
    [what] = said(audit(talked(0), leaks=[leak([-1, -1], [0, 9])]))
    assert "1 of 2 images of pope have no COCO name and no bytes" in what


def test_names_cannot_be_compared_where_samples_have_none():
    found = audit(talked(0), leaks=[leak([1], [0])])
    assert "the samples have no COCO names" in said(found)[0]
    assert said(audit(talked(0), leaks=[leak([1], [9])])) == []
    found.sources[0].survey.coco_ids = array("q", [5])
    assert said(found) == []


def test_refuses_data_of_which_no_sample_can_be_used():
    with pytest.raises(DataError, match="no sample can be used: 2 of 2 are bad; .* damaged"):
        check_trainable(audit(DataError("damaged"), DataError("damaged too"), learned=[]))


def test_refuses_more_bad_samples_than_training_skips():
    found = audit(talked(0), talked(1), DataError("damaged"), bad=[Bad(0, 1, "cut\n short")])
    check_trainable(replace(found, max_bad_samples=2))
    with pytest.raises(DataError, match="2 of 3 samples are bad, 1 allowed; the first one: damag"):
        check_trainable(replace(found, max_bad_samples=1))


def test_lost_samples_count_as_bad():
    found = replace(audit(talked(0)), sources=[source(talked(0), lost=["a is cut off", "b"])])
    assert found.n_samples == 3
    with pytest.raises(DataError, match="2 of 3 samples are bad, 1 allowed; .*: a is cut off"):
        check_trainable(replace(found, max_bad_samples=1))


def test_refuses_nothing_that_was_not_looked_at():
    check_trainable(audit(talked(0), DataError("damaged"), learned=[]))


def test_refuses_data_of_which_all_encoded_samples_are_bad():
    with pytest.raises(DataError, match="no sample can be used: 1 of 2 are bad"):
        check_trainable(audit(talked(0), talked(1), learned=[], bad=[Bad(0, 1, "cut short")]))


def test_refuses_data_from_which_nothing_is_learned():
    with pytest.raises(DataError, match="none of 200 tokens is learned") as error:
        check_trainable(audit(talked(0), learned=[SILENT, SILENT]))
    assert "assistant turns" in error.value.fix
