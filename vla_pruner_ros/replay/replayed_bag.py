"""Replayed answers as a bag: ActionChunk and PruningStatus beside the recorded ones."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from vla_pruner_ros.models.policy import ActionChunk
from vla_pruner_ros.replay import definitions as types
from vla_pruner_ros.replay.bag_reader import BagReader
from vla_pruner_ros.replay.bag_writer import BagWriter
from vla_pruner_ros.replay.definitions import standard_store
from vla_pruner_ros.replay.replayer import Setting, Step
from vla_pruner_ros.replay.stamps import duration_message, time_message
from vla_pruner_ros.replay.topics import Topics


class ReplayedBag:
    """A new bag: the instruction and the recorded answers are copied, replayed ones added.

    Topics: <node>/replay/<setting>/action_chunk and .../pruning. Images are not copied; play the
    recorded bag beside this one to see them.
    """

    def __init__(self, path: Path, model: str, trained: bool) -> None:
        self._store = standard_store()
        self._writer = BagWriter(path, self._store)
        self._model, self._trained = model, trained

    def copy_recorded(self, reader: BagReader, topics: Topics) -> None:
        """Copy what explains the replayed messages."""
        wanted = {t for t in (topics.instruction, topics.chunks, topics.status) if t}
        for record in reader.messages(wanted) if wanted else ():
            self._writer.add_topic(record.topic, record.msgtype)
            self._writer.write(record.topic, record.time, record.data)

    def add(self, setting: Setting, node: str, step: Step, chunk: ActionChunk) -> None:
        """Write one replayed inference at the stamp of its image."""
        base = f"{node or '/vla_pruner'}/replay/{slug(setting.name)}"
        chunk_message = self._chunk(step, chunk)
        self._writer.write_message(
            f"{base}/action_chunk", step.stamp, types.ACTION_CHUNK, chunk_message
        )
        status = self._status(step, chunk)
        self._writer.write_message(f"{base}/pruning", step.stamp, types.PRUNING_STATUS, status)

    def close(self) -> None:
        """Finish the bag; rosbag2 wants custom_data to be there."""
        self._writer.note("vla_pruner_replay", "replayed answers beside the recorded ones")
        self._writer.close()

    def _chunk(self, step: Step, chunk: ActionChunk) -> object:
        make = self._store.types
        stamp = time_message(self._store, step.stamp)
        return make[types.ACTION_CHUNK](
            header=make["std_msgs/msg/Header"](stamp=stamp, frame_id=""),
            image_stamps=[stamp],
            state_stamp=time_message(self._store, 0),
            sequence=step.index,
            instruction=step.instruction,
            inference_start=stamp,
            inference_time=duration_message(self._store, step.seconds),
            steps=len(chunk.actions),
            period=0.0,
            actions=np.asarray(chunk.actions, np.float32).ravel(),
        )

    def _status(self, step: Step, chunk: ActionChunk) -> object:
        make, report = self._store.types, chunk.pruning
        kept = [np.asarray(one, np.uint32) for one in report.kept_indices]
        header = make["std_msgs/msg/Header"](
            stamp=time_message(self._store, step.stamp), frame_id=""
        )
        return make[types.PRUNING_STATUS](
            header=header,
            sequence=step.index,
            model=self._model,
            trained=self._trained,
            pruner=report.pruner,
            budget_mode="fixed",
            keep_ratio=report.tokens_requested / max(report.tokens_total, 1),
            tokens_total=report.tokens_total,
            tokens_requested=report.tokens_requested,
            tokens_kept=report.tokens_kept,
            grid_rows=report.grid[0],
            grid_columns=report.grid[1],
            kept_per_camera=np.array([len(one) for one in kept], np.uint32),
            kept_indices=np.concatenate(kept) if kept else np.zeros(0, np.uint32),
            warm_up=report.warm_up,
            refresh=report.refresh,
            history_length=report.history_length,
            semantic_action_overlap=report.semantic_action_overlap,
            action_overlap=report.action_overlap,
            semantic_share=report.semantic_share,
            action_share=report.action_share,
            stage_names=list(report.timings),
            stage_times=np.array(list(report.timings.values()), np.float32),
            drafted_tokens=report.drafted_tokens,
            accepted_tokens=report.accepted_tokens,
            queue_length=0,
            queue_age=0.0,
        )


def slug(name: str) -> str:
    """Return a setting's name as part of a topic: letters, digits and underscores."""
    return re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower() or "replay"
