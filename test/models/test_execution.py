"""Ways to run a policy: allowed settings, and refused ones."""

from __future__ import annotations

import pytest

from vla_pruner_ros.models.execution.config import ExecutionConfig
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.policy import CheckpointError


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("graphs", 1, "graphs must be a bool"),
        ("graph_memory_mb", 0, "graph_memory_mb must be at least 1, got 0"),
        ("graph_memory_mb", 1.5, "graph_memory_mb must be an integer"),
        ("draft", "bush", "draft must be one of off, linear, tree"),
        ("quantization", "int2", "quantization must be one of none, int8, int4"),
    ],
)
def test_a_bad_setting_is_refused_with_what_is_allowed(field, value, message):
    with pytest.raises(ValueError, match=message):
        ExecutionConfig(**{field: value})


def test_a_policy_tells_how_it_is_run(checkpoints):
    assert load_policy(checkpoints("openvla")).execution == ExecutionConfig()
    execution = ExecutionConfig(graphs=False, draft="linear")
    assert load_policy(checkpoints("openvla"), execution=execution).execution == execution


@pytest.mark.parametrize("family", ["openvla_oft", "pi0"])
def test_drafting_is_refused_where_there_is_nothing_to_draft(checkpoints, family):
    with pytest.raises(CheckpointError, match="set draft to off"):
        load_policy(checkpoints(family), execution=ExecutionConfig(draft="tree"))
