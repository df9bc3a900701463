"""The action relevance a policy carries from one control step to the next."""

from __future__ import annotations

import torch
from torch import Tensor


class TemporalRelevance:
    """Decaying window over the action attention of past steps (arXiv 2511.16449, section 3).

        S_hat(t) = sum_{i=1..w} gamma^i S(t-i) / sum_{i=1..w} gamma^i

    so the newest step weighs most. While fewer than w steps are held, both sums run over the steps
    that are there. M covers all cameras, concatenated in the policy's order.

    The window lives in buffers with fixed addresses, allocated by the first update(), on the
    device of its scores; update() and estimate() never wait for the device and can be captured in
    a CUDA graph. Scores are held in float32 whatever their dtype. A step with a value that is not
    finite is left out, on the device: it neither enters the window nor pushes an older step out.

    window: w, steps held. decay: gamma in (0, 1].
    order: newest_first as above; oldest_first gives the oldest step the largest weight, as the
        released research code does (gamma^(w-1) for the newest, 1 for the oldest).
    """

    def __init__(self, window: int = 3, decay: float = 0.8, order: str = "newest_first") -> None:
        if window < 1:
            raise ValueError(f"window must be at least 1 step, got {window}")
        self.window = window
        self._decay, self._order = decay, order
        self._rows: Tensor | None = None  # [w, M] newest first
        self._held: Tensor | None = None  # [w] 1.0 where a row holds a step
        self._weights: Tensor | None = None  # [w]
        self.updates = 0  # since reset()

    def __len__(self) -> int:
        """Steps held, as the host knows: update() calls since reset(), at most w."""
        return min(self.updates, self.window)

    def update(self, scores: Tensor) -> None:
        """Take in the action relevance of the step that has just run.

        scores: [M], any float dtype; the first call fixes M and the device.

        Raises:
            ValueError: scores of another shape or on another device than the window.
        """
        self.push(scores)
        self.commit_step()

    def push(self, scores: Tensor) -> None:
        """Do the device half of update(), which a captured graph holds; scores: [M]."""
        self._check(scores)
        if self._rows is None:
            self._allocate(scores.shape[0], scores.device)
        scores = scores.detach().float()
        is_finite = torch.isfinite(scores).all()
        rows = torch.cat([scores[None], self._rows[:-1]])
        held = torch.cat([torch.ones_like(self._held[:1]), self._held[:-1]])
        self._rows.copy_(torch.where(is_finite, rows, self._rows))
        self._held.copy_(torch.where(is_finite, held, self._held))

    def commit_step(self) -> None:
        """The host half of update(): to be called once per replay of a graph that holds push()."""
        self.updates += 1

    def estimate(self) -> Tensor | None:
        """Expected action relevance of the coming step: float32 [M], or None before any update."""
        if self.updates == 0 or self._rows is None:
            return None
        return self.smooth()

    def smooth(self) -> Tensor:
        """The device half of estimate(): float32 [M], zeros while no step is held."""
        weights = self._weights * self._held
        return (weights @ self._rows) / weights.sum().clamp_min(torch.finfo(torch.float32).tiny)

    def reset(self) -> None:
        """Clear every step; the buffers stay where they are."""
        self.updates = 0
        if self._rows is not None:
            self._rows.zero_()
            self._held.zero_()

    def set_decay(self, decay: float, order: str) -> None:
        """Weigh the held steps anew; a captured graph sees the new weights."""
        self._decay, self._order = decay, order
        if self._weights is not None:
            self._weights.copy_(self._make_weights())

    def resized(self, window: int) -> TemporalRelevance:
        """A window of another length that holds this one's newest steps, in new buffers."""
        other = TemporalRelevance(window, self._decay, self._order)
        if self._rows is not None:
            other._allocate(self._rows.shape[1], self._rows.device)
            shared = min(window, self.window)
            other._rows[:shared] = self._rows[:shared]
            other._held[:shared] = self._held[:shared]
            other.updates = len(self)
        return other

    def buffers(self) -> list[Tensor]:
        """Return the tensors (any shape) that hold the state, to save and restore it."""
        return [] if self._rows is None else [self._rows, self._held]

    def _allocate(self, num_visual: int, device: torch.device) -> None:
        self._rows = torch.zeros(self.window, num_visual, device=device)
        self._held = torch.zeros(self.window, device=device)
        self._weights = self._make_weights().to(device)

    def _make_weights(self) -> Tensor:
        age = torch.arange(self.window, dtype=torch.float64)
        power = age + 1 if self._order == "newest_first" else self.window - 1 - age
        return (self._decay**power).float()

    def _check(self, scores: Tensor) -> None:
        if scores.ndim != 1:
            raise ValueError(f"scores must be [M], got shape {tuple(scores.shape)}")
        if self._rows is None:
            return
        if scores.shape[0] != self._rows.shape[1]:
            raise ValueError(
                f"scores cover {scores.shape[0]} visual tokens, the history "
                f"{self._rows.shape[1]}: call reset() and use a new TemporalRelevance"
            )
        if scores.device != self._rows.device:
            raise ValueError(f"scores are on {scores.device}, the history on {self._rows.device}")
