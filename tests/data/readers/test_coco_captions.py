import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from PIL import Image

from locvlm.data.readers import CocoCaptionsReader
from locvlm.errors import ConfigError, DataError
from locvlm.prepare import prepare
from tests.data.readers.fuzz import read_all, write

PROMPTS = ["Describe it.", "Say what is there."]


@pytest.fixture
def read(tmp_path):
    """Reads captions about images that all have the same file; gives samples and quarantine."""
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")

    def run(captions, n_images=1, **options):
        images = [{"id": n, "file_name": "a.png"} for n in range(n_images)]
        annotations = [{"id": 9, "image_id": image, "caption": text} for image, text in captions]
        file = write(tmp_path / "captions.json", {"annotations": annotations, "images": images})
        return read_all(CocoCaptionsReader(file, str(tmp_path), PROMPTS, **options))

    return run


def test_a_caption_answers_a_prompt(read):
    samples, quarantine = read([(0, " A red wall.\n")])
    user, assistant = samples["0"].messages
    assert (user.role, assistant.role) == ("user", "assistant")
    assert user.parts[0] in PROMPTS
    assert assistant.parts == ("A red wall.",)
    assert samples["0"].size == (40, 30)
    assert not len(quarantine)


def test_prompts_and_captions_are_drawn_by_seed_and_all_occur(read):
    captions = [(image, text) for text in ("one", "two", "three") for image in range(40)]
    drawn = [
        [
            tuple(m.parts[0] for m in sample.messages)
            for sample in read(captions, 40, **o)[0].values()
        ]
        for o in ({}, {}, {"seed": 1})
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert set(drawn[0]) == {(p, c) for p in PROMPTS for c in ("one", "two", "three")}


def test_images_without_a_caption_and_empty_captions_are_set_aside(read):
    samples, quarantine = read([(0, " "), (0, "A wall."), (1, 7)], 3)
    assert list(samples) == ["0"]
    assert quarantine.reasons == {"image without a caption": 2, "record without caption": 2}


def test_the_manifest_holds_the_prompts_of_the_config(read, tmp_path):
    read([(0, "A wall.")])
    options = [f"source.captions={tmp_path}/captions.json", f"images={tmp_path}", "output=out"]
    with initialize_config_module("locvlm.conf", version_base="1.3"):
        cfg = compose("prepare", ["source=coco_captions", *options])
    manifest = prepare(instantiate(cfg.source), tmp_path / "out")
    assert manifest["reader"]["prompts"][0] == "Describe the image concisely."
    assert manifest["counts"]["turns"] == 1


def test_refuses_what_is_no_captions_file(tmp_path):
    file = write(tmp_path / "x.json", {"images": []})
    with pytest.raises(DataError, match="not a COCO captions file"):
        read_all(CocoCaptionsReader(file, str(tmp_path), PROMPTS))


def test_asks_for_a_file_and_for_prompts(tmp_path):
    with pytest.raises(ConfigError, match="a file of captions is needed"):
        CocoCaptionsReader(None, str(tmp_path), PROMPTS)
    with pytest.raises(ConfigError, match="no prompt"):
        CocoCaptionsReader("x.json", str(tmp_path), [])
