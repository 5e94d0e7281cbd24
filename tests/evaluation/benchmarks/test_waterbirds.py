import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.errors import ConfigError, DataError
from locvlm.evaluation.answers import match
from locvlm.evaluation.benchmarks.waterbirds import Waterbirds, named_bird
from tests.evaluation.conftest import answered, values

HEADER = "img_id,img_filename,y,split,place,place_filename\n"
PROMPT = "Land bird or water bird?"
GROUPS = [(1, 1), (1, 0), (0, 0), (0, 1)]  # (water bird, on water)


def write(folder, rows):
    file = folder / "metadata.csv"
    file.write_text(HEADER + "".join(f"{row},/o/ocean/1.jpg\n" for row in rows))
    return file


@pytest.fixture
def file(tmp_path):
    """Five images of each group in the test split, one image in each of the others."""
    rows = [f"{n},001.Bird/{n}.jpg,{GROUPS[n % 4][0]},2,{GROUPS[n % 4][1]}" for n in range(20)]
    return write(tmp_path, [*rows, "90,a.jpg,0,0,0", "91,b.jpg,1,1,1"])


def bird(question):
    return question.meta["bird"]


def score(benchmark, says):
    return benchmark.score(answered(benchmark.questions(), says), None)


def test_accuracy_by_bird_and_background_as_in_the_papers_table(file):
    # Right: five water birds on water, two on land; four land birds on land, three on water.
    wrong = {1, 5, 9, 2, 3, 7}

    def says(question):
        right = int(question.meta["id"]) not in wrong
        return (
            bird(question) if right else {"landbird": "waterbird"}.get(bird(question), "landbird")
        )

    found = values(score(Waterbirds(file, prompt=PROMPT), says))
    assert found == pytest.approx(
        {
            "waterbirds.waterbird_on_water": 1.0,
            "waterbirds.waterbird_on_land": 0.4,
            "waterbirds.waterbird_delta": -0.6,
            "waterbirds.landbird_on_water": 0.6,
            "waterbirds.landbird_on_land": 0.8,
            "waterbirds.landbird_delta": -0.2,
            "waterbirds.accuracy": 0.7,
            "waterbirds.worst_group": 0.4,
            "waterbirds.parse_failures": 0.0,
        }
    )


def test_deltas_have_intervals(file):
    found = score(Waterbirds(file, prompt=PROMPT), lambda question: "waterbird")
    delta = {m.key: m.estimate for m in found.metrics}["waterbirds.landbird_delta"]
    assert (delta.value, delta.n) == (0, 10)
    half = score(Waterbirds(file, prompt=PROMPT), lambda q: BY_PARITY[int(q.meta["id"]) // 4 % 2])
    delta = {m.key: m.estimate for m in half.metrics}["waterbirds.waterbird_delta"]
    assert delta.low < delta.value < delta.high


BY_PARITY = ("landbird", "waterbird")


def test_a_missing_group_has_no_delta_and_is_not_the_worst(tmp_path):
    benchmark = Waterbirds(write(tmp_path, ["1,a.jpg,0,2,0"]), prompt=PROMPT)
    found = values(score(benchmark, bird))
    assert math.isnan(found["waterbirds.landbird_delta"])
    assert math.isnan(found["waterbirds.waterbird_on_water"])
    assert found["waterbirds.worst_group"] == 1


def test_the_split_decides_and_test_is_usual(file):
    assert len(Waterbirds(file, prompt=PROMPT).questions()) == 20
    assert [q.key for q in Waterbirds(file, split="val", prompt=PROMPT).questions()] == [
        "waterbirds/91"
    ]


def test_closed_questions_have_both_birds_as_candidates(file):
    question = Waterbirds(file, prompt=PROMPT).questions()[0]
    assert question.candidates == ("landbird", "waterbird")
    assert question.messages[-1].parts == (PROMPT,)
    assert question.sample.key == "001.Bird/0.jpg"
    assert Waterbirds(file, prompt=PROMPT, closed=False).questions()[0].candidates == ()


def test_recorded_answers_belong_to_img_ids(file, tmp_path):
    answers = tmp_path / "answers.jsonl"
    answers.write_text('{"img_id": 0, "text": "A water bird."}\n{"img_id": 2, "text": "A bird."}')
    benchmark = Waterbirds(file, prompt=PROMPT)
    matched = match(benchmark.questions(), benchmark.read_answers(answers))
    found = benchmark.score(matched.answers, None)
    assert benchmark.figures(found)["accuracy"] == 0.5
    assert benchmark.figures(found)["parse_failures"] == 0.5
    assert [item.outcome for item in found.items] == ["right", "neither"]
    assert [item.said for item in found.items] == ["waterbird", "neither"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("waterbird", "waterbird"),
        ("It is a Land-bird.", "landbird"),
        ("Land birds", "landbird"),
        ("landbird or waterbird", None),
        ("a bird on water", None),
        ("underwaterbirding", None),
        ("", None),
    ],
)
def test_an_answer_names_one_bird(text, expected):
    assert named_bird(text) == expected


@given(st.text())
def test_no_answer_breaks_the_reading(text):
    named_bird(text)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,a.jpg,2,2,1", "y is '2', not 0 to 1"),
        ("1,a.jpg,1,2,-1", "place is '-1'"),
        ("1,a.jpg,1,3,1", "split is '3', not 0 to 2"),
        ("1,a.jpg,1,0,1", "no image of the split test"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, row, message):
    with pytest.raises(DataError, match=message):
        Waterbirds(write(tmp_path, [row]), prompt=PROMPT)


def test_an_unknown_split_is_refused(file):
    with pytest.raises(ConfigError, match="no split 'testing'"):
        Waterbirds(file, split="testing", prompt=PROMPT)


def test_images_outside_the_folder_are_refused(tmp_path):
    file = write(tmp_path, ["1,../a.jpg,1,2,1"])
    with pytest.raises(DataError, match="leaves the folder"):
        Waterbirds(file, tmp_path, prompt=PROMPT)
