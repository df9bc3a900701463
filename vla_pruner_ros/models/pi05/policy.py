"""pi0.5 as a policy: the state is part of the prompt, 256 bins a number."""

from __future__ import annotations

import numpy as np

from vla_pruner_ros.models.lerobot.prompts import with_state
from vla_pruner_ros.models.paligemma.policy import PaliGemmaPolicy


class Pi05Policy(PaliGemmaPolicy):
    """See FlowPolicy."""

    def _prompt_ids(self, instruction: str, state: np.ndarray) -> list[int]:
        return self.tokenize(with_state(instruction, state))
