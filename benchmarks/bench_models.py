"""The models of benchmarks/gpu.py, ours and those of transformers, and what they do in a step."""

import io
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from random import Random
from typing import Any, NamedTuple

import torch
from packing import talk
from PIL import Image
from prefix import Shape, as_llava, asked, language_options, make
from torch import Tensor, nn

from locvlm import LocVLM
from locvlm.data.collate import Batch, collate
from locvlm.data.packing import pack
from locvlm.images import normalize
from locvlm.models.layout import find_layout
from locvlm.models.lora import add_lora
from locvlm.processor import Example, Processor
from locvlm.training import adamw, adamw8bit
from locvlm.training.flops import work
from locvlm.training.module import train_only
from locvlm.training.strategies import checkpoint_activations, compile_blocks
from locvlm.types import Sample

RANK, ALPHA = 128, 256  # LLaVA's
PARTS = {"full": ("adapter", "language_model"), "lora": ("adapter", "lora")}
OPTIMIZERS = {"adamw": adamw, "adamw8bit": adamw8bit}
MAX_LENGTH = 2048  # LLaVA's
Step = Callable[[], None]


def dtype_on(device: torch.device) -> str:
    return "bfloat16" if device.type == "cuda" else "float32"


def has_bitsandbytes() -> bool:
    return find_spec("bitsandbytes") is not None


def examples(shape: Shape, n: int) -> tuple[list[Example], Processor]:
    """Conversations about an image each, of the lengths of benchmarks/packing.py."""
    with torch.device("meta"):
        processor = make(shape).processor
    processor.max_length = MAX_LENGTH
    rng = Random(0)
    made = []
    for number in range(n):
        buffer = io.BytesIO()
        Image.new("RGB", (shape.image_size,) * 2, (number * 37 % 256, 90, 30)).save(buffer, "PNG")
        size = (shape.image_size, shape.image_size)
        sample = Sample(f"{number}", "drawn", buffer.getvalue(), size)
        made.append(processor.encode(sample, talk(rng)))
    return made, processor


class Run(NamedTuple):
    """What is trained, and how."""

    shape: Shape
    n_words: int
    kind: str
    device: torch.device
    optimizer: str = "adamw"
    again: bool = False  # blocks compute their activations again
    compiled: bool = False
    attention: str | None = None  # transformers' name


def on_meta(run: Run) -> LocVLM:
    """Our model without memory, with what learns in this kind of training."""
    with torch.device("meta"):
        model = make(run.shape, run.n_words)
        if run.kind == "lora":
            add_lora(model, rank=RANK, alpha=ALPHA)
    train_only(model, PARTS[run.kind])
    return model


def ours(run: Run, samples: Sequence[Example], processor: Processor) -> tuple[Step, Tensor]:
    """A step on a packed batch, and what the batch holds, see `flops.work`."""
    with run.device:
        model = make(run.shape, run.n_words, dtype_on(run.device))
        if run.attention:
            model.language_model.set_attn_implementation(run.attention)
        if run.kind == "lora":
            add_lora(model, rank=RANK, alpha=ALPHA)
    train_only(model, PARTS[run.kind])
    if run.compiled:
        compile_blocks(model)
    if run.again:
        checkpoint_activations(model)
    batch = pack(samples, processor.pad_id)
    layout = find_layout(
        batch["input_ids"],
        model.image_token_id,
        batch["attention_mask"],
        batch["labels"],
        batch["position_ids"],
    ).to(run.device)
    moved = {name: tensor.to(run.device) for name, tensor in batch.items()}
    named = [pair for pair in model.named_parameters() if pair[1].requires_grad]
    update = OPTIMIZERS[run.optimizer](named, lr=2e-5)
    loss = mixed(run, partial(model, **moved, layout=layout))
    return partial(step, loss, update, named), work(batch)


def theirs(run: Run, samples: Sequence[Example], processor: Processor) -> tuple[Step, Tensor]:
    """A step of transformers' model on the padded batch; the encoder is frozen there, too."""
    model = llava(run.shape, run.n_words, processor, run.device)
    model.model.vision_tower.requires_grad_(False)
    if run.kind == "lora":
        from peft import LoraConfig, inject_adapter_in_model

        language: Any = model.model.language_model
        layers = (name for name, one in language.named_modules() if isinstance(one, nn.Linear))
        names = sorted({name.rpartition(".")[2] for name in layers})
        model.requires_grad_(False)
        config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=names)
        inject_adapter_in_model(config, language)
        for weight in language.parameters():
            weight.data = weight.data.float() if weight.requires_grad else weight.data  # as ours
        model.model.multi_modal_projector.requires_grad_(True)
    model.train()
    if run.again:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    named = [pair for pair in model.named_parameters() if pair[1].requires_grad]
    update = OPTIMIZERS[run.optimizer](named, lr=2e-5)
    batch = collate(samples, processor.pad_id)
    padded = {
        "input_ids": batch["input_ids"],
        "attention_mask": batch["attention_mask"].long(),
        "labels": batch["labels"],
        "pixel_values": pixels(batch, processor, model.dtype),
    }
    moved = {name: tensor.to(run.device) for name, tensor in padded.items()}

    def loss() -> Tensor:
        found: Tensor = model(**moved).loss
        return found

    return partial(step, mixed(run, loss), update, named), work(batch)


def mixed(run: Run, loss: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """LoRA's float32 weights compute in bfloat16 on GPUs, as in bf16-mixed and `bf16=True`."""
    enabled = run.kind == "lora" and run.device.type == "cuda"

    def computed() -> Tensor:
        with torch.autocast(run.device.type, torch.bfloat16, enabled=enabled):
            return loss()

    return computed


def pixels(batch: Batch, processor: Processor, dtype: torch.dtype) -> Tensor:
    return normalize(batch["pixel_values"], processor.mean, processor.std).to(dtype)


def step(loss: Callable[[], Tensor], optimizer: Any, named: Sequence[tuple[str, Any]]) -> None:
    loss().backward()
    torch.nn.utils.clip_grad_norm_([weight for _, weight in named], 1.0)
    optimizer.step()
    optimizer.zero_grad()


def llava(shape: Shape, n_words: int, processor: Processor, device: torch.device) -> Any:
    """transformers' model of the same shape; its adapter always has two layers."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    vision = CLIPVisionConfig(
        hidden_size=shape.encoder_width,
        intermediate_size=4 * shape.encoder_width,
        num_hidden_layers=shape.encoder_layers,
        num_attention_heads=shape.encoder_width // 64,
        image_size=shape.image_size,
        patch_size=shape.patch_size,
    )
    n_ids = max(n_words, processor.image_token_id + 1)
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(vocab_size=n_ids, **language_options(shape)),
        image_token_index=processor.image_token_id,
        image_seq_length=(shape.image_size // shape.patch_size) ** 2,
        vision_feature_layer=-2,
    )
    with device:
        return LlavaForConditionalGeneration._from_config(
            config, dtype=getattr(torch, dtype_on(device))
        )


def answerer(
    shape: Shape, n_words: int, name: str, device: torch.device, n_tokens: int
) -> Callable[[int], Any]:
    """What answers n questions about one image."""
    if name == "locvlm":
        with device:
            model = make(shape, n_words, dtype_on(device))
        return lambda n: model.generate(asked(model, n), max_new_tokens=n_tokens)
    with torch.device("meta"):
        model = make(shape)
    other = llava(shape, n_words, model.processor, device).eval()
    end = {"eos_token_id": None, "pad_token_id": model.processor.pad_id, "do_sample": False}

    def ask(prompts: Sequence[Any]) -> None:
        inputs = as_llava(model, prompts)
        inputs["pixel_values"] = inputs["pixel_values"].to(other.dtype)
        moved = {key: tensor.to(device) for key, tensor in inputs.items()}
        with torch.no_grad():
            other.generate(**moved, max_new_tokens=n_tokens, **end)

    def answers(n: int) -> None:
        prompts = asked(model, n)
        for group in [prompts] if name.endswith("batch") else [[prompt] for prompt in prompts]:
            ask(group)

    return answers
