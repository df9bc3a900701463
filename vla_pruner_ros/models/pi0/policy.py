"""pi0 (arXiv 2410.24164) as a policy: the state is a token of the action expert."""

from __future__ import annotations

import numpy as np

from vla_pruner_ros.models.lerobot.prompts import with_newline
from vla_pruner_ros.models.paligemma.policy import PaliGemmaPolicy


class Pi0Policy(PaliGemmaPolicy):
    """See FlowPolicy."""

    def _prompt_ids(self, instruction: str, state: np.ndarray) -> list[int]:
        return self.tokenize(with_newline(instruction))
