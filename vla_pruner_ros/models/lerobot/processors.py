"""policy_preprocessor.json and policy_postprocessor.json, with the state files they name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from vla_pruner_ros.models.checkpoints import read_json
from vla_pruner_ros.models.policy import CheckpointError

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
BASE_CHECKPOINT = (
    "the checkpoint was saved without the statistics of a robot's data, as base checkpoints are: "
    "fine-tune it, or save the statistics with it"
)


@dataclass(frozen=True)
class Processor:
    """The steps of one processor file, in order; empty if there is no such file."""

    path: Path
    steps: tuple[dict, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Processor:
        """Raises CheckpointError for a file that holds no list of steps."""
        if not path.exists():
            return cls(path)
        steps = read_json(path).get("steps", [])
        if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
            raise CheckpointError(f"{path} must hold a list of steps")
        return cls(path, tuple(steps))

    @property
    def exists(self) -> bool:
        """Return whether the checkpoint has this processor's file."""
        return self.path.exists()

    def step(self, name: str) -> dict | None:
        """Return the step registered under a name, or None. Raises CheckpointError for several."""
        found = [step for step in self.steps if step.get("registry_name") == name]
        if len(found) > 1:
            raise CheckpointError(f"{self.path.name} has {len(found)} steps {name}; one is known")
        return found[0] if found else None

    def settings(self, name: str) -> dict:
        """Return the configuration of a step, empty if there is no such step."""
        return (self.step(name) or {}).get("config") or {}

    def state(self, name: str) -> dict[str, np.ndarray]:
        """Return the arrays (any shape) of a step's state file, by name.

        Raises:
            CheckpointError: no such step, no state file, or one that cannot be read.
        """
        step = self.step(name)
        if step is None or "state_file" not in step:
            raise CheckpointError(
                f"{self.path.name} has no {name} with a state_file: {BASE_CHECKPOINT}"
            )
        path = self.path.parent / Path(str(step["state_file"])).name
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from None
