"""A whole model in a tiny size, and samples to feed it."""

import io
from functools import partial

import torch
from PIL import Image

from locvlm.chat import ChatFormat
from locvlm.coordinates import IVB
from locvlm.geometry import resize
from locvlm.models import Adapter, LocVLM, TimmEncoder
from locvlm.models.language import fresh
from locvlm.processor import Processor
from locvlm.tokenizers import build_tokenizer
from locvlm.types import Box, Message, Sample

SENTENCES = [
    "Where is the object described red circle located in image in terms of (x1,y1,x2,y2) bbox?",
    "It is located at [1, 2, 3, 4] bbox. There is no such object in the image.",
    "Describe the object located at USER: ASSISTANT: Is there a blue square? Yes. No. left right",
]
ENCODER = {"patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,  # what random weights say differs more from prompt to prompt
}
BOX = Box(4, 8, 20, 30)


def make_processor(bins=32, **options):
    """A processor of 32 px images in 16 patches."""
    tokenizer = build_tokenizer(SENTENCES, max_number=bins)
    return Processor(
        tokenizer, IVB(bins), resize, ChatFormat(), image_size=32, patch_size=8, **options
    )


def make_model(
    processor=None, *, seed=0, layers=1, architecture="llama", attention=None, **options
):
    """A model with random weights, in evaluation mode; `options` are the language model's."""
    torch.manual_seed(seed)
    return LocVLM.build(
        TimmEncoder("vit_tiny_patch16_224", 32, 8, options=ENCODER),
        partial(Adapter, layers=layers),
        partial(fresh, architecture, attention=attention, options=LLAMA | options),
        processor or make_processor(),
    ).eval()


def make_sample(color="red", size=(48, 40)):
    """A picture of one colour with a white edge, so that its sides differ."""
    picture = Image.new("RGB", size, color)
    picture.paste("white", (0, 0, 12, size[1]))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return Sample(color, "test", image=buffer.getvalue(), size=size)


def ask(text):
    """A conversation that ends with a question."""
    return [Message("user", (text,))]


def dialogue(box=BOX):
    """A question and its answer."""
    return [*ask("Where is the red circle?"), Message("assistant", ("It is located at ", box, "."))]
