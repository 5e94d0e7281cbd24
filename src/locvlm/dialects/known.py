"""Conventions by name: what other projects' data and models write.

Each has the source that says so. Where a project truncates to whole numbers, these round to the
nearest, which halves the error and reads alike.
"""

from locvlm.dialects.convention import Convention
from locvlm.dialects.frames import GeometryName
from locvlm.dialects.numbers import Fractions, Integers, Patches, Percent, ResizedPixels
from locvlm.dialects.syntax import (
    Brackets,
    JsonObjects,
    LocTokens,
    PatchTokens,
    PointTags,
    TaggedLists,
    Tags,
)


def llava() -> Convention:
    """LLaVA-1.5: two decimals of the padded square, boxes only.

    >>> llava().read("Where is [0.25, 0.3, 0.5, 0.75]?", (640, 480))
    ('Where is ', Box(x1=160.0, y1=112.0, x2=320.0, y2=400.0), '?')

    Source: Liu et al., Improved Baselines with Visual Instruction Tuning, 2024, and its
    llava_v1_5_mix665k.json (RefCOCO and Visual Genome), which writes 0.3 rather than 0.30.
    """
    return Convention(Fractions(2, "pad", shortest=True, points=False), Brackets())


def shikra() -> Convention:
    """Shikra: three decimals of the padded square; several locations share their brackets.

    Source: Chen et al., Shikra, 2023; shikras/shikra, mllm/dataset/process_function/
    box_process_function.py (PlainBoxFormatter).
    """
    return Convention(Fractions(3, "pad"), Brackets(comma=",", joint=";"))


def fractions(decimals: int = 3, geometry: GeometryName = "resize") -> Convention:
    """Fractions of the sides in brackets, as GPT-4 was given and gave them for LLaVA and Ferret.

    Source: apple/ml-ferret, ferret/eval/ferret_gpt4_data; LLaVA's caps_boxes_coco2014_val_80.jsonl.
    """
    return Convention(Fractions(decimals, geometry), Brackets())


def ferret() -> Convention:
    """Ferret: thousandths of the sides, boxes and points.

    Source: You et al., Ferret, 2024; apple/ml-ferret, VOCAB_IMAGE_W = VOCAB_IMAGE_H = 1000.
    """
    return Convention(Integers(1000), Brackets())


def cogvlm() -> Convention:
    """CogVLM: thousandths of the sides up to 999, in three digits; boxes only.

    Source: Wang et al., CogVLM, 2023, section 2.3; THUDM/CogVLM, README (000 to 999).
    """
    numbers = Integers(1000, last=999, digits=3, points=False)
    return Convention(numbers, Brackets(depth=2, comma=",", joint=";"))


def deepseek_vl2() -> Convention:
    """DeepSeek-VL2: 0 to 999 for each side, names and boxes between tags.

    Source: Wu et al., DeepSeek-VL2, 2024; deepseek-ai/DeepSeek-VL2, deepseek_vl2/serve/app_modules/
    utils.py (parse_ref_bbox divides by 999).
    """
    tags = TaggedLists(("<|ref|>", "<|/ref|>"), ("<|det|>", "<|/det|>"))
    return Convention(Integers(999, points=False), tags)


def internvl() -> Convention:
    """InternVL: thousandths of the sides, names and lists of boxes between tags.

    Source: OpenGVLab/InternVL, documentation, Chat Data Format (grounding and detection data).
    """
    tags = TaggedLists(("<ref>", "</ref>"), ("<box>", "</box>"))
    return Convention(Integers(1000, points=False), tags)


def qwen_vl() -> Convention:
    """Qwen-VL: thousandths of the sides, names and boxes between tags.

    Source: Bai et al., Qwen-VL, 2023, appendix B. (Its eval_mm/evaluate_grounding.py divides by
    999: half a pixel of 640 at most.)
    """
    return Convention(Integers(1000), Tags(("<ref>", "</ref>"), ("<box>", "</box>")))


def qwen2_vl() -> Convention:
    """Qwen2-VL: as Qwen-VL, with other tags.

    Source: Wang et al., Qwen2-VL, 2024, section 2.2.
    """
    names = "<|object_ref_start|>", "<|object_ref_end|>"
    return Convention(Integers(1000), Tags(names, ("<|box_start|>", "<|box_end|>")))


def qwen2_5_vl(min_pixels: int = 3136, max_pixels: int = 12_845_056) -> Convention:
    """Qwen2.5-VL: pixels of the image as the model resizes it, in JSON objects.

    Several boxes of one name become several objects, each with its label.

    Args:
        min_pixels: as in the model's preprocessor_config.json, whose values are the defaults.
        max_pixels: the same.

    Source: Bai et al., Qwen2.5-VL, 2025; transformers, models/qwen2_vl/image_processing_qwen2_vl.py
    (smart_resize).
    """
    return Convention(ResizedPixels(min_pixels, max_pixels), JsonObjects())


def qwen3_vl() -> Convention:
    """Qwen3-VL: as Qwen2.5-VL, but in thousandths of the sides.

    Source: Qwen3-VL Technical Report, 2025; QwenLM/Qwen3-VL, cookbooks/2d_grounding.ipynb.
    """
    return Convention(Integers(1000), JsonObjects())


def paligemma() -> Convention:
    """PaliGemma: four of its 1024 location tokens, each y before its x; boxes only.

    Source: Beyer et al., PaliGemma, 2024; google-research/big_vision, configs/proj/paligemma.
    """
    return Convention(Integers(1024, last=1023, digits=4, points=False), LocTokens())


def kosmos2() -> Convention:
    """Kosmos-2: two patches of a grid of 32 x 32, boxes only.

    Source: Peng et al., Kosmos-2, 2023; transformers, models/kosmos2/processing_kosmos2.py
    (coordinate_to_patch_index, patch_index_to_coordinate).
    """
    return Convention(Patches(32), PatchTokens())


def molmo() -> Convention:
    """Molmo: points in percent of the sides, between tags; of a box its centre is written.

    Source: Deitke et al., Molmo and PixMo, 2024, and the model card of allenai/Molmo-7B-D-0924.
    """
    return Convention(Percent(), PointTags())
