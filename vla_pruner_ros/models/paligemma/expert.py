"""Parts that an action expert adds to its layers: tokens and norms depend on the flow's time."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class ActionExpert(ABC):
    """The action expert at a fixed number of flow steps; tables of all steps are made once.

    Attributes:
        steps: flow steps. layers: the decoder layers.
        leading: suffix tokens before the actions (pi0's state), 0 or 1.
    """

    leading = 0

    def __init__(self, layers: nn.ModuleList, steps: int) -> None:
        self.layers, self.steps = layers, steps

    def embed_state(self, state: Tensor) -> Tensor:
        """[1, 1, state_dim] -> [1, 1, width]; for an expert with a leading token."""
        raise NotImplementedError

    @abstractmethod
    def embed_actions(self, actions: Tensor, step: int) -> Tensor:
        """Noisy actions [1, chunk, action_dim] -> [1, chunk, width]."""

    @abstractmethod
    def norm_before_attention(
        self, layer: int, hidden: Tensor, step: int
    ) -> tuple[Tensor, Tensor | None]:
        """Norm the tokens before the attention of a layer.

        Args:
            layer: index of the layer.
            hidden: [1, rows, width].
            step: flow step.

        Returns:
            The normed tokens, and what the attention's output is multiplied by, or None.
        """

    @abstractmethod
    def norm_before_mlp(
        self, layer: int, hidden: Tensor, step: int
    ) -> tuple[Tensor, Tensor | None]:
        """Norm the tokens [1, rows, width] before the MLP.

        Returns the same as before the attention.
        """

    @abstractmethod
    def velocity(self, hidden: Tensor, step: int) -> Tensor:
        """Output of the last layer [1, chunk, width] -> velocity [1, chunk, action_dim]."""
