import pytest

from locvlm.arguments import compose_plain, option_names
from locvlm.errors import ConfigError


def composed(*arguments):
    return compose_plain(
        "build",
        "builder",
        arguments,
        names=["hal"],
        own=["output", "overwrite", "seed"],
        chosen=["exclude"],
    )


def hal(*more):
    return composed("benchmark=hal", "instances=a.json", "output=b", *more)


@pytest.mark.parametrize("path", ["a, (1)='b'.json", "${seed}", "[1]", "x=y", "", "null"])
def test_values_are_taken_as_they_stand(path):
    assert composed("benchmark=hal", f"instances={path}", "output=b").builder.instances == path


def test_numbers_and_switches_are_read_as_such():
    cfg = hal("seed=7", "per_image=3", "overwrite=true")
    assert (cfg.seed, cfg.builder.seed, cfg.builder.per_image, cfg.overwrite) == (7, 7, 3, True)


def test_an_option_of_a_group_is_chosen_by_its_name():
    assert not hal().builder.exclude
    assert "sofa" in hal("exclude=coco").builder.exclude["same"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("seed=one", "this is a number"),
        ("overwrite=yes", "this is true or false"),
        ("exclude=lvis", "there is no exclude 'lvis'"),
        ("instance=a", "did you mean instances?"),
        ("_target_=os.system", "hal takes no _target_"),
        ("exclude.classes=a", "hal takes no exclude.classes"),
        ("seed.x=1", "hal takes no seed.x"),
        ("seed", "arguments are key=value"),
    ],
)
def test_mistakes_are_messages(argument, message):
    with pytest.raises(ConfigError) as error:
        hal(argument)
    assert message in str(error.value)


def test_options_are_the_files_of_a_folder():
    assert list(option_names("exclude")) == ["coco", "none"]
    assert "build_hal" in option_names("builder")["hal"]


def judged(*more):
    return compose_plain(
        "score",
        "benchmark",
        ["benchmark=msvd_qa", "questions=q", "answers=a", *more],
        names=["msvd_qa"],
        own=["answers", "output", "seed"],
        chosen=["judge", "judge.predictor"],
    )


def test_inner_groups_are_chosen_within_outer_ones():
    cfg = judged("judge=llm", "judge.predictor=locvlm", "judge.predictor.path=m")
    assert cfg.benchmark.judge.predictor.path == "m"
    with pytest.raises(ConfigError, match="takes no judge.predictor"):
        judged("judge=exact", "judge.predictor=locvlm")


def test_what_is_missing_within_a_choice_is_named_with_its_path():
    with pytest.raises(ConfigError, match=r"msvd_qa needs judge.predictor.model, .*url") as error:
        judged("judge=llm")
    assert "judge.predictor.url=..." in error.value.fix
