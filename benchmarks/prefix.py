"""Questions about one image, beside transformers: `python benchmarks/prefix.py`.

The same random weights answer n questions about an image: ours, which reads the image once for all
of them, and `generate` of transformers' LlavaForConditionalGeneration on the exported model, with
the questions one by one and in a batch. All get tokens and pixels, and say as many words.
"""

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from run import machine, parts, seconds

from locvlm.cli import print_table
from locvlm.geometry import pad
from locvlm.images import normalize
from locvlm.models import Adapter, LocVLM, TimmEncoder
from locvlm.models.language import fresh
from locvlm.models.llava_export import export_llava
from locvlm.processor import Processor, Prompt
from locvlm.scenes import World, scenes
from locvlm.types import Message

N_TOKENS = 16  # of an answer
NAMES = ("red circle", "blue square", "star", "green triangle", "object left of the star")


class Shape(NamedTuple):
    """Sizes of a model; heads have 64 numbers, or 128 in a language model of 4,096."""

    name: str
    image_size: int
    patch_size: int
    width: int
    layers: int
    inner: int = 0  # of the language model's MLPs; 0: three times the width
    encoder_width: int = 192
    encoder_layers: int = 6
    adapter_layers: int = 2


SHAPES = (Shape("tiny", 64, 8, 128, 2), Shape("small", 336, 14, 512, 8))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, nargs="+", default=[1, 8, 32])
    options = parser.parse_args(arguments)
    for shape in SHAPES:
        model = make(shape)
        with tempfile.TemporaryDirectory() as folder:
            export_llava(model, f"{folder}/llava")
            theirs = llava(f"{folder}/llava")
        rows = [measured(model, theirs, n) for n in options.questions]
        n_places = model.encoder.n_patches
        title = f"{shape.name}: {n_places} image tokens, {shape.layers} layers of {shape.width}"
        columns = ["questions", "ours, answers/s", "one by one", "batch", "ours / one by one"]
        columns += ["ours / batch", "same words"]
        print_table(f"{title}; {machine()}", columns, rows)


def measured(model: LocVLM, theirs: Any, n: int) -> tuple[object, ...]:
    prompts = asked(model, n)
    end = {"eos_token_id": None, "pad_token_id": model.processor.pad_id, "do_sample": False}
    inputs = [as_llava(model, [prompt]) for prompt in prompts]
    batch = as_llava(model, prompts)

    def alone() -> list[str]:
        return [
            words(model, theirs.generate(**one, max_new_tokens=N_TOKENS, **end), one)[0]
            for one in inputs
        ]

    def together() -> list[str]:
        return words(model, theirs.generate(**batch, max_new_tokens=N_TOKENS, **end), batch)

    ours = partial(model.generate, prompts, max_new_tokens=N_TOKENS)
    same = sum(a == b for a, b in zip(ours(), alone(), strict=True))
    rates = [n / seconds(call) for call in (ours, alone, together)]
    return (n, *rates, rates[0] / rates[1], rates[0] / rates[2], f"{same} of {n}")


def make(shape: Shape, vocabulary: int = 0, dtype: str = "float32") -> LocVLM:
    """A model with random weights; 0 words: as many as its tokenizer writes."""
    tokens = parts("ivb")[1]
    torch.manual_seed(0)
    encoder = TimmEncoder(
        "vit_large_patch14_clip_quickgelu_336",
        shape.image_size,
        shape.patch_size,
        layer=-2,
        options={
            "embed_dim": shape.encoder_width,
            "depth": shape.encoder_layers,
            "num_heads": shape.encoder_width // 64,
            "patch_size": shape.patch_size,
        },
    )
    processor = Processor(
        tokens.tokenizer,
        tokens.coordinates,
        pad,
        tokens.chat,
        image_size=shape.image_size,
        patch_size=shape.patch_size,
        mean=encoder.mean,
        std=encoder.std,
    )
    processor.end_id = -1  # never said: each answer has the full length

    def language_model(vocab_size: int) -> Any:
        options, n_words = language_options(shape), vocabulary or vocab_size
        return fresh("llama", options=options, vocab_size=n_words, dtype=dtype)

    adapter = partial(Adapter, layers=shape.adapter_layers)
    model = LocVLM.build(encoder, adapter, language_model, processor)
    for part in (model.encoder, model.adapter):
        part.to(getattr(torch, dtype))
    return model.eval()


def language_options(shape: Shape) -> dict[str, int]:
    n_heads = shape.width // (128 if shape.width >= 4096 else 64)
    return {
        "hidden_size": shape.width,
        "intermediate_size": shape.inner or 3 * shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": n_heads,
        "num_key_value_heads": n_heads,
        "max_position_embeddings": 2048,
    }


def asked(model: LocVLM, n: int) -> list[Prompt]:
    """Prompts about one scene that share its pixels."""
    sample = next(iter(scenes(World(), "test", 1))).sample()
    pixels = model.processor.pixel_values(sample)
    texts = [f"Where is the {NAMES[k % len(NAMES)]}, number {k}?" for k in range(n)]
    return [model.processor.prompt(sample, [Message("user", (t,))], pixels) for t in texts]


def llava(folder: str) -> Any:
    from transformers import LlavaForConditionalGeneration

    return LlavaForConditionalGeneration.from_pretrained(folder).eval()


def as_llava(model: LocVLM, prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
    """Prompts as transformers takes them: padded on the left, each with its own image."""
    longest = max(len(prompt["input_ids"]) for prompt in prompts)
    ids = torch.full((len(prompts), longest), model.processor.pad_id)
    mask = torch.zeros_like(ids)
    for n, prompt in enumerate(prompts):
        ids[n, longest - len(prompt["input_ids"]) :] = prompt["input_ids"]
        mask[n, longest - len(prompt["input_ids"]) :] = 1
    pixels = torch.cat([prompt["pixel_values"] for prompt in prompts])
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "pixel_values": normalize(pixels, model.encoder.mean, model.encoder.std),
    }


def words(model: LocVLM, said: torch.Tensor, inputs: dict[str, torch.Tensor]) -> list[str]:
    n_read = inputs["input_ids"].shape[1]
    return [model.processor.generated_text(ids[n_read:].tolist()) for ids in said]


if __name__ == "__main__":
    main()
