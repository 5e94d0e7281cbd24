"""Dialects: locations as text in the conventions of other projects, and in our own."""

from locvlm.dialects.convention import Convention, Dialect
from locvlm.dialects.known import (
    cogvlm,
    deepseek_vl2,
    ferret,
    fractions,
    internvl,
    kosmos2,
    llava,
    molmo,
    paligemma,
    qwen2_5_vl,
    qwen2_vl,
    qwen3_vl,
    qwen_vl,
    shikra,
)
from locvlm.dialects.own import SchemeText, diga, ivb, nfp
from locvlm.dialects.parts import Phrase
from locvlm.dialects.swift import Swift

__all__ = [
    "Convention",
    "Dialect",
    "Phrase",
    "SchemeText",
    "Swift",
    "cogvlm",
    "deepseek_vl2",
    "diga",
    "ferret",
    "fractions",
    "internvl",
    "ivb",
    "kosmos2",
    "llava",
    "molmo",
    "nfp",
    "paligemma",
    "qwen2_5_vl",
    "qwen2_vl",
    "qwen3_vl",
    "qwen_vl",
    "shikra",
]
