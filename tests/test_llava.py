"""A LLaVA in the place of a checkpoint: trained, asked, measured, and exported again."""

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from transformers import CLIPImageProcessor, LlavaForConditionalGeneration

from locvlm import LocVLM
from locvlm.evaluate import evaluate
from locvlm.models.llava_export import export_llava
from locvlm.predict import main as predict
from locvlm.train import train
from tests.llava import CROPPED, llama_tokenizer, make_llava, save_authors, save_transformers_5
from tests.tiny import LLAMA, make_sample

GREY = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
TRAIN = [
    "scenes.splits.train=8",
    "scenes.splits.val=8",
    "scenes.splits.test=2",
    "trainer.log_every_n_steps=1",
    "run=[instruct]",
    "stages.instruct.max_steps=1",
    "data.batch_size=2",
    "data.val_length=8",
    "model.encoder.image_size=32",
    "geometry=crop",
    "chat=vicuna_v1",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llava")
    llava = make_llava(len(llama_tokenizer()) + 1, text=LLAMA | {"max_position_embeddings": 2048})
    save_transformers_5(llava, folder, CLIPImageProcessor(**CROPPED, **GREY))
    return folder


def composed(command, *overrides):
    GlobalHydra.instance().clear()
    with initialize_config_module("locvlm.conf", version_base="1.3"):
        return compose(command, overrides=list(overrides))


def test_a_llava_is_trained_on_and_exported_again(folder, tmp_path):
    cfg = composed("train", f"checkpoint={folder}", f"scenes_folder={tmp_path / 'scenes'}", *TRAIN)
    train(cfg, tmp_path / "run")
    before = LocVLM.from_pretrained(folder)
    after = LocVLM.from_pretrained(tmp_path / "run" / "model")
    assert after.encoder.config() == before.encoder.config()
    assert torch.equal(after.encoder.vit.pos_embed, before.encoder.vit.pos_embed)
    head = "language_model.lm_head.weight"
    assert not torch.equal(after.state_dict()[head], before.state_dict()[head])
    export_llava(after, tmp_path / "out")
    _, report = LlavaForConditionalGeneration.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not any(report.values())


def test_an_adapter_begins_with_the_first_stage_of_a_llava(tmp_path):
    first = {"weight": torch.randn(128, 128), "bias": torch.randn(128)}
    saved = {f"model.mm_projector.{name}": tensor for name, tensor in first.items()}
    torch.save(saved, tmp_path / "mm_projector.bin")
    small = [one for one in TRAIN if not one.startswith(("run=", "model.", "chat="))]
    own = ["run=[encoder]", "stages.encoder.max_steps=1", "stages.encoder.data.batch_size=2"]
    begin = f"model.adapter.pretrained={tmp_path / 'mm_projector.bin'}"
    cfg = composed("train", f"scenes_folder={tmp_path / 'scenes'}", *small, *own, begin)
    train(cfg, tmp_path / "run")
    adapter = LocVLM.from_pretrained(tmp_path / "run" / "model").adapter.net[0]
    assert torch.equal(adapter.weight, first["weight"])
    assert torch.equal(adapter.bias, first["bias"])


def test_a_llava_is_asked(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(make_sample().image)
    predict([str(folder), "a.png", "Where is the red circle?", "--max-new-tokens", "4"])
    assert "picture: a-answer.png" in capsys.readouterr().out


def test_a_llava_of_its_authors_is_measured(tmp_path):
    save_authors(
        make_llava(len(llama_tokenizer()), text=LLAMA | {"max_position_embeddings": 2048}),
        tmp_path,
        with_tower=True,
    )
    only = [f"~benchmark.parts.{part}" for part in ("sides", "regions", "hallucination")]
    small = ["scenes.splits.test=1", "predictor.max_new_tokens=2"]
    cfg = composed(
        "evaluate", f"checkpoint={tmp_path}", f"output={tmp_path / 'results'}", *only, *small
    )
    assert evaluate(cfg)["counts"]
