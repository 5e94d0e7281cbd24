"""Qwen2.5-Instruct in a tiny size, of transformers' own classes, saved as it lies on the hub."""

import json

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from tests.tiny import LLAMA, SENTENCES

# Its chat template but for tools, with marks around what its answers are.
TEMPLATE = """\
{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.\
<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- '<|im_start|>' + message.role + '\\n' }}
        {%- generation %}{{- message.content + '<|im_end|>' }}{%- endgeneration %}
        {{- '\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def qwen_tokenizer():
    """Byte-level, digits alone, no token begins a text; answers end as the model's do."""
    tokenizer = Qwen2Tokenizer().train_new_from_iterator(SENTENCES * 4, 420, show_progress=False)
    learned = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>", "<|box_start|>"],
        chat_template=TEMPLATE,
    )


def save_qwen(folder):
    """The language model and its tokenizer; its table has rows that stand for nothing."""
    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    config = Qwen2Config(**LLAMA, vocab_size=len(tokenizer) + 9, tie_word_embeddings=True)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
