"""Coordinate schemes: locations as text and back (NFP, IVB, DIGA)."""

from locvlm.coordinates.diga import DIGA
from locvlm.coordinates.ivb import IVB
from locvlm.coordinates.nfp import NFP
from locvlm.coordinates.parse import Found, Parsed, Reason, Rejected, parse
from locvlm.coordinates.scheme import Coordinates, Problem
from locvlm.coordinates.text import write_location

__all__ = [
    "DIGA",
    "IVB",
    "NFP",
    "Coordinates",
    "Found",
    "Parsed",
    "Problem",
    "Reason",
    "Rejected",
    "parse",
    "write_location",
]
