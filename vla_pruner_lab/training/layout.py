"""Trained networks as checkpoint directories in the official layout, and what goes in next to them.

Size of the standard shape, in numbers of two bytes: embeddings and lm_head 2 x 32064 x 96 =
6.16 M; 5 decoder layers of 4 x 96^2 + 3 x 96 x 192 = 0.46 M; two towers of 3 stored blocks of
12 x 64^2 and of patches and positions, together 0.40 M; projector 0.12 M. That is 7.2 M numbers,
14.3 MB; OpenVLA-OFT's head and projector add 0.2 MB. The vocabulary takes most of it and cannot be
smaller: action tokens and 29871 are LLaMA's ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from vla_pruner_lab.demonstrations.dataset import Demonstrations
from vla_pruner_lab.training.vocabulary import spread_rows, used_ids
from vla_pruner_ros.models import untrained
from vla_pruner_ros.models.actions import BINS
from vla_pruner_ros.models.checkpoints import NOTE, read_json
from vla_pruner_ros.sim.tasks import INSTRUCTIONS

JOINTS = 9
"""Seven of the arm, two fingers: the state that OpenVLA-OFT receives, as joint_states has it."""
STANDARD_SIZE = untrained.TinySize(
    hidden=96,
    layers=5,
    heads=3,
    mlp=192,
    vision_width=64,
    vision_depth=3,
    vision_heads=2,
    state=JOINTS,
)
SMALLEST_RANGE = 0.02
"""Least range of a joint (m, rad): otherwise the noise of a resting joint would fill -1..1."""
WEIGHTS_FILE = "model.safetensors"
HEAD_FILE = "action_head--0_checkpoint.pt"
EMBEDDINGS = "language_model.model.embed_tokens.weight"
OUTPUTS = "language_model.lm_head.weight"
PROPRIO_FILE = "proprio_projector--0_checkpoint.pt"


def write_start(
    directory: Path, family: str, size: untrained.TinySize, statistics: dict, seed: int
) -> None:
    """Write a complete checkpoint with random weights, this tokenizer and these statistics."""
    untrained.write_untrained_checkpoint(directory, family, seed, size)
    phrases = [phrase for task in INSTRUCTIONS.values() for phrase in task]
    untrained.write_tokenizer(directory, phrases)
    by_name = {untrained.UNNORM_KEY: statistics}
    _write_json(directory / "dataset_statistics.json", by_name)
    config = read_json(directory / "config.json")
    _write_json(directory / "config.json", {**config, "norm_stats": by_name})


def measure_statistics(data: Demonstrations) -> dict:
    """Measure q01 and q99 of actions and states, as dataset_statistics.json has them.

    The gripper passes through, as in OpenVLA's data sets: it is 0 or 1 already.
    """
    actions, states = _percentiles(data.actions), _percentiles(data.joints)
    middle = (states["q01"] + states["q99"]) / 2
    half = np.maximum(states["q99"] - states["q01"], SMALLEST_RANGE) / 2
    return {
        "action": {**_as_lists(actions), "mask": [True] * 6 + [False]},
        "proprio": _as_lists({"q01": middle - half, "q99": middle + half}),
        "num_transitions": len(data),
    }


def _percentiles(values: np.ndarray) -> dict[str, np.ndarray]:
    low, high = np.quantile(values.astype(np.float64), [0.01, 0.99], axis=0)
    return {"q01": low, "q99": high}


def _as_lists(arrays: dict[str, np.ndarray]) -> dict[str, list[float]]:
    return {name: array.tolist() for name, array in arrays.items()}


SIMULATED_ROBOT = "metaworld"
"""Robot profile of what is trained here."""


def export(start: Path, directory: Path, weights: dict[str, Tensor], note: dict) -> None:
    """Write weights as a checkpoint: the start's files with its tensors replaced, marked trained.

    weights: a TrainingNetwork's parameters by name, any shape. note: goes into config.json.
    The towers' last block, which nothing runs, keeps the start's numbers; rows of the vocabulary
    that training does not use become zero.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for path in start.iterdir():
        if path.suffix == ".json":
            (directory / path.name).write_bytes(path.read_bytes())
    config = read_json(start / "config.json")
    config[NOTE] = {"trained": True, "robot": SIMULATED_ROBOT, **note}
    _write_json(directory / "config.json", config)
    tensors = {**_tensors(start / WEIGHTS_FILE), **_part(weights, "model.")}
    tokens = untrained.VOCABULARY
    rows_of = {EMBEDDINGS: used_ids(start, tokens), OUTPUTS: range(tokens - BINS, tokens)}
    for name, ids in rows_of.items():
        tensors[name] = spread_rows(tensors[name], list(ids), untrained.VOCABULARY_PADDED)
    save_file(tensors, directory / WEIGHTS_FILE, metadata={"format": "pt"})
    for part, prefix, name in (
        ("head.", "module.model.", HEAD_FILE),
        ("projector.", "module.", PROPRIO_FILE),
    ):
        tensors = {prefix + key: tensor for key, tensor in _part(weights, part).items()}
        if tensors:
            torch.save(tensors, directory / name)


def directory_bytes(directory: Path) -> int:
    """Return the bytes of all files below a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the parameters below a prefix, without it, in bfloat16 on the CPU."""
    return {
        name.removeprefix(prefix): tensor.detach().to("cpu", torch.bfloat16).contiguous()
        for name, tensor in weights.items()
        if name.startswith(prefix)
    }


def _tensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in _names(file)}


def _names(file) -> Iterable[str]:
    return file.keys()


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
