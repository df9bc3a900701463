"""Fields of a PruningStatus from a report, shared by the node and the replay."""

from __future__ import annotations

from typing import Any

import numpy as np

from vla_pruner_ros.models.policy import PruningReport


def status_fields(report: PruningReport) -> dict[str, Any]:
    """Return the fields of a PruningStatus that follow from the report, by name.

    Number sequences are numpy arrays in the message's own types: uint32 and float32.
    """
    indices = [np.asarray(kept, dtype=np.uint32) for kept in report.kept_indices]
    return {
        "method": report.method,
        "preset": report.preset,
        "prune_layer": report.prune_layer,
        "tokens_total": report.tokens_total,
        "tokens_requested": report.tokens_requested,
        "tokens_kept": report.tokens_kept,
        "grid_rows": report.grid[0],
        "grid_columns": report.grid[1],
        "kept_per_camera": np.array([len(kept) for kept in indices], dtype=np.uint32),
        "kept_indices": np.concatenate([*indices, np.zeros(0, dtype=np.uint32)]),
        "history_incomplete": report.history_incomplete,
        "refresh": report.refresh,
        "history_length": report.history_length,
        "semantic_action_overlap": report.semantic_action_overlap,
        "action_overlap": report.action_overlap,
        "semantic_share": report.semantic_share,
        "action_share": report.action_share,
        "stage_names": list(report.timings),
        "stage_times": np.array(list(report.timings.values()), dtype=np.float32),
        "drafted_tokens": report.drafted_tokens,
        "accepted_tokens": report.accepted_tokens,
    }
