import re
import subprocess
import sys
from ast import literal_eval
from dataclasses import replace

import pytest
from hydra import compose, initialize_config_module

from locvlm.audit import audit
from locvlm.data import Mixture, Quarantine, write_shards
from locvlm.errors import ConfigError, DataError
from locvlm.io import read_json
from locvlm.processor import Processor
from locvlm.types import Box, Instance
from tests.data.conftest import annotated, picture, talked

BROKEN = replace(talked(9), image=b"no image")
UNANSWERED = replace(talked(8), messages=talked(8).messages[:1])


@pytest.fixture
def shards(tmp_path):
    """Writes samples as shards and gives the choice of a data set that has them."""

    def write(*samples, split="train", kind="conversation", per_shard=10):
        folder = tmp_path / f"{split}-{kind}"
        write_shards(samples, folder, quarantine=Quarantine(), per_shard=per_shard)
        return ["data=shards", f"data.{split}.{kind}.shards={folder}"]

    return write


@pytest.fixture
def audited(capsys):
    """Runs the audit; gives what it found and what it printed."""

    def run(*overrides):
        with initialize_config_module("locvlm.conf", version_base="1.3"):
            cfg = compose("audit", overrides=["output=null", *overrides])
        found = audit(cfg)
        return found, capsys.readouterr().out

    return run


def cells(printed):
    """The rows of the tables of tokens."""
    printed = printed.partition("Sources of data.")[0]
    lines = (line.strip("│ ").split("│") for line in printed.splitlines() if line.startswith("│"))
    return [[cell.strip() for cell in line] for line in lines]


def text(rows):
    """The tokens of rows, joined."""
    return "".join(literal_eval(row[1]) for row in rows)


def test_shows_what_is_learned_of_a_conversation_token_by_token(audited, shards):
    found, printed = audited(*shards(talked(3)))
    rows = cells(printed)
    assert printed.lstrip().startswith("talk 3")
    assert "talk.json, record 3" in " ".join(printed.split())
    image = next(row for row in rows if row[5] == "image")
    assert image[1] == "'<image> x 64'"
    assert text(row for row in rows if row[5] == "prompt").endswith("Is it 3? ASSISTANT:")
    learned = [row for row in rows if row[3] != "-"]
    assert text(learned) == " It is 3.</s>"
    assert [row[5] for row in learned] == ["answer", "answer", "number", "answer", "end"]
    assert all((token_id, weight) == (label, "1") for _, _, token_id, label, weight, _ in learned)
    n_tokens = len(rows) - 1 + 64
    learned = found.learned
    assert (learned.n_samples, learned.n_tokens, learned.n_learned) == (1, n_tokens, 5)
    assert f"│ {100 * 5 / n_tokens:.1f} %" in printed


def test_reads_with_the_tokenizer_of_the_model_that_training_begins_with(
    audited, shards, checkpoint
):
    _, printed = audited(*shards(talked(3)), f"checkpoint={checkpoint}")
    tokenizer = Processor.load(checkpoint).tokenizer
    shown = [(literal_eval(row[1]), int(row[2])) for row in cells(printed) if row[5] == "answer"]
    assert shown
    assert all(tokenizer.decode([token_id]) == token for token, token_id in shown)


def test_shows_what_objectives_ask_and_how_much_the_numbers_of_a_box_weigh(audited, shards):
    choice = shards(annotated(0), kind="localization")
    _, printed = audited(*choice, "objectives=loc", "objectives.turns=1", "number_weights=[8,9]")
    numbers = [row for row in cells(printed) if row[5] == "number"]
    # The box (8, 8, 24, 24) of an image of 48 x 40 pixels, in 64 bins.
    assert [row[1] for row in numbers] == ["'11'", "' 13'", "' 32'", "' 38'"]
    assert [row[4] for row in numbers] == ["8", "9", "9", "9"]


def test_shows_as_many_samples_as_it_is_told_and_counts_more(audited, shards):
    choice = shards(*map(talked, range(6)))
    for n, checked, counted in [(0, 4, 4), (2, 4, 4), (3, 1, 3), (1, 200, 6)]:
        found, printed = audited(*choice, f"n={n}", f"checked={checked}")
        assert printed.count("stands for") == n
        assert found.learned.n_samples == counted
        assert found.n_samples == 6


@pytest.mark.parametrize("seed", [0, 1])
def test_looks_at_the_samples_that_training_begins_with(audited, shards, seed):
    choice = shards(*map(talked, range(40)))
    _, printed = audited(*choice, "n=3", "checked=3", f"seed={seed}")
    begin = Mixture([[10] * 4], seed=seed).epoch(0)[:3, 1].tolist()
    assert re.findall(r"^talk (\d+)", printed, re.MULTILINE) == list(map(str, begin))


def test_validation_data_are_looked_at_where_they_are_asked_for(audited, shards):
    choice = [*shards(talked(3)), *shards(talked(5), split="val")[1:]]
    assert text(cells(audited(*choice)[1])).endswith("It is 3.</s>")
    assert text(cells(audited(*choice, "split=val")[1])).endswith("It is 5.</s>")


def test_the_built_in_scenes_are_drawn_where_they_are_missing(audited, tmp_path):
    scenes = ["scenes.splits={train: 6, val: 2, test: 1}", f"scenes_folder={tmp_path / 'scenes'}"]
    found, printed = audited(*scenes, "checked=8", "n=2")
    assert found.learned.n_samples == 8
    assert 0 < found.learned.share < 0.8
    assert "scenes/shards/train-" in printed.replace("\n", "")


def test_bad_samples_are_named_in_the_place_of_their_tokens(audited, shards):
    found, printed = audited(*shards(BROKEN, talked(1), talked(2)), "n=3")
    assert printed.count("stands for") == 2
    # Once for the table, once as a warning.
    assert printed.count("not an image in a known format") == 2
    assert "warning: 1 of 3 samples are bad; the first one: not an image" in printed
    assert "talk.json, record 9" in found.learned.bad[0].why


def test_warnings_stand_before_the_figures(audited, shards):
    outside = replace(annotated(0), instances=(Instance("circle", Box(0, 0, 99, 20)),))
    _, printed = audited(*shards(outside, kind="localization"), "n=0")
    assert printed.startswith("warning: 1 of 1 samples of data.train.localization have locations")
    assert printed.index("warning") < printed.index("Sources of data.train")


def test_good_data_get_no_warning(audited, shards):
    _, printed = audited(*shards(*map(talked, range(3))), "n=0")
    assert "warning:" not in printed


def test_samples_that_teach_nothing_are_counted(audited, shards):
    found, printed = audited(*shards(UNANSWERED, talked(1)))
    assert "warning: 1 of 2 samples give nothing to learn" in printed
    assert found.learned.n_silent == 1


def test_samples_cut_off_are_counted_and_one_of_them_is_named(audited, shards, tmp_path):
    choice = shards(*map(talked, range(6)), per_shard=2)
    (tmp_path / "train-conversation" / "000001.tar").unlink()
    found, printed = audited(*choice)
    assert found.n_bad == 2
    assert "2 of 6 samples are bad; the first one: sample is cut off: " in printed
    assert "000001.tar, sample 000001-000000" in printed.replace("\n", "")


def test_benchmark_images_are_looked_for(audited, shards, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(picture(1))
    choice = shards(*map(talked, range(3)))
    found, printed = audited(*choice, f"benchmarks=[{tmp_path / 'pictures'}]")
    assert found.leaked[0][0].key == "talk 1"
    assert "1 of 1 images of" in printed
    assert "stand in 1 samples" in printed


def test_writes_figures_and_a_page(audited, shards, tmp_path):
    choice = [*shards(annotated(0), kind="localization"), *shards(talked(1))[1:]]
    output = tmp_path / "out" / "audit"
    _, printed = audited(*choice, f"output={output}", "shown=2", "n=0")
    assert str(output / "audit.html") in printed.replace("\n", "")
    figures = read_json(output / "audit.json")
    assert list(figures["sources"]) == ["data.train.conversation", "data.train.localization"]
    page = (output / "audit.html").read_text()
    assert page.count("<article") == 2
    assert "image 0" in page
    assert "talk 1" in page
    audited(*choice, f"output={output}", "shown=1")
    assert (output / "audit.html").read_text().count("<article") == 1


def test_writes_nothing_without_an_output(audited, shards, tmp_path, monkeypatch):
    choice = shards(talked(1))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    _, printed = audited(*choice)
    assert list((tmp_path / "here").iterdir()) == []
    assert "audit.json" not in printed


def test_refuses_data_from_which_nothing_is_learned(audited, shards):
    with pytest.raises(DataError, match=r"none of \d+ tokens is learned") as error:
        audited(*shards(UNANSWERED))
    assert "assistant turns" in error.value.fix


def test_refuses_data_of_which_all_samples_are_bad(audited, shards):
    with pytest.raises(DataError, match="no sample can be used: 1 of 1 are bad; .*: not an image"):
        audited(*shards(BROKEN))


def test_data_that_are_refused_are_written_all_the_same(audited, shards, tmp_path):
    choice = shards(BROKEN, talked(1))
    with pytest.raises(DataError, match="1 of 2 samples are bad, 0 allowed"):
        audited(*choice, "data.max_bad_samples=0", f"output={tmp_path / 'audit'}")
    assert read_json(tmp_path / "audit" / "audit.json")["bad_samples"] == 1


def test_data_that_cannot_be_read_get_one_message(audited, shards, tmp_path):
    choice = shards(talked(1))
    (tmp_path / "train-conversation" / "000000.tar").unlink()
    with pytest.raises(DataError, match="no sample can be read: all 1"):
        audited(*choice)


def test_an_empty_val_split_is_reported_there(audited, shards):
    with pytest.raises(ConfigError, match="val") as error:
        audited(*shards(talked(1)), "split=val")
    assert error.value.where == "data.val"


def test_validation_data_are_audited_where_there_are_no_training_data(audited, shards):
    found, _ = audited(*shards(talked(1), split="val"), "split=val")
    assert found.split == "val"
    assert found.n_samples == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["split=test"], r"no split called 'test'(?s:.*)train or val"),
        (["+scenes.sead=3"], r"sead(?s:.*)did you mean 'seed'"),
        (["+data.batchsize=3"], r"batchsize(?s:.*)did you mean 'batch_size'"),
        (["objectives=none", "data.train.conversation.shards=null"], "nothing to learn|no source"),
    ],
)
def test_mistakes_in_the_config_get_one_message(audited, shards, overrides, message):
    with pytest.raises(ConfigError, match=message):
        audited(*shards(talked(1)), *overrides)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sample", "status", "error"), [(talked(1), 0, ""), (UNANSWERED, 1, "error: none of ")]
)
def test_the_exit_status_says_whether_anything_is_learned(shards, tmp_path, sample, status, error):
    done = subprocess.run(
        [sys.executable, "-m", "locvlm.audit", *shards(sample), "output=null"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith(error)
    assert "Traceback" not in done.stderr
    assert "Tokens, as training sees them" in done.stdout
