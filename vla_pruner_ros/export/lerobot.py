"""A data set in LeRobot's format v3.0, by its public schema, from what the robot did.

Files: meta/info.json, meta/stats.json, meta/tasks.parquet,
meta/episodes/chunk-000/file-000.parquet, data/chunk-000/file-000.parquet,
videos/<camera>/chunk-000/file-000.mp4.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from vla_pruner_ros.export.executed import ExecutedFrame, MotionForm
from vla_pruner_ros.export.statistics import ImageStatistics, VectorStatistics
from vla_pruner_ros.export.video import PIXELS, VideoWriter

VERSION = "v3.0"
PART = "chunk-{chunk_index:03d}/file-{file_index:03d}"
FIRST = PART.format(chunk_index=0, file_index=0)
INDICES = ("frame_index", "episode_index", "index", "task_index")
DATA_FILE_MB, VIDEO_FILE_MB, FILES_A_CHUNK = 100, 500, 1000


class LeRobotWriter:
    """A data set that frames are added to; use as a context manager.

    Frames of an episode lie at frame_index / frames_per_second, as LeRobot expects.
    """

    def __init__(self, folder: Path, form: MotionForm, robot: str = "") -> None:
        """Begin a data set.

        Args:
            folder: of the data set. form: of its frames. robot: profile, "" if not known.

        Raises:
            ImportError: pyarrow or PyAV is not installed; the sentence gives the remedy.
        """
        self._arrow, self._parquet = _pyarrow()
        self._folder, self._form, self._robot = folder, form, robot
        self._videos: dict[str, VideoWriter] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self._open = ExitStack()
        self._columns: dict[str, list] = {
            name: [] for name in ("observation.state", "action", "timestamp", *INDICES)
        }
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._vectors: dict[str, VectorStatistics] = {}
        self._images: dict[str, ImageStatistics] = {}

    def __enter__(self) -> LeRobotWriter:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        self._open.close()
        if kind is None and self._episodes:
            self._write_tables()

    @property
    def episodes(self) -> int:
        """Number of episodes written."""
        return len(self._episodes)

    @property
    def frames(self) -> int:
        """Number of frames written."""
        return len(self._columns["index"])

    def add(self, frame: ExecutedFrame) -> None:
        """Add one frame; an episode begins where the frame says so.

        Raises:
            ValueError: another number of cameras, or images of another size, than before.
        """
        if frame.begins or not self._episodes:
            self._begin_episode(frame.instruction)
        episode = self._episodes[-1]
        number = episode["length"]
        values = {
            "observation.state": frame.state,
            "action": frame.action,
            "timestamp": np.float32(number / self._form.frames_per_second),
            "frame_index": number,
            "episode_index": episode["episode_index"],
            "index": self.frames,
            "task_index": self._tasks[frame.instruction],
        }
        self._add_images(frame, number)
        for name, value in values.items():
            self._columns[name].append(value.tolist() if hasattr(value, "tolist") else value)
            self._vectors.setdefault(name, VectorStatistics()).add(value)
        episode["length"] += 1
        episode["dataset_to_index"] = self.frames

    def _begin_episode(self, instruction: str) -> None:
        self._tasks.setdefault(instruction, len(self._tasks))
        self._episodes.append(
            {
                "episode_index": len(self._episodes),
                "tasks": [instruction],
                "length": 0,
                "dataset_from_index": self.frames,
                "dataset_to_index": self.frames,
            }
        )

    def _add_images(self, frame: ExecutedFrame, number: int) -> None:
        for topic, image in frame.images.items():
            key = camera_key(topic)
            size = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
            if key not in self._videos:
                if self.frames:
                    raise ValueError(f"{topic} has images only later on: leave it out")
                path = self._folder / "videos" / key / f"{FIRST}.mp4"
                video = VideoWriter(path, self._form.frames_per_second, seekable=True)
                self._videos[key] = self._open.enter_context(video)
                self._sizes[key], self._images[key] = size, ImageStatistics()
            if self._sizes[key] != size:
                raise ValueError(f"{topic} changes its size from {self._sizes[key]} to {size}")
            self._videos[key].add(image)
            self._images[key].add(image, number)

    def _write_tables(self) -> None:
        for name in ("meta/episodes/chunk-000", "data/chunk-000"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        self._write(f"data/{FIRST}.parquet", self._data())
        self._write(f"meta/episodes/{FIRST}.parquet", self._arrow.table(self._episode_columns()))
        self._write("meta/tasks.parquet", self._task_table())
        self._write_json("meta/info.json", self._info())
        self._write_json("meta/stats.json", self._statistics())

    def _data(self) -> Any:
        arrow = self._arrow
        kinds = {name: arrow.int64() for name in INDICES} | {"timestamp": arrow.float32()}
        for name, numbers in (("observation.state", self._form.state_names),
                              ("action", self._form.action_names)):  # fmt: skip
            kinds[name] = arrow.list_(arrow.float32(), len(numbers))
        columns = {
            name: arrow.array(values, kinds[name])
            for name, values in self._columns.items()
            if name != "observation.state" or self._form.state_names
        }
        return arrow.table(columns)

    def _episode_columns(self) -> dict[str, list]:
        rate = self._form.frames_per_second
        columns = {name: [one[name] for one in self._episodes] for name in self._episodes[0]}
        for place in ("data", "meta/episodes", *(f"videos/{key}" for key in self._videos)):
            columns[f"{place}/chunk_index"] = [0] * self.episodes
            columns[f"{place}/file_index"] = [0] * self.episodes
        for key in self._videos:
            begins = [one["dataset_from_index"] / rate for one in self._episodes]
            ends = [one["dataset_to_index"] / rate for one in self._episodes]
            columns[f"videos/{key}/from_timestamp"] = begins
            columns[f"videos/{key}/to_timestamp"] = ends
        return columns

    def _task_table(self) -> Any:
        """Return the tasks with the index that pandas restores from the schema's note."""
        words, numbers = list(self._tasks), list(self._tasks.values())
        table = self._arrow.table({"task_index": numbers, "task": words})
        kinds = (("task_index", "int64", "int64"), ("task", "unicode", "object"))
        note = {
            "index_columns": ["task"],
            "column_indexes": [],
            "columns": [
                {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy_kind,
                 "metadata": None}
                for name, kind, numpy_kind in kinds
            ],
            "creator": {"library": "vla_pruner_ros", "version": "1"},
            "pandas_version": "2.0.0",
        }  # fmt: skip
        return table.replace_schema_metadata({b"pandas": json.dumps(note).encode()})

    def _info(self) -> dict[str, Any]:
        return {
            "codebase_version": VERSION,
            "robot_type": self._robot or None,
            "total_episodes": self.episodes,
            "total_frames": self.frames,
            "total_tasks": len(self._tasks),
            "chunks_size": FILES_A_CHUNK,
            "data_files_size_in_mb": DATA_FILE_MB,
            "video_files_size_in_mb": VIDEO_FILE_MB,
            "fps": self._form.frames_per_second,
            "splits": {"train": f"0:{self.episodes}"},
            "data_path": f"data/{PART}.parquet",
            "video_path": f"videos/{{video_key}}/{PART}.mp4",
            "features": self._features(),
        }

    def _features(self) -> dict[str, Any]:
        features: dict[str, Any] = {}
        for key, (height, width) in self._sizes.items():
            features[key] = {
                "dtype": "video",
                "shape": [height, width, 3],
                "names": ["height", "width", "channels"],
                "info": {
                    "video.height": height,
                    "video.width": width,
                    "video.codec": "h264" if "264" in self._videos[key].codec else "mpeg4",
                    "video.pix_fmt": PIXELS,
                    "video.is_depth_map": False,
                    "video.fps": self._form.frames_per_second,
                    "video.channels": 3,
                    "has_audio": False,
                },
            }
        for name, names in (("observation.state", self._form.state_names),
                            ("action", self._form.action_names)):  # fmt: skip
            if names:
                features[name] = {"dtype": "float32", "shape": [len(names)], "names": names}
        features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
        for name in INDICES:
            features[name] = {"dtype": "int64", "shape": [1], "names": None}
        return features

    def _statistics(self) -> dict[str, Any]:
        found = {key: one.result() for key, one in self._images.items()}
        for name, one in self._vectors.items():
            if name != "observation.state" or self._form.state_names:
                found[name] = one.result()
        return found

    def _write(self, name: str, table: Any) -> None:
        self._parquet.write_table(table, self._folder / name)

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        (self._folder / name).write_text(json.dumps(content, indent=4) + "\n", "utf-8")


def camera_key(topic: str) -> str:
    """Return LeRobot's name of a camera topic: /gripper/image_raw -> observation.images.gripper."""
    parts = [part for part in topic.split("/") if part]
    noise = ("image_raw", "image", "compressed", "color")
    named = [part for part in parts if part not in noise] or parts[:1]
    return "observation.images." + "_".join(named)


def write_lerobot(
    frames: Iterable[ExecutedFrame], folder: Path, form: MotionForm, robot: str = ""
) -> tuple[int, int]:
    """Write a data set; return its number of episodes and of frames."""
    with LeRobotWriter(folder, form, robot) as writer:
        for frame in frames:
            writer.add(frame)
    return writer.episodes, writer.frames


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ImportError(
            "a LeRobot data set needs pyarrow, which is not installed: pip install pyarrow av"
        ) from None
    return pyarrow, pyarrow.parquet
