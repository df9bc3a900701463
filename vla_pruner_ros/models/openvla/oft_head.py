"""The parts that OpenVLA-OFT adds to OpenVLA: proprio projector and L1 action head."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_pruner_ros.models.checkpoints import fill_component, load_component
from vla_pruner_ros.models.openvla.oft_options import HEAD_FILES, PROPRIO_FILES, REFUSED_FILES
from vla_pruner_ros.models.policy import CheckpointError

DIFFUSION_KEYS = ("noise_predictor.", "noise_scheduler.", "time_encoder.")


class ProprioProjector(nn.Module):
    """Normalised robot state -> one token of the decoder."""

    def __init__(self, state_dim: int, hidden_size: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(state_dim, hidden_size)
        self.fc2 = nn.Linear(hidden_size, hidden_size)

    def forward(self, state: Tensor) -> Tensor:
        """[..., state_dim] -> [..., d]."""
        return self.fc2(F.gelu(self.fc1(state)))


class L1ActionHead(nn.Module):
    """The hidden states of one step's action rows -> its normalised action, for each step."""

    def __init__(self, action_dim: int, hidden_size: int, blocks: int) -> None:
        super().__init__()
        self.action_dim = action_dim
        self.layer_norm1 = nn.LayerNorm(action_dim * hidden_size)
        self.fc1 = nn.Linear(action_dim * hidden_size, hidden_size)
        self.mlp_resnet_blocks = nn.ModuleList(ResidualBlock(hidden_size) for _ in range(blocks))
        self.layer_norm2 = nn.LayerNorm(hidden_size)
        self.fc2 = nn.Linear(hidden_size, action_dim)

    def forward(self, hidden: Tensor) -> Tensor:
        """[steps * action_dim, d] -> [steps, action_dim], not squashed."""
        steps = hidden.reshape(-1, self.action_dim * hidden.shape[-1])
        features = F.relu(self.fc1(self.layer_norm1(steps)))
        for block in self.mlp_resnet_blocks:
            features = block(features)
        return self.fc2(self.layer_norm2(features))


class ResidualBlock(nn.Module):
    """A residual block: layer norm, linear, ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))

    def forward(self, features: Tensor) -> Tensor:
        """Return [..., width] for [..., width]."""
        return features + F.relu(self.ffn(features))


def refuse_unsupported(directory: Path) -> None:
    """Raises CheckpointError for variants whose files are there but which are not built here."""
    for pattern, variant in REFUSED_FILES.items():
        for path in directory.glob(pattern):
            raise CheckpointError(
                f"{path.name} belongs to {variant}, which is not supported; "
                "use a checkpoint with the L1 head"
            )


def load_head(
    directory: Path, hidden_size: int, device: torch.device, dtype: torch.dtype
) -> L1ActionHead | None:
    """Load the directory's action head.

    Returns:
        None if there is none: then the action tokens are read as OpenVLA's.

    Raises:
        CheckpointError: a diffusion head, or one that does not fit.
    """
    path = find_component(directory, HEAD_FILES)
    if path is None:
        return None
    tensors = load_component(path, prefixes=("module.", "model."))
    if any(name.startswith(DIFFUSION_KEYS) for name in tensors):
        raise CheckpointError(f"{path.name} is a diffusion head, which is not supported; use L1")
    action_dim = len(_tensor(tensors, "fc2.bias", path))
    numbers = {n.split(".")[1] for n in tensors if n.startswith("mlp_resnet_blocks.")}
    with torch.device("meta"):
        head = L1ActionHead(action_dim, hidden_size, len(numbers))
    return fill_component(head, path, tensors, device, dtype)


def load_proprio_projector(
    directory: Path, hidden_size: int, device: torch.device, dtype: torch.dtype
) -> ProprioProjector | None:
    """The directory's proprio projector, or None: then the model takes no state."""
    path = find_component(directory, PROPRIO_FILES)
    if path is None:
        return None
    tensors = load_component(path)
    weight = _tensor(tensors, "fc1.weight", path)
    with torch.device("meta"):
        projector = ProprioProjector(weight.shape[-1], hidden_size)
    return fill_component(projector, path, tensors, device, dtype)


def find_component(directory: Path, pattern: str) -> Path | None:
    """The only file of this pattern. Raises CheckpointError where several compete."""
    paths = sorted(directory.glob(pattern))
    if len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        raise CheckpointError(f"{directory} has {names}; keep the one to use")
    return paths[0] if paths else None


def _tensor(tensors: dict[str, Tensor], name: str, path: Path) -> Tensor:
    if name not in tensors:
        raise CheckpointError(f"{path.name} lacks {name}")
    return tensors[name]
