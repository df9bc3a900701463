"""A policy's outputs as the node's messages, without ROS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rosbags.typesys.store import Typestore

from vla_pruner_ros.bags import definitions as types
from vla_pruner_ros.bags.stamps import duration_message, time_message
from vla_pruner_ros.conversions.status_fields import status_fields
from vla_pruner_ros.models.policy import ActionChunk, PruningReport


class OutputMessages:
    """Builder of ActionChunk and PruningStatus of one policy; all times are in ns."""

    def __init__(self, store: Typestore, model: str, trained: bool) -> None:
        self._store = store
        self._model, self._trained = model, trained

    def chunk(
        self,
        chunk: ActionChunk,
        *,
        sequence: int,
        image_stamps: Sequence[int],
        instruction: str,
        started: int,
        seconds: float,
        state_stamp: int = 0,
        period: float = 0.0,
    ) -> Any:
        """Return an ActionChunk: seconds of inference, period (s) between its actions.

        image_stamps: one per camera, 0 for one that is missing.
        """
        return self._store.types[types.ACTION_CHUNK](
            header=self._header(next((stamp for stamp in image_stamps if stamp), 0)),
            image_stamps=[time_message(self._store, stamp) for stamp in image_stamps],
            state_stamp=time_message(self._store, state_stamp),
            sequence=sequence,
            instruction=instruction,
            inference_start=time_message(self._store, started),
            inference_time=duration_message(self._store, seconds),
            steps=len(chunk.actions),
            period=period,
            actions=np.asarray(chunk.actions, np.float32).ravel(),
            robot="",
            width=np.shape(chunk.actions)[-1],
            action_names=[],
            action_units=[],
            state=np.zeros(0),
            state_names=[],
        )

    def status(
        self,
        report: PruningReport,
        *,
        sequence: int,
        stamp: int,
        keep_ratio: float,
        budget_mode: str = "fixed",
    ) -> Any:
        """Return a PruningStatus without a queue."""
        return self._store.types[types.PRUNING_STATUS](
            header=self._header(stamp),
            sequence=sequence,
            model=self._model,
            trained=self._trained,
            budget_mode=budget_mode,
            keep_ratio=keep_ratio,
            queue_length=0,
            queue_age=0.0,
            **status_fields(report),
        )

    def _header(self, stamp: int) -> Any:
        header = self._store.types["std_msgs/msg/Header"]
        return header(stamp=time_message(self._store, stamp), frame_id="")
