"""The greedy max-min choice as one GPU kernel, used where Triton is installed."""

from __future__ import annotations

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl

    AVAILABLE = True
except ImportError:  # torch's CPU wheels come without it
    AVAILABLE = False


def greedy(distances: Tensor, first_scores: Tensor, k: int) -> Tensor:
    """int64 [k] as diversity.greedy_torch; distances contiguous float32 [n, n].

    One launch of one program: the k steps follow one another inside the kernel, so nothing but
    the result touches the host's launch queue.
    """
    order = torch.empty(k, dtype=torch.int64, device=distances.device)
    n = distances.shape[0]
    if k:
        _greedy_kernel[(1,)](
            distances.contiguous(),
            first_scores.contiguous(),
            order,
            n,
            k,
            BLOCK=triton.next_power_of_2(n),
            # One warp holds up to 512 distances in registers and reduces without barriers.
            num_warps=1 if n <= 512 else 4,
        )
    return order


if AVAILABLE:

    @triton.jit
    def _greedy_kernel(distances, first_scores, order, n, k, BLOCK: tl.constexpr):  # noqa: N803
        token = tl.arange(0, BLOCK)
        inside = token < n
        scores = tl.load(first_scores + token, mask=inside, other=float("-inf"))
        choice = tl.argmax(scores, axis=0, tie_break_left=True)
        tl.store(order, choice.to(tl.int64))
        # -inf bars a token for good, for the minimum below never lifts it again.
        nearest = tl.where(scores == float("-inf"), scores, float("inf"))
        for step in range(1, k):
            row = tl.load(distances + choice * n + token, mask=inside, other=0.0)
            nearest = tl.minimum(nearest, row)
            nearest = tl.where(token == choice, float("-inf"), nearest)
            choice = tl.argmax(nearest, axis=0, tie_break_left=True)
            tl.store(order + step, choice.to(tl.int64))
