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
from tests.data.conftest import annotated, talked

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
            cfg = compose("audit", overrides=list(overrides))
        found = audit(cfg)
        return found, capsys.readouterr().out

    return run


def cells(printed):
    """The rows of all tables."""
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
    assert (found.n_samples, found.n_tokens, found.n_learned) == (1, n_tokens, 5)
    share = f"{5 / n_tokens:.1%} of {n_tokens} tokens are learned in 1 samples"
    assert f"{share}; 0 samples give nothing to learn, 0 are bad" in printed


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
        assert found.n_samples == counted


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
    assert found.n_samples == 8
    assert 0 < found.share < 0.8
    assert "scenes/shards/train-" in printed.replace("\n", "")


def test_bad_samples_are_named_in_the_place_of_their_tokens(audited, shards):
    found, printed = audited(*shards(BROKEN, talked(1), talked(2)), "n=3")
    assert printed.count("stands for") == 2
    assert "0 samples give nothing to learn, 1 are bad" in printed
    # Once for the table, once for the count.
    assert printed.count("not an image in a known format") == 2
    assert "talk.json, record 9" in found.bad[0]


def test_only_the_first_bad_samples_are_named(audited, shards):
    bad = [replace(talked(n), image=b"no image") for n in range(5)]
    _, printed = audited(*shards(*bad, talked(7)), "n=0")
    assert "5 are bad" in printed
    assert printed.count("not an image in a known format") == 3


def test_samples_that_teach_nothing_are_counted(audited, shards):
    found, printed = audited(*shards(UNANSWERED, talked(1)))
    assert "1 samples give nothing to learn, 0 are bad" in printed
    assert found.n_silent == 1


def test_samples_cut_off_are_counted_and_one_of_them_is_named(audited, shards, tmp_path):
    choice = shards(*map(talked, range(6)), per_shard=2)
    (tmp_path / "train-conversation" / "000001.tar").unlink()
    _, printed = audited(*choice)
    assert "2 samples are cut off; sample is cut off: " in printed
    assert "000001.tar, sample 000001-000000" in printed.replace("\n", "")


def test_refuses_data_from_which_nothing_is_learned(audited, shards):
    with pytest.raises(DataError, match=r"none of \d+ tokens is learned") as error:
        audited(*shards(UNANSWERED))
    assert "assistant turns" in error.value.fix


def test_refuses_data_of_which_all_samples_are_bad(audited, shards):
    with pytest.raises(DataError, match="all 1 samples are bad; the first one: not an image"):
        audited(*shards(BROKEN))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["split=test"], r"no split called 'test'(?s:.*)train or val"),
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
        [sys.executable, "-m", "locvlm.audit", *shards(sample)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith(error)
    assert "Traceback" not in done.stderr
    assert ("1 samples" in done.stdout) == (status == 0)
