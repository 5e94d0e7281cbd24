"""CIDEr-D: how much a caption says of what most references say and few other captions do."""

from collections.abc import Sequence
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from locvlm.errors import ConfigError


def cider_d(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """(K,) the score of each candidate, 0 to 10; the corpus has their mean.

    How rare a phrase is, is counted among the references given here: scores of one candidate
    depend on all others, and a single image scores 0.

    Args:
        candidates: (K,) words between spaces, as `ptb_words` gives them.
        references: (K,) likewise, at least one for each candidate.

    Raises:
        ConfigError: the package pycocoevalcap is missing.

    Source: Vedantam et al., CIDEr, CVPR 2015; pycocoevalcap, cider/cider_scorer.py.
    """
    try:
        program = import_module("pycocoevalcap.cider.cider_scorer")
    except ImportError as error:
        raise ConfigError(
            "CIDEr-D needs the package pycocoevalcap", fix="pip install 'locvlm[eval]'"
        ) from error
    if not candidates:
        return np.zeros(0)
    scorer = program.CiderScorer(n=4, sigma=6.0)
    for candidate, of in zip(candidates, references, strict=True):
        scorer += (candidate, list(of))
    scorer.compute_doc_freq()
    return np.array(scorer.compute_cider(), dtype=np.float64)
