"""One recorded case of a flow-matching policy, and our run of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vla_pruner_lab.common.golden import load_image
from vla_pruner_lab.conformance.flow_recorder import FlowRecord, record
from vla_pruner_lab.conformance.probing import LayerAttention, read_attention
from vla_pruner_ros.models.flow_policy import FlowPolicy
from vla_pruner_ros.models.lerobot.features import Features
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.token_selection import Selection

TOKENIZERS = ("tokenizer", "vlm")


@contextmanager
def assembled(folder: Path, number: int) -> Iterator[Path]:
    """The checkpoint with the files of the case's robot laid over it."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for source in (folder / "checkpoint", folder / f"overlay_case{number}"):
            for path in sorted(source.iterdir()) if source.is_dir() else ():
                target = directory / path.name
                target.unlink(missing_ok=True)
                target.symlink_to(path.resolve())
        yield directory


@dataclass
class FlowCase:
    """One case: the recorded arrays, and our run of it."""

    policy: FlowPolicy
    case: dict
    official: dict[str, np.ndarray]
    observation: Observation
    seen: FlowRecord
    actions: np.ndarray
    attention: LayerAttention
    by_step: Tensor
    pruned: Tensor

    @classmethod
    def run(cls, folder: Path, checkpoint: Path, case: dict, official: dict) -> FlowCase:
        """Run the policy of a checkpoint on a recorded case and keep what it computed."""
        config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
        tokenizer = next(folder / name for name in TOKENIZERS if (folder / name).is_dir())
        policy = load_policy(
            checkpoint,
            device="cpu",
            dtype="float32",
            pruning=PruningConfig(keep_ratio=1.0),
            tokenizer=tokenizer,
        )
        policy.decoder.noise = torch.from_numpy(official["noise"])
        cameras = Features.read(config).cameras
        paths = [case["images"].get(name) for name in cameras]
        images = [None if path is None else load_image(folder / path) for path in paths]
        whole = Observation(images, case["task"], official["state"])
        observation = policy.with_present_cameras(whole)
        everywhere = tuple(range(policy.spec.num_layers))
        plan = replace(policy.unpruned_plan(), action_layers=everywhere)
        seen, actions = record(policy, observation, plan)
        attention = read_attention(policy, observation)
        return cls(
            policy,
            case,
            official,
            observation,
            seen,
            actions,
            attention,
            _by_step(policy, seen),
            _pruned(policy, observation, official),
        )

    @property
    def order(self) -> Tensor:
        """Rows of our prefix in the official order, that of their positions: int64 [rows]."""
        return self.seen.positions.argsort()

    @property
    def prompt(self):
        """Prompt that the decoder was given."""
        return self.seen.calls["prompt"][0]

    @property
    def real(self) -> np.ndarray:
        """Official places of the prefix that take part, ordered by position: int64 [rows]."""
        return np.flatnonzero(self.official["prefix_pad_mask"])

    def visual(self, name: str) -> np.ndarray:
        """Return an official array [..., M] without the last tokens, those of absent cameras."""
        return self.official[name][..., : self.policy.num_visual]

    def absent_are_zero(self, name: str) -> float:
        """Largest official value on tokens of absent cameras."""
        return float(np.abs(self.official[name][..., self.policy.num_visual :]).max(initial=0.0))


def _by_step(policy: FlowPolicy, seen: FlowRecord) -> Tensor:
    """Attention of the action rows by flow step: [steps, layers, M]."""
    layers, rows = policy.spec.num_layers, policy.chunk_size
    maps = [weights().mean(dim=0)[:, : policy.num_visual] for weights in seen.expert]
    of_actions = [one.mean(dim=0) for one in maps if one.shape[0] == rows]
    return torch.stack(of_actions).unflatten(0, (-1, layers))


def _pruned(policy: FlowPolicy, observation: Observation, official: dict) -> Tensor:
    kept = official["pruned_kept"]
    kept = torch.from_numpy(kept[kept < policy.num_visual])
    layer = int(official["pruned_layer"])
    plan = replace(policy.unpruned_plan(), full=False, keep=len(kept), prune_layer=layer)
    return policy.run(observation, plan, lambda signals: Selection(kept))[0].raw
