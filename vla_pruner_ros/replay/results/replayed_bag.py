"""Replayed outputs as a bag: ActionChunk and PruningStatus next to the recorded ones."""

from __future__ import annotations

import re
from pathlib import Path

from vla_pruner_ros.bags import definitions as types
from vla_pruner_ros.bags.definitions import standard_store
from vla_pruner_ros.bags.reader import BagReader, plain_data
from vla_pruner_ros.bags.writer import BagWriter
from vla_pruner_ros.models.policy import ActionChunk, VlaPolicy
from vla_pruner_ros.replay.inputs.sample import ReplayInput
from vla_pruner_ros.replay.inputs.topics import Topics
from vla_pruner_ros.replay.replayer import ReplaySetting, Step
from vla_pruner_ros.replay.results.outputs import OutputMessages


class ReplayedBag:
    """A new bag: the instruction and the recorded outputs are copied, replayed ones added.

    Topics: <node>/replay/<setting>/action_chunk and .../pruning. Images are not copied; play the
    recorded bag next to this one to see them.
    """

    def __init__(self, path: Path, policy: VlaPolicy) -> None:
        store = standard_store()
        self._writer = BagWriter(path, store)
        self._messages = OutputMessages(store, policy.family, policy.trained)
        self._takes_state = policy.state_dim > 0

    def copy_recorded(self, reader: BagReader, topics: Topics) -> None:
        """Copy the recorded messages that the replayed ones refer to."""
        names = {t for t in (topics.instruction, topics.chunks, topics.status) if t}
        for record in reader.messages(names) if names else ():
            self._writer.add_topic(record.topic, record.msgtype)
            self._writer.write(record.topic, record.time, plain_data(record))

    def add(
        self,
        setting: ReplaySetting,
        node: str,
        replay_input: ReplayInput,
        step: Step,
        chunk: ActionChunk,
    ) -> None:
        """Write one replayed inference at the stamp of its first image.

        Its stamps are those of its input messages, so that it can be compared with the recorded
        output for the same images. Its sequence counts the replayed inferences.
        """
        base = f"{node or '/vla_pruner'}/replay/{slug(setting.name)}"
        report = chunk.pruning
        answer = self._messages.chunk(
            chunk,
            sequence=step.index,
            image_stamps=replay_input.image_stamps,
            state_stamp=replay_input.state_stamp if self._takes_state else 0,
            instruction=step.instruction,
            started=step.stamp,
            seconds=step.seconds,
            period=replay_input.recorded.period if replay_input.recorded else 0.0,
        )
        status = self._messages.status(
            report,
            sequence=step.index,
            stamp=step.stamp,
            keep_ratio=report.tokens_requested / max(report.tokens_total, 1),
        )
        write = self._writer.write_message
        write(f"{base}/action_chunk", step.stamp, types.ACTION_CHUNK, answer)
        write(f"{base}/pruning", step.stamp, types.PRUNING_STATUS, status)

    def close(self) -> None:
        """Finish the bag; rosbag2 requires custom_data."""
        self._writer.note("vla_pruner_replay", "replayed outputs next to the recorded ones")
        self._writer.close()


def slug(name: str) -> str:
    """Return a setting's name as part of a topic: letters, digits and underscores."""
    return re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower() or "replay"
