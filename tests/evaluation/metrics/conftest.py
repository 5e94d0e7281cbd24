"""What tests of captioning metrics share."""

import json

import pytest

from locvlm.evaluation.metrics.ptb import ptb_words
from locvlm.evaluation.metrics.wording import regrouped


@pytest.fixture(scope="session")
def captions(real_data, java_programs):
    """Words of real captions and of their references, by the name of their official results."""
    folder = real_data / "captions"
    lines = (folder / "caps_boxes_coco2014_val_first40.jsonl").read_text().splitlines()
    of_image = [json.loads(line)["captions"] for line in lines]
    found = {"caps_boxes_first40_first_caption_vs_other_four": [(c[0], c[1:]) for c in of_image]}
    clipscore = folder / "clipscore_example"
    references = json.loads((clipscore / "refs.json").read_text())
    for name in ("good", "bad"):
        said = json.loads((clipscore / f"{name}_captions.json").read_text())
        found[f"clipscore_example_{name}"] = [(said[key], references[key]) for key in said]
    files = [folder / "nlg_eval_example" / name for name in ("hyp.txt", "ref1.txt", "ref2.txt")]
    rows = zip(*(file.read_text().splitlines() for file in files), strict=True)
    found["nlg_eval_example"] = [(said, references) for said, *references in rows]
    rows = json.loads((real_data / "refcoco/testA_refcoco_unc_dets_2images.json").read_text())
    regions = {}
    for row in rows:
        regions.setdefault(tuple(row["gt_box"]), []).append(row["sent"])
    name = "refcoco_region_first_expression_vs_others_2images"
    found[name] = [(said[0], said[1:]) for said in regions.values() if said[1:]]
    words = {}
    for name, pairs in found.items():
        references = [of for _, of in pairs]
        split = ptb_words([text for of in references for text in of])
        words[name] = ptb_words([said for said, _ in pairs]), regrouped(split, references)
    return words


@pytest.fixture(scope="session")
def official(real_data):
    """What pycocoevalcap computes on `captions`: `corpus` and `per_id`, by name."""
    return json.loads((real_data / "expected" / "expected.json").read_text())["captions"]
