"""Text attention before the LLM (after VLA-ADP, arXiv 2509.22093)."""

from __future__ import annotations

import torch

from vla_pruner_ros.pruning.method import PruningMethod, Signals, even_parts
from vla_pruner_ros.pruning.token_selection import Selection, top_k


class TextAttention(PruningMethod):
    """Top-k of the text tokens' mean attention, evenly shared by the cameras, before layer 0.

    The attention is that of layer 0's own queries and keys on the embeddings. Tokens that go on
    keep their original positions: packed ones are known to ruin the policy (arXiv 2610.08133).

    The code of VLA-ADP differs: it takes the plain products of queries and keys, without rotation
    and softmax, and packs positions. It gives 0.4 of the budget to the scene camera and 0.6 to the
    gripper camera.
    """

    name = "text_attention"
    label = "text before LLM"
    colour = "#c2314b"
    needs = frozenset({"text"})
    prunes_before_first_layer = True

    def select(self, signals: Signals, keep: int) -> Selection:
        scores = signals.text.float().mean(dim=0).unflatten(0, (self.num_cameras, -1))
        best = [
            top_k(of_camera, count) + camera * scores.shape[1]
            for camera, (of_camera, count) in enumerate(
                zip(scores, even_parts(keep, self.num_cameras), strict=True)
            )
        ]
        semantic_set = torch.cat(best)
        return Selection(semantic_set.sort().values, semantic_set)
