"""SparseVLM (arXiv 2410.04417), as arXiv 2511.16449 compares it: one layer, no recycling."""

from __future__ import annotations

from torch import Tensor

from vla_pruner_ros.pruning.method import PruningMethod, Signals, semantic_selection
from vla_pruner_ros.pruning.token_selection import Selection


class SparseVlm(PruningMethod):
    """Top-k of the attention of those text tokens that speak of the image.

    Raters are the text tokens whose softmaxed similarity to the visual tokens (softmax over the
    text, mean over the image) is at least the average of all text tokens.
    """

    name = "sparsevlm"
    label = "SparseVLM"
    colour = "#b5309f"
    needs = frozenset({"text", "text_features", "features"})

    def select(self, signals: Signals, keep: int) -> Selection:
        raters = find_raters(signals.features, signals.text_features)
        scores = (raters.float() @ signals.text.float()) / raters.sum()
        return semantic_selection(scores, keep)


def find_raters(features: Tensor, text_features: Tensor) -> Tensor:
    """Return SparseVLM's raters: bool [N_text] from features [M, d] and text [N_text, d]."""
    similarity = features.float() @ text_features.float().T
    relevance = similarity.softmax(dim=1).mean(dim=0)
    raters = relevance >= relevance.mean()
    # Rounding may put the mean of equal values above all of them: then every token rates.
    return raters | ~raters.any()
