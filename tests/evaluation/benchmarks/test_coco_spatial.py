import json
import subprocess
import sys
from collections import Counter

import pytest
from PIL import Image

from locvlm.errors import ConfigError
from locvlm.evaluation.answers import match
from locvlm.evaluation.benchmarks.coco_spatial import CocoSpatial
from locvlm.evaluation.run import run_benchmark
from locvlm.predictors.ask import Answer, loaded
from locvlm.predictors.recorded import Recorded
from tests.evaluation.benchmarks.test_coco_spatial_file import CAT, CUP, DOG, PAPER, released
from tests.evaluation.conftest import locate, values

AXES = ("horizontal", "vertical")
WORDING = {
    "paper": dict.fromkeys(AXES, "Which side of {other} is {category} located?"),
    "released": dict.fromkeys(AXES, "Which side of the {other} is the {category}?"),
}
ANSWER = {
    "horizontal": "The {category} is on the {side} side of the {other}.",
    "vertical": "The {category} is {side} the {other}.",
}


@pytest.fixture
def make(tmp_path):
    def make(content, **given):
        file = tmp_path / "spatial.json"
        file.write_text(json.dumps(content))
        return CocoSpatial(file, wording=WORDING, answer=ANSWER, **given)

    return make


def texts(question):
    return [message.parts[0] for message in question.messages]


def by_id(benchmark):
    return {question.meta["id"]: question for question in benchmark.questions()}


def score(benchmark, free, closed=None):
    answers = []
    for question in benchmark.questions():
        said = (closed if closed and question.candidates else free)(question)
        answers.append(Answer(question, said))
    return benchmark.score(answers, None)


def truth(question):
    meta = question.meta
    return f"The {meta['name']} is {meta['side']}"


def test_the_papers_question_direct_and_after_two_worked_ones(make):
    found = by_id(make(PAPER))
    assert texts(found["7/vertical"]) == ["Which side of cup is dog located?"]
    assert texts(found["7/vertical/in_context"]) == [
        "Which side of dog is cat located?",
        "The cat is below the dog.",
        "Which side of cat is dog located?",
        "The dog is above the cat.",
        "Which side of cup is dog located?",
    ]
    assert found["7/vertical"].meta["side"] == "above"
    assert found["7/vertical/likelihood"].candidates == (
        "The dog is above the cup.",
        "The dog is below the cup.",
    )


def test_the_papers_style_of_worked_answers_names_the_other_side_and_wants_the_literal_one(make):
    question = by_id(make(PAPER, icl_style="paper"))["7/vertical/in_context"]
    assert texts(question)[1::2] == ["The cat is above the dog.", "The dog is below the cat."]
    assert question.meta["side"] == "above"


def test_the_released_question_about_the_image_and_its_mirror_image(make):
    found = by_id(make(released(DOG, CAT)))
    plain, mirrored = found["7/0-1"], found["7/0-1/mirrored"]
    assert texts(plain) == texts(mirrored) == ["Which side of the dog is the cat?"]
    assert (plain.view, mirrored.view) == ("", "mirrored")
    assert (plain.meta["side"], mirrored.meta["side"]) == ("right", "left")
    assert mirrored.meta["box"] == [50, 30, 60, 40]


def test_above_and_below_are_asked_with_swapped_names_where_a_mirror_changes_nothing(make):
    vertical = released(*({**one, "bbox": one["bbox"][1::-1] + [10, 10]} for one in (DOG, CAT)))
    vertical["data"]["7"]["annotations"][1]["bbox"][0] = 5
    found = by_id(make(vertical))
    asked = {key: q.meta["side"] for key, q in found.items() if q.meta["part"] == "benchmark"}
    assert asked == {
        "7/0-1": "below",
        "7/0-1/likelihood": "below",
        "7/0-1/swapped": "above",
        "7/0-1/swapped/likelihood": "above",
    }
    assert found["7/0-1/mirrored"].meta["side"] == "below"


def test_either_side_is_the_right_answer_as_often(make):
    benchmark = make(released(DOG, CAT, CUP, pairs=[[0, 1], [0, 2], [1, 2]]))
    sides = Counter(
        question.meta["side"]
        for question in benchmark.questions()
        if question.meta["part"] == "benchmark" or question.meta["grey"]
    )
    assert sides["left"] == sides["right"]


def test_parts_can_be_left_out(make):
    content = released(DOG, CAT, CUP, pairs=[[0, 1], [0, 2], [1, 2]])
    least = make(content, in_context=False, likelihood=False, diagnostics=False)
    assert set(by_id(least)) == {
        f"7/{p}{m}" for p in ("0-1", "0-2", "1-2") for m in ("", "/mirrored")
    }
    assert not any("likelihood" in key for key in by_id(make(content, likelihood=False)))
    assert not any("in_context" in key for key in by_id(make(content, in_context=False)))
    assert set(by_id(least)) < set(by_id(make(content)))


def test_true_answers_are_right_in_every_row_and_consistent(make):
    for content in (PAPER, released(DOG, CAT, CUP, pairs=[[0, 1], [0, 2], [1, 2]])):
        found = values(score(make(content), truth))
        rows = {key for key in found if key.endswith((".all", ".mirrored", ".swapped"))}
        assert {found[key] for key in rows if "always" not in key} == {1}


def test_both_judges_stand_side_by_side(make):
    found = values(score(make(released(DOG, CAT)), lambda question: "left or right"))
    assert found["coco_spatial.horizontal.direct.paper.all"] == 1
    assert found["coco_spatial.horizontal.direct.strict.all"] == 0
    assert found["coco_spatial.horizontal.direct.strict.parse_failures"] == 1


def test_a_habit_shows_in_the_diagnostics(make):
    content = released(DOG, CAT, CUP, pairs=[[0, 1], [0, 2], [1, 2]])
    found = values(score(make(content), lambda question: "on the left"))
    row = "coco_spatial.horizontal"
    for name in ("direct.strict", "grey.strict", "always_left"):
        assert [found[f"{row}.{name}.{side}"] for side in ("all", "left", "right")] == [0.5, 1, 0]
    assert found[f"{row}.always_right.right"] == 1
    assert found[f"{row}.consistency.strict.mirrored"] == 0
    assert found[f"{row}.consistency.strict.swapped"] == 0


def test_answers_to_diagnostics_stand_in_no_table_of_what_was_said(make):
    benchmark = make(released(DOG, CAT))
    part = {question.key: question.meta["part"] for question in benchmark.questions()}
    items = score(benchmark, truth).items
    assert len(items) == len(part)
    assert all(bool(item.said) == (part[item.key] == "benchmark") for item in items)
    assert not any(item.group for item in items if not item.said)


def test_a_mirror_image_must_not_change_above_and_below(make):
    found = values(score(make(PAPER), lambda question: "above"))
    assert found["coco_spatial.vertical.consistency.strict.mirrored"] == 1
    assert found["coco_spatial.vertical.consistency.strict.swapped"] == 0


def test_likelihood_needs_no_words_from_the_model(make):
    benchmark = make(PAPER)
    said = lambda question: question.candidates[0] if question.candidates else "I cannot say"  # noqa: E731
    found = values(score(benchmark, said))
    assert found["coco_spatial.vertical.direct.likelihood.all"] == 1
    assert found["coco_spatial.vertical.direct.strict.all"] == 0


def test_images_are_resampled_whole_and_counted_once(make):
    found = score(make(released(DOG, CAT, CUP, pairs=[[0, 1], [0, 2], [1, 2]])), truth)
    assert found.counts == {"images": 1, "pairs": 3}
    galleries = {item.group for item in found.items}
    assert galleries == {
        "",
        "COCO-Spatial, left or right",
        "COCO-Spatial, left or right, in context",
    }


def test_recorded_answers_are_read_by_id_and_by_key(make, tmp_path):
    benchmark = make(PAPER)
    file = tmp_path / "answers.jsonl"
    rows = [
        {"question_id": "7/vertical", "text": "above"},
        {"key": "coco_spatial/7/vertical/in_context", "answer": "below"},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    matched = match(benchmark.questions(), benchmark.read_answers(file))
    assert [answer.text for answer in matched.answers] == ["above", "below"]
    figures = benchmark.figures(benchmark.score(matched.answers, None))
    assert figures["vertical.direct.paper.all"] == 100
    assert figures["vertical.in_context.paper.all"] == 0
    assert not any("likelihood" in key or "consistency" in key for key in figures)


@pytest.mark.parametrize(
    "text", ["", "\x00\ud800", "</script>" * 9, "{side} [1, 2] %s", "left " * 9999]
)
def test_any_text_passes_through(make, text):
    found = score(make(PAPER), lambda question: text)
    assert found.items


def test_a_run_shows_the_images_and_its_items_score_again_to_the_same(make, tmp_path):
    picture = Image.new("RGB", (100, 100))
    picture.putpixel((0, 0), (255, 0, 0))
    picture.save(tmp_path / "7.jpg", "PNG")
    benchmark = make(released(DOG, CAT), images=tmp_path)
    questions = {question.key: question for question in benchmark.questions()}
    someone = Recorded(
        "someone",
        locate,
        {key: truth(question) for key, question in questions.items()},
        {key: [0.0, -1.0] for key in questions},
    )
    run = run_benchmark(benchmark, someone, tmp_path / "run", subject="someone")
    assert run.results["data"]["images"] == 1
    assert run.image_of("7.jpg") == (tmp_path / "7.jpg").read_bytes()
    (shown,) = loaded([questions["coco_spatial/7/0-1/mirrored"]])
    assert run.image_of("7.jpg, mirrored") == shown.sample.image != run.image_of("7.jpg")
    again = make(released(DOG, CAT))
    given = again.read_answers(tmp_path / "run" / "items.jsonl")
    rescored = again.score(match(again.questions(), given).answers, None)
    assert values(rescored) == {m["key"]: m["value"] for m in run.results["metrics"]}


def test_scores_from_the_command_line_without_torch(make, tmp_path):
    make(PAPER)
    answers = tmp_path / "answers.jsonl"
    answers.write_text(json.dumps({"question_id": "7/vertical", "text": "above"}))
    code = (
        "import sys; from locvlm.score import main; main(sys.argv[1:]); "
        "assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)"
    )
    given = [
        "benchmark=coco_spatial",
        f"questions={tmp_path / 'spatial.json'}",
        f"answers={answers}",
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, *given, "diagnostics=false"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["vertical.direct.strict.above"] == 100
    assert figures["vertical.direct.strict.below"] is None
    assert figures["n"] == 1


def test_the_protocol_says_how_it_was_asked(make):
    protocol = make(PAPER, icl_style="paper").protocol
    assert protocol["form"] == "paper"
    assert protocol["icl_style"] == "paper"
    assert protocol["wording"] == WORDING["paper"]


def test_mistakes_in_the_settings_are_named(make, tmp_path):
    with pytest.raises(ConfigError, match="no style 'papers'"):
        make(PAPER, icl_style="papers")
    (tmp_path / "x.json").write_text(json.dumps(PAPER))
    for wording, answer in (({}, ANSWER), (WORDING, {"horizontal": "{side}"})):
        with pytest.raises(ConfigError, match="nothing asks for .*vertical"):
            CocoSpatial(tmp_path / "x.json", wording=wording, answer=answer)
