"""Observations on which quantized policies are compared with the plain one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_pruner_lab.common.golden import load_cases, load_image
from vla_pruner_ros.bringup.simulation import CAMERAS
from vla_pruner_ros.models.execution.config import ExecutionConfig
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.openvla.prompt import prompt_text
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.models.pruned_policy import PrunedPolicy
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.resources import SIMULATION_POLICY, policy_directory

TASKS = ("drawer-close", "window-close", "button-press-topdown")
ACTIONS = 40
"""Actions carried out of each recorded episode, EXECUTE of each chunk."""
EXECUTE = 4


@dataclass(frozen=True)
class QuantizationCase:
    """A checkpoint and its observations, one episode after the other.

    load: (dtype, execution) -> a policy.
    """

    name: str
    load: Callable[[str, ExecutionConfig], PrunedPolicy]
    episodes: list[list[Observation]]


def bundled(seed: int) -> QuantizationCase:
    """Return the bundled policy, on episodes that it controls itself, pruned."""
    from vla_pruner_lab.rollout.episode import run_episode
    from vla_pruner_ros.sim.robot import SimulatedRobot

    directory = policy_directory(SIMULATION_POLICY)
    policy = load_policy(directory, pruning=PruningConfig(keep_ratio=0.25))
    episodes = []
    for task in TASKS:
        robot = SimulatedRobot(task, cameras=CAMERAS)
        recorder = _recorder(policy)
        run_episode(robot, recorder, seed, ACTIONS)
        robot.close()
        episodes.append(recorder.seen)

    def load(dtype: str, execution: ExecutionConfig) -> PrunedPolicy:
        return load_policy(directory, dtype=dtype, execution=execution)

    return QuantizationCase(f"{SIMULATION_POLICY} (trained)", load, episodes)


def _recorder(policy: PrunedPolicy):
    """Return an agent that stores its policy's observations in `seen`."""
    from vla_pruner_lab.rollout.episode import PolicyAgent

    class Recorder(PolicyAgent):
        def observe(self, state) -> Observation:
            self.seen.append(super().observe(state))
            return self.seen[-1]

    agent = Recorder(policy, execute=EXECUTE)
    agent.seen = []
    return agent


def golden_openvla(directory: Path) -> QuantizationCase:
    """Return the recorded images, each an episode, and the recorded run of several frames."""
    folder = directory / "openvla"
    prompts, episodes = {}, []
    for name, official in load_cases(folder):
        prompts[prompt_text(name)] = official["input_ids"][0].tolist()
        episodes.append([Observation([load_image(folder / "images" / f"{name}.png")], name)])
    run = json.loads((directory / "pruner_e2e" / "runs.json").read_text(encoding="utf-8"))
    prompts[prompt_text("run")] = run["input_ids"]
    frames = sorted((directory / "pruner_e2e" / "frames").glob("frame*.png"))
    episodes.append([Observation([load_image(path)], "run") for path in frames])
    return QuantizationCase("OpenVLA, random", _loader(folder / "checkpoint", prompts), episodes)


def golden_oft(directory: Path) -> QuantizationCase:
    """Return the recorded images, each an episode."""
    folder = directory / "oft"
    prompts, episodes = {}, []
    for name, official in load_cases(folder):
        prompts[prompt_text(name)] = official["input_ids"][0].tolist()
        with np.load(folder / f"{name}_images.npz") as arrays:
            images = [arrays[f"{camera}_final"] for camera in ("primary", "wrist")]
        episodes.append([Observation(images, name, official["proprio_raw"])])
    options = {"num_cameras": 2, "image_path": "camera", "center_crop": False}
    return QuantizationCase(
        "OpenVLA-OFT, random", _loader(folder / "checkpoint", prompts, **options), episodes
    )


def _loader(checkpoint: Path, prompts: dict[str, list[int]], **options: object) -> Callable:
    def load(dtype: str, execution: ExecutionConfig) -> PrunedPolicy:
        return load_policy(
            checkpoint, dtype=dtype, execution=execution, tokenizer=prompts.__getitem__, **options
        )

    return load
