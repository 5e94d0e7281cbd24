import json
import subprocess
import sys

import pytest

from locvlm.report.runs import read_runs
from locvlm.score import main

NAME = "answers, (1)='a'.jsonl"  # none of it is Hydra's grammar


@pytest.fixture
def files(tmp_path):
    questions = tmp_path / "coco_pope_random.json"
    rows = [
        {"question_id": n, "image": "a.jpg", "text": "Is there a cat?", "label": label}
        for n, label in enumerate(["yes", "no"])
    ]
    questions.write_text("\n".join(map(json.dumps, rows)))
    answers = tmp_path / NAME
    answers.write_text("\n".join(json.dumps({"question_id": n, "text": "Yes"}) for n in (0, 1)))
    return questions, answers


def arguments(files, *more):
    questions, answers = files
    return ["benchmark=pope", f"questions={questions}", f"answers={answers}", *more]


def test_the_last_line_is_one_json_object(files, capsys):
    main(arguments(files))
    table, line = capsys.readouterr().out.rstrip("\n").rsplit("\n", 1)
    figures = json.loads(line)
    assert figures["accuracy"] == 0.5
    assert figures["recall"] == 1
    assert figures["n"] == 2
    assert figures["counts"]["answered"] == 2
    assert "Accuracy" in table


def test_says_on_how_many_answers_it_stands(files, capsys):
    files[1].write_text(json.dumps({"question_id": 0, "text": "Yes"}))
    main(arguments(files))
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["n"] == 1
    assert figures["counts"]["questions without an answer"] == 1
    assert figures["precision"] == 1


def test_mmes_file_of_answers_holds_its_questions_as_well(tmp_path, capsys):
    answers = tmp_path / f"existence, {NAME}"
    answers.write_text("a.jpg\tA cat?\tYes\tYes\na.jpg\tA dog?\tNo\tYes\n")
    main(["benchmark=mme", f"answers={answers}"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (figures["accuracy"], figures["accuracy_plus"], figures["score"]) == (50, 0, 50)


def test_answers_with_nothing_to_compare_them_with_are_refused(files, tmp_path, capsys):
    questions = tmp_path / "test_questions.json"
    asked = [{"question_id": n, "image_id": 1, "question": "Is there a cat?"} for n in (0, 9)]
    questions.write_text(json.dumps({"questions": asked}))
    other = tmp_path / "annotations.json"
    one = {"question_id": 9, "answer_type": "other", "answers": [{"answer": "cat"}] * 10}
    other.write_text(json.dumps({"annotations": [one]}))
    given = [f"questions={questions}", f"annotations={other}", f"answers={files[1]}"]
    with pytest.raises(SystemExit):
        main(["benchmark=vqav2", *given])
    assert "no answer can be scored" in capsys.readouterr().err


def test_what_nothing_counts_for_is_null(files, capsys):
    files[1].write_text(json.dumps({"question_id": 1, "text": "No"}))
    main(arguments(files))
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["precision"] is None


def test_an_output_folder_gets_the_files_that_a_run_writes(files, tmp_path):
    main(arguments(files, f"output={tmp_path / 'run'}"))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["benchmark"] == "pope"
    assert set(results["data"]) == {str(files[0]), "images"}
    assert len((tmp_path / "run" / "items.jsonl").read_text().splitlines()) == 2


@pytest.fixture
def videos(tmp_path):
    questions, answers = tmp_path / "test_qa.json", tmp_path / "answers.json"
    record = {"id": 1, "video_id": "a", "question": "who?", "answer": "man"}
    questions.write_text(json.dumps([record]))
    answers.write_text(json.dumps([{"id": 1, "answer": "a man \ud800 \x00"}]))
    return [f"questions={questions}", f"answers={answers}", "benchmark=msvd_qa"]


@pytest.mark.parametrize(("judge", "accuracy"), [("contains", 1), ("exact", 0), ("", 0)])
def test_a_judge_is_chosen_by_its_name(videos, judge, accuracy, tmp_path, capsys):
    chosen = [f"judge={judge}"] if judge else []
    main([*videos, *chosen, f"output={tmp_path / 'run'}"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["accuracy"] == accuracy
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["protocol"]["judge"]["kind"] == judge or not judge


def test_a_local_model_can_judge(videos, checkpoint, tmp_path, capsys):
    judge = ["judge=llm", "judge.predictor=locvlm", f"judge.predictor.path={checkpoint}"]
    main([*videos, *judge, "judge.predictor.max_new_tokens=2", f"output={tmp_path / 'run'}"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (figures["accuracy"], figures["unparsable"], figures["contains"]) == (0, 1, 1)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["protocol"]["judge"]["model"]["kind"] == "locvlm"
    assert len((tmp_path / "run" / "judge.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "name the benchmark"),
        (["benchmark=popes"], "there is no benchmark 'popes'"),
        (["benchmark=scenes"], "there is no benchmark 'scenes'"),
        (["benchmark=pope", "answers=a"], "pope needs questions"),
        (["benchmark=msvd_qa", "judge=me"], "give judge= one of contains, exact"),
        (["benchmark=pope", "judge=exact"], "pope takes no judge"),
        (["benchmark=pope", "answer=a"], "did you mean answers?"),
        (["benchmark"], "arguments are key=value"),
        (["benchmark=pope", "questions=gone", "answers=a"], "gone"),
    ],
)
def test_mistakes_are_messages(given, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert ended.value.code == 1
    assert message in capsys.readouterr().err


def test_neither_torch_nor_transformers_is_needed(files, videos):
    code = (
        "import sys; from locvlm.score import main; main(sys.argv[1:]); "
        "assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)"
    )
    for given in (arguments(files), videos):
        done = subprocess.run(
            [sys.executable, "-c", code, *given], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_where_evaluate_looks_for_files_is_nothing_to_score(files, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "pope").mkdir(parents=True)
    files[0].rename(tmp_path / "data" / "pope" / files[0].name)
    with pytest.raises(SystemExit):
        main(["benchmark=pope", f"answers={files[1]}"])
    assert "pope needs questions" in capsys.readouterr().err


def test_boxes_for_other_expressions_in_the_same_places_are_refused(tmp_path, capsys):
    truth, others = tmp_path / "testA.json", tmp_path / "testB.json"
    one = {"sent": "left cat", "gt_box": [1, 2, 3, 4], "pred_box": [1, 2, 3, 4]}
    truth.write_text(json.dumps([one, one | {"sent": "dog"}]))
    others.write_text(json.dumps([one | {"sent": "a sofa"}, one | {"sent": "dog"}]))
    with pytest.raises(SystemExit):
        main(["benchmark=refcoco", f"expressions={truth}", f"answers={others}"])
    assert "1 of its 2 answers are to other questions" in capsys.readouterr().err


def test_results_of_another_split_are_not_written_over(files, tmp_path, capsys):
    output = f"output={tmp_path / 'run'}"
    main(arguments(files, output))
    main(arguments(files, output))  # the same once more
    popular = files[0].rename(tmp_path / "coco_pope_popular.json")
    with pytest.raises(SystemExit):
        main(arguments((popular, files[1]), output))
    said = capsys.readouterr().err
    assert "this folder holds results of pope coco_pope_random" in said
    before = json.loads((tmp_path / "run" / "results.json").read_text())
    assert before["protocol"]["split"] == "coco_pope_random"


def test_results_from_another_file_of_the_same_name_are_not_written_over(files, tmp_path, capsys):
    output = f"output={tmp_path / 'run'}"
    main(arguments(files, output))
    files[0].write_text(files[0].read_text() + "\n")
    with pytest.raises(SystemExit):
        main(arguments(files, output))
    assert "pope coco_pope_random, from other files" in capsys.readouterr().err


def test_a_name_stands_for_the_file_in_tables_of_runs(files, tmp_path):
    main(arguments(files, f"output={tmp_path / 'run'}", "name=LLaVA, 7B"))
    (run,) = read_runs([tmp_path / "run"])
    assert run.name == "LLaVA, 7B"
