import pickle
import subprocess
import sys
from dataclasses import dataclass
from functools import partial

import pytest
from hydra.utils import instantiate

from locvlm.chat import ChatFormat
from locvlm.config import build, check_allowed, check_keys, check_targets, locate
from locvlm.errors import CheckpointError, ConfigError, LocVLMError

HERE = __name__
CHAT = {"_target_": "locvlm.chat.ChatFormat"}


@dataclass
class Net:
    width: int = 1
    depth: int = 1

    @classmethod
    def of_size(cls, size):
        return cls(size, size)


def takes_anything(*args, **kwargs):
    return args, kwargs


def positional_only(a, b, /, c):
    return a, b, c


NET = {"_target_": f"{HERE}.Net"}


@pytest.mark.parametrize(
    "node",
    [
        None,
        3,
        {},
        {"a": [1, {"b": "c"}]},
        NET,
        {**NET, "width": 3},
        {**NET, "width": "???"},
        {**NET, "_partial_": True, "_recursive_": False, "_convert_": "all"},
        {**NET, "_args_": [1, 2]},
        {**NET, "_args_": [1], "depth": 2},
        {"_convert_": "all", "a": 1},
        {"_target_": f"{HERE}.Net.of_size", "size": 2},
        {"_target_": f"{HERE}.takes_anything", "_args_": [1, 2, 3], "foo": 1},
        {"_target_": f"{HERE}.positional_only", "_args_": [1, 2], "c": 3},
        {"_target_": "builtins.max", "_args_": [1, 2]},
        {"_target_": "locvlm.Box", "x1": 1},
        {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 1, "betas": [0.9, 0.95]},
        {"_target_": "transformers.AutoTokenizer.from_pretrained", "_args_": ["x"], "use_fast": 1},
    ],
)
def test_accepts_what_can_be_built(node):
    check_targets(node)


@pytest.mark.parametrize(
    ("node", "what", "where", "fix"),
    [
        (
            {"module": {"optimizer": {"_target_": "torch.optim.AdamW", "lrr": 1}}},
            "torch.optim.AdamW takes no 'lrr'",
            "module.optimizer.lrr",
            "did you mean 'lr'?",
        ),
        (
            {"callbacks": [{}, {"inner": {**NET, "widht": 99}}]},
            f"{HERE}.Net takes no 'widht'",
            "callbacks[1].inner.widht",
            "did you mean 'width'?",
        ),
        ({**NET, "xyz": 1}, f"{HERE}.Net takes no 'xyz'", "xyz", "choose from width, depth"),
        (
            {"_target_": f"{HERE}.Net.of_size", "cls": 2},
            f"{HERE}.Net.of_size takes no 'cls'",
            "cls",
            "choose from size",
        ),
        (
            {"_target_": "locvlm.chat.ChatFromat"},
            "locvlm.chat has no 'ChatFromat'",
            "_target_",
            "did you mean 'ChatFormat'?",
        ),
        (
            {"_target_": "locvlm.LocVLMModul"},
            "locvlm has no 'LocVLMModul'",
            "_target_",
            "did you mean 'LocVLMModule'?",
        ),
        (
            {"_target_": "locvlm.cordinates.IVB"},
            "locvlm has no 'cordinates'",
            "_target_",
            "did you mean 'coordinates'?",
        ),
        ({"_target_": "nosuch.Thing"}, "cannot import nosuch: No module", "_target_", None),
        ({"_target_": "locvlm.chat"}, "locvlm.chat is a module, nothing to call", "_target_", None),
        ({"_target_": "locvlm.chat.IMAGE"}, "is a str, nothing to call", "_target_", None),
        ({"_target_": "locvlm..chat"}, "not a dotted path", "_target_", None),
        ({"_target_": None}, "None is not a dotted path", "_target_", None),
        ({**NET, "_args_": [1, 2, 3]}, "takes 2 positional arguments, got 3", "_args_", None),
        ({**NET, "_args_": [1], "width": 2}, "gets 'width' from _args_ already", "width", None),
        ({**NET, "_args_": 1}, "_args_ must be a list, got 1", "_args_", None),
        ({**NET, "_partial_": "yes"}, "_partial_ must be true or false", "_partial_", None),
        (
            {"_target_": f"{HERE}.takes_anything", "_partal_": True},
            "'_partal_' means nothing to Hydra",
            "_partal_",
            "did you mean '_partial_'?",
        ),
        ({"a": {"_partial_": True}}, "'_partial_' without a _target_", "a._partial_", None),
        ({"_taget_": f"{HERE}.Net"}, "means nothing", "_taget_", "did you mean '_target_'?"),
    ],
)
def test_refuses_what_cannot(node, what, where, fix):
    with pytest.raises(ConfigError) as error:
        check_targets(node)
    assert what in error.value.what
    assert error.value.where == where
    assert fix is None or error.value.fix == fix


def test_messages_begin_where_the_caller_says():
    with pytest.raises(ConfigError) as error:
        check_targets([{**NET, "widht": 1}], where="data")
    assert error.value.where == "data[0].widht"


def test_children_that_are_built_later_are_checked_too():
    with pytest.raises(ConfigError, match="widht"):
        check_targets({**NET, "_recursive_": False, "width": {**NET, "widht": 1}})


def test_a_module_that_fails_on_import_is_named(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("raise RuntimeError('no driver')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="cannot import broken_module: no driver"):
        locate("broken_module.Thing")


def test_imports_only_what_the_config_names():
    code = (
        "import sys; from locvlm.config import check_targets;"
        "check_targets({'_target_': 'locvlm.chat.ChatFormat', 'end': ''});"
        "print(sorted({'torch', 'hydra', 'transformers', 'lightning'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_targets_are_found_as_hydra_finds_them():
    node = {"_target_": "locvlm.LocVLMError", "what": "so"}
    check_targets(node)
    assert type(instantiate(node)) is LocVLMError


def test_builds_what_a_checkpoint_holds_without_resolving_anything():
    built = build({**CHAT, "system": "A ${oc.env:HOME} B"})
    assert built == ChatFormat(system="A ${oc.env:HOME} B")


def test_given_arguments_join_or_replace_those_of_the_node():
    assert build({**CHAT, "system": "a"}, system="b", end="c") == ChatFormat("b", end="c")


def test_builds_nested_nodes_lists_and_positional_arguments():
    built = build({**CHAT, "_args_": [[{"a": CHAT}, 1]], "end": {**CHAT, "_args_": ["x"]}})
    assert built == ChatFormat([{"a": ChatFormat()}, 1], end=ChatFormat("x"))


def test_builds_partials_that_worker_processes_can_receive():
    later = build({**CHAT, "_partial_": True, "end": "."})
    assert type(later) is partial  # Hydra's own class costs 0.2 ms a call
    assert pickle.loads(pickle.dumps(later))(system="a") == ChatFormat("a", end=".")


def test_leaves_children_alone_where_the_node_says_so():
    node = {**CHAT, "_recursive_": False, "system": CHAT}
    assert build(node).system == CHAT


STRANGERS = [
    "os.system",
    "builtins.eval",
    "subprocess.Popen",
    "locvlm.io.os.system",  # reachable as an attribute of a module of ours
    "locvlm.io.write_text",  # ours, but no part of a checkpoint
    "locvlm.processor.write_json",  # the same kind under another name
    "locvlm.chat.ChatFormat.__class__",  # that is `type`
    "locvlm.chat.dataclass",
    "locvlm.models.language.pretrained",  # could download what it is told to
    "locvlm.models.checkpoint.save_model",
    "locvlm.chat.ConfigError",
    "locvlmx.chat.ChatFormat",
    "",
    None,
    7,
]


@pytest.mark.parametrize("target", STRANGERS)
def test_targets_of_strangers_are_refused_by_name(target):
    node = {"_target_": target, "_args_": ["true"]}
    for whole, where in [(node, "_target_"), ({**CHAT, "system": [node]}, "system[0]._target_")]:
        with pytest.raises(CheckpointError, match="must not name") as error:
            build(whole)
        assert repr(target) in error.value.what
        assert error.value.where == where


@pytest.mark.parametrize("target", ["locvlm", "locvlm.chat", "locvlm.chat.IMAGE", "locvlm."])
def test_targets_that_are_no_class_or_function_are_refused(target):
    with pytest.raises(CheckpointError):
        build({"_target_": target})


def test_a_refused_module_is_not_even_imported(tmp_path, monkeypatch):
    flag = tmp_path / "imported"
    (tmp_path / "evil_module.py").write_text(f"open({str(flag)!r}, 'w')\ndef f(): pass")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CheckpointError, match="evil_module"):
        build({"_target_": "evil_module.f"})
    assert not flag.exists()


def test_callers_can_allow_more():
    node = {"_target_": "collections.OrderedDict"}
    with pytest.raises(CheckpointError, match="must not name 'collections.OrderedDict'"):
        check_allowed(node)
    check_allowed(node, allowed=["collections"])
    check_allowed(node, allowed=["collections.OrderedDict"])
    with pytest.raises(CheckpointError, match="must not name"):
        check_allowed(node, allowed=["collections.Ordered"])
    with pytest.raises(CheckpointError, match="must not name 'os.getcwd'"):
        check_allowed([node, {"_target_": "os.getcwd"}], allowed=["collections"])


def test_a_checkpoint_of_another_version_says_so():
    with pytest.raises(CheckpointError, match="takes no 'ending'") as error:
        build({**CHAT, "ending": "</s>"})
    assert error.value.where == "ending"
    assert error.value.fix == "load it with the version of locvlm that saved it"
    with pytest.raises(CheckpointError, match=r"locvlm.chat has no 'Chat'"):
        build({"_target_": "locvlm.chat.Chat"})


def test_errors_of_the_target_reach_the_caller():
    with pytest.raises(ConfigError, match="holds no {text}"):
        build({**CHAT, "answer": ""})


def test_names_a_key_that_a_schema_does_not_have():
    @dataclass
    class Stage:
        max_steps: int = 1

    check_keys({"max_steps": 2}, Stage, "stages.one")
    with pytest.raises(ConfigError, match=r"no 'max_stps'\n.*stages\.one\.max_stps\n.*'max_steps'"):
        check_keys({"max_stps": 2}, Stage, "stages.one")
