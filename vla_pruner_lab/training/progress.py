"""State that a training run carries from step to step: moving average, learning rate, saved
state.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

FINAL_SHARE = 0.05
"""Learning rate at the end of the cosine, relative to its peak."""


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Return a rate: linear from 0 to peak over warmup steps, then half a cosine down to
    FINAL_SHARE.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (FINAL_SHARE + (1.0 - FINAL_SHARE) * 0.5 * (1.0 + math.cos(math.pi * done)))


class MovingAverage:
    """Exponential moving average of the weights, fast at first to drop the random start."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: p.detach().clone() for name, p in network.named_parameters()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the average towards the network's weights. step: number of this update, from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = dict(network.named_parameters())
        average, new = list(self.weights.values()), [current[name] for name in self.weights]
        torch._foreach_lerp_(average, new, 1.0 - decay)


def make_optimizer(network: nn.Module, peak: float, weight_decay: float) -> torch.optim.AdamW:
    """Make an optimizer with weight decay on the matrices, not on embeddings, norms and biases."""
    matrices, others = [], []
    for name, parameter in network.named_parameters():
        is_matrix = parameter.ndim >= 2 and not any(part in name for part in ("embed", "token"))
        (matrices if is_matrix else others).append(parameter)
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95), fused=True)


class SavedState:
    """The newest state of a run in <out>/state, complete or not at all.

    weights.safetensors, average.safetensors, optimizer.pt (tensors and numbers alone, read with
    weights_only) and progress.json.
    """

    def __init__(self, out: Path) -> None:
        self.path = out / "state"
        self._old, self._part = out / "state.old", out / "state.part"

    def exists(self) -> bool:
        """Return whether there is a state to resume from."""
        self._recover()
        return self.path.is_dir()

    def save(self, network, average: MovingAverage, optimizer, step: int) -> None:
        """Write weights, average, optimizer and step."""
        shutil.rmtree(self._part, ignore_errors=True)
        self._part.mkdir(parents=True)
        weights = {name: p.detach() for name, p in network.named_parameters()}
        save_file(_ready(weights), self._part / "weights.safetensors")
        save_file(_ready(average.weights), self._part / "average.safetensors")
        torch.save(optimizer.state_dict(), self._part / "optimizer.pt")
        (self._part / "progress.json").write_text(json.dumps({"step": step}) + "\n")
        self._swap_in()

    def load(self, network, average: MovingAverage, optimizer, device: torch.device) -> int:
        """Fill all three; return the step to continue with."""
        self._recover()
        weights = load_file(self.path / "weights.safetensors", device=str(device))
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.copy_(weights[name])
        average.weights = load_file(self.path / "average.safetensors", device=str(device))
        # On the CPU: AdamW's step counts belong there, and it moves the moments by itself.
        state = torch.load(self.path / "optimizer.pt", map_location="cpu", weights_only=True)
        optimizer.load_state_dict(state)
        return int(json.loads((self.path / "progress.json").read_text())["step"])

    def _swap_in(self) -> None:
        """Replace the old state; a directory cannot replace another at once, so the old one moves
        first.
        """
        if self.path.exists():
            shutil.rmtree(self._old, ignore_errors=True)
            os.replace(self.path, self._old)
        os.replace(self._part, self.path)
        shutil.rmtree(self._old, ignore_errors=True)

    def _recover(self) -> None:
        """Recover from an interruption between the two moves of _swap_in."""
        if not self.path.exists() and self._old.exists():
            os.replace(self._old, self.path)


def _ready(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


class Metrics:
    """metrics.jsonl: one line every few steps. Lines after the step resumed from are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if _step_of(line) <= step]
        path.write_text("".join(line + "\n" for line in kept))

    def add(self, **values: float) -> None:
        """Append a line of values by name."""
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")


def _step_of(line: str) -> float:
    """Return a line's step; a line cut short by a crash counts as one too late."""
    try:
        return json.loads(line)["step"]
    except ValueError:
        return math.inf
