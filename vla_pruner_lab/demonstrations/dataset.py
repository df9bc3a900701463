"""Demonstrations of the scripted experts on disk: one episode's frames, actions and states.

A collection is a folder of shards, <task>/<number>.npz, each a plain numpy archive (no pickle) of a
few episodes laid one after the other over T frames:
    jpeg [bytes] uint8, jpeg_ends [T, cameras] int64: every image ends where the next begins
    actions [T, 7] float32: what the expert would do (m, rad, gripper), not the noisy action done
    states [T, 8] float32: position 3, axis-angle 3, fingers 2; joints [T, 9] float32: arm, fingers
    episode_ends [E] int32, seeds [E] int64, instructions [E] str, cameras [cameras] str
    attempts [] int32: episodes tried for the E successful ones
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

JPEG_QUALITY = 85


class StateRecord(NamedTuple):
    """The robot's state at one instant, without images. state: float32 [8]; joints: [9]."""

    instruction: str
    state: np.ndarray
    joints: np.ndarray
    task: str


@dataclass(frozen=True)
class DemonstrationFrame:
    """Input of a policy at one instant of a demonstration.

    images: uint8 [H, W, 3] per camera. state: float32 [8]. joints: float32 [9].
    """

    images: list[np.ndarray]
    instruction: str
    state: np.ndarray
    joints: np.ndarray
    task: str


def encode_jpeg(image: np.ndarray) -> bytes:
    """Encode an image, uint8 [H, W, 3] RGB, as JPEG."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()


def decode_jpeg(data: bytes) -> np.ndarray:
    """Decode a JPEG into uint8 [H, W, 3] RGB."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


class ShardWriter:
    """Writer of one shard, which appears complete or not at all."""

    def __init__(self, cameras: tuple[str, ...]):
        self._cameras = cameras
        self._images: list[bytes] = []
        self._rows: dict[str, list[np.ndarray]] = {"actions": [], "states": [], "joints": []}
        self._episodes: dict[str, list] = {"episode_ends": [], "seeds": [], "instructions": []}

    def __len__(self) -> int:
        """Return the number of episodes gathered so far."""
        return len(self._episodes["seeds"])

    @property
    def frames(self) -> int:
        """Number of frames so far."""
        return len(self._rows["actions"])

    def add_frame(
        self, jpegs: list[bytes], action: np.ndarray, state: np.ndarray, joints: np.ndarray
    ) -> None:
        """Add a frame: one JPEG a camera, action [7], state [n] and joints [m], as float."""
        self._images += jpegs
        for name, row in (("actions", action), ("states", state), ("joints", joints)):
            self._rows[name].append(np.array(row, np.float32))  # a copy: rows must not change

    def end_episode(self, seed: int, instruction: str) -> None:
        """Close an episode: it is made of the frames added since the last one."""
        self._episodes["episode_ends"].append(self.frames)
        self._episodes["seeds"].append(seed)
        self._episodes["instructions"].append(instruction)

    def drop_episode(self) -> None:
        """Drop the frames added since the last episode's end."""
        keep = self._episodes["episode_ends"][-1] if len(self) else 0
        del self._images[keep * len(self._cameras) :]
        for rows in self._rows.values():
            del rows[keep:]

    def save(self, path: Path, attempts: int) -> None:
        """Write the shard, complete or not at all. attempts: episodes that were begun."""
        ends = np.cumsum([len(image) for image in self._images], dtype=np.int64)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(
                file,
                jpeg=np.frombuffer(b"".join(self._images), np.uint8),
                jpeg_ends=ends.reshape(-1, len(self._cameras)),
                **{name: np.stack(rows) for name, rows in self._rows.items()},
                episode_ends=np.array(self._episodes["episode_ends"], np.int32),
                seeds=np.array(self._episodes["seeds"], np.int64),
                instructions=np.array(self._episodes["instructions"]),
                cameras=np.array(self._cameras),
                attempts=np.int32(attempts),
            )
        os.replace(part, path)


class Demonstrations:
    """All frames of a folder, its subfolders included, with the interface of a list of frames.

    Images stay compressed in memory.

    Args:
        tasks: tasks to read; all by default.
        cameras: cameras to read, in this order; all by default.

    Raises:
        FileNotFoundError: there are no shards.
        ValueError: a camera was not recorded.
    """

    def __init__(
        self,
        folder: str | Path,
        tasks: tuple[str, ...] | None = None,
        cameras: tuple[str, ...] | None = None,
    ):
        paths = sorted(Path(folder).rglob("*.npz"))
        paths = [path for path in paths if tasks is None or path.parent.name in tasks]
        if not paths:
            raise FileNotFoundError(
                f"no demonstrations of {tasks or 'any task'} in {folder}; collect some with "
                "python -m vla_pruner_lab.demonstrations.collect"
            )
        self._shards = [_load_shard(path, cameras) for path in paths]
        self._shard_ends = np.cumsum([len(shard["actions"]) for shard in self._shards])

    def __len__(self) -> int:
        return int(self._shard_ends[-1])

    def __getitem__(self, index: int) -> DemonstrationFrame:
        return DemonstrationFrame(self.images(index), *self.state_record(index))

    def images(self, index: int) -> list[np.ndarray]:
        """Decode frame `index` into uint8 [H, W, 3] per camera."""
        shard, row = self._locate(index)
        ends, jpeg = shard["jpeg_ends"].reshape(-1), shard["jpeg"]
        total = shard["jpeg_ends"].shape[1]
        images = []
        for column in shard["columns"]:
            k = row * total + column
            start = ends[k - 1] if k else 0
            images.append(decode_jpeg(jpeg[start : ends[k]].tobytes()))
        return images

    def state_record(self, index: int) -> StateRecord:
        """Return the rest of frame `index` without decoding an image."""
        shard, row = self._locate(index)
        instruction = str(shard["instructions"][_episode_of(shard, row)])
        return StateRecord(instruction, shard["states"][row], shard["joints"][row], shard["task"])

    def action_chunk(self, index: int, steps: int) -> np.ndarray:
        """Return float32 [steps, 7] expert actions from frame `index` on.

        Past the episode's end the robot holds still: no motion, the gripper as it was.
        """
        shard, row = self._locate(index)
        end = shard["episode_ends"][_episode_of(shard, row)]
        chunk = shard["actions"][row : min(row + steps, end)]
        hold = np.zeros((steps - len(chunk), 7), np.float32)
        hold[:, 6] = chunk[-1, 6]
        return np.concatenate([chunk, hold])

    @property
    def actions(self) -> np.ndarray:
        """Return all actions, float32 [frames, 7], for statistics."""
        return np.concatenate([shard["actions"] for shard in self._shards])

    @property
    def states(self) -> np.ndarray:
        """Return all states, float32 [frames, 8], for statistics."""
        return np.concatenate([shard["states"] for shard in self._shards])

    @property
    def joints(self) -> np.ndarray:
        """Return all joint positions, float32 [frames, 9], for statistics."""
        return np.concatenate([shard["joints"] for shard in self._shards])

    @property
    def tasks(self) -> list[str]:
        """Return the task of every frame, for balanced sampling."""
        return [shard["task"] for shard in self._shards for _ in range(len(shard["actions"]))]

    def _locate(self, index: int) -> tuple[dict, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        number = int(np.searchsorted(self._shard_ends, index, side="right"))
        start = self._shard_ends[number - 1] if number else 0
        return self._shards[number], int(index - start)


def _load_shard(path: Path, cameras: tuple[str, ...] | None) -> dict:
    with np.load(path, allow_pickle=False) as archive:
        shard = dict(archive)
    recorded = [str(name) for name in shard["cameras"]]
    missing = set(cameras or ()) - set(recorded)
    if missing:
        raise ValueError(f"{path} has no camera {sorted(missing)}, only {recorded}")
    shard["columns"] = [recorded.index(name) for name in cameras or recorded]
    shard["task"] = path.parent.name
    return shard


def _episode_of(shard: dict, row: int) -> int:
    return int(np.searchsorted(shard["episode_ends"], row, side="right"))
