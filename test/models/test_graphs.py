"""CUDA graphs: what can be known without a GPU, and with one that the replay is the plain step.

A graph holds addresses and launches, no Python. On a CPU a tape stands for it: it records the
operations of a step once, and its replay runs just these on the same tensors again.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from model_helpers import observation
from pruning_streams import action_relevance
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from vla_pruner_ros.models.decoder.kv_cache import KeyValueCache
from vla_pruner_ros.models.execution.config import ExecutionConfig
from vla_pruner_ros.models.execution.cuda_graphs import CapturedGraph, GraphStore
from vla_pruner_ros.models.execution.graphed_steps import GraphedSteps
from vla_pruner_ros.models.execution.timing import StageClock
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.untrained import write_untrained_checkpoint
from vla_pruner_ros.pruning.config import METHOD_NAMES, PruningConfig

FAMILIES = ("openvla", "openvla_oft", "pi0", "pi05", "smolvla")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class Tape(TorchDispatchMode):
    """Records operations; replay() runs them anew, outputs at their old addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple] = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        output = function(*arguments, **options)
        self.operations.append((function, arguments, options, output))
        return output

    def replay(self) -> None:
        with torch.no_grad():
            for function, arguments, options, output in self.operations:
                put(function(*arguments, **options), output)


def put(new, old) -> None:
    """Views and results in place are at the old address already."""
    if isinstance(old, torch.Tensor):
        if old.numel() and new.data_ptr() != old.data_ptr():
            old.view(new.shape).copy_(new)  # torch squeezes some results afterwards
    elif isinstance(old, (tuple, list)):
        for one, other in zip(new, old, strict=True):
            put(one, other)


def record_on_tape(body) -> CapturedGraph:
    tape = Tape()
    with torch.no_grad(), tape:
        result = body()
    return CapturedGraph(result, tape.replay, bytes=1)


@pytest.fixture(scope="module")
def smallest(tmp_path_factory):
    """smallest(family, **pruning) -> a policy of two layers: every operation is slow under test."""
    root = tmp_path_factory.mktemp("smallest")
    shape = {"hidden": 16, "layers": 2, "heads": 2, "mlp": 16, "vision_width": 16}

    @cache
    def checkpoint(family: str):
        return write_untrained_checkpoint(
            root / family, family, **shape, vision_depth=2, vision_heads=2
        )

    def load_smallest(family: str, draft: str = "off", quantization: str = "none", **pruning):
        options = {"num_flow_steps": 2} if family in ("pi0", "pi05", "smolvla") else {}
        return load_policy(
            checkpoint(family),
            pruning=PruningConfig(prune_layer=1, **pruning),
            execution=ExecutionConfig(draft=draft, quantization=quantization),
            **options,
        )

    return load_smallest


def taped(policy):
    policy.graphs = GraphedSteps(policy, memory_mb=1, record=record_on_tape)
    return policy


def assert_same_chunk(one, other) -> None:
    np.testing.assert_allclose(one.actions, other.actions, atol=1e-6)
    pairs = zip(one.pruning.kept_indices, other.pruning.kept_indices, strict=True)
    assert all(np.array_equal(kept, expected) for kept, expected in pairs)
    numbers = ["semantic_action_overlap", "action_overlap", "semantic_share", "action_share"]
    for name in (
        "history_incomplete",
        "history_length",
        "drafted_tokens",
        "accepted_tokens",
        *numbers,
    ):
        values = [getattr(chunk.pruning, name) for chunk in (one, other)]
        assert values[0] == pytest.approx(values[1], nan_ok=True), name


# ---- a step waits for nothing


def fake_step(policy, frame, plan) -> None:
    """The step without values: whatever needs one on the host raises."""
    inputs = policy._prepare(frame)
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as mode:
        changes = {
            name: mode.from_tensor(value)
            for name, value in vars(inputs).items()
            if isinstance(value, torch.Tensor)
        }
        clock = StageClock(policy.device)
        inference = policy.infer(replace(inputs, **changes), plan, clock)
        if plan.action_layers:
            rows = inference.attention.mean()
            policy.pruning_state.update_history(rows, plan, inference.selection)


# A method runs the same in every family: one family tries them all.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "method"),
    [
        *(("openvla_oft", method) for method in METHOD_NAMES),
        *((family, method) for family in ("openvla", "pi0") for method in ("vla_pruner", "fastv")),
    ],
)
def test_no_step_waits_for_the_device(smallest, as_on_a_gpu, family, method):
    policy = smallest(family, method=method, temporal_window=1)
    frame = observation(policy)
    for ratio, steps in ((0.02, 2), (1.0, 1)):  # in warm-up, with history; unpruned
        policy.pruning = replace(policy.pruning, keep_ratio=ratio)
        for _ in range(steps):
            plan = policy.pruning_state.plan()
            policy.act(frame)
            fake_step(policy, frame, plan)


@pytest.mark.slow
@pytest.mark.parametrize("draft", ["linear", "tree"])
def test_no_drafted_step_waits_before_it_is_verified(smallest, as_on_a_gpu, draft):
    policy = smallest("openvla", draft, keep_ratio=0.02, history_fill="semantic")
    frame = observation(policy)
    policy.act(frame)
    assert policy._prepare(frame).guesses is not None
    fake_step(policy, frame, policy.pruning_state.plan())


@pytest.mark.slow
def test_no_quantized_step_waits_for_the_device(smallest, as_on_a_gpu):
    pytest.importorskip("torchao")
    policy = smallest("openvla", quantization="int8", keep_ratio=0.02, history_fill="semantic")
    frame = observation(policy)
    policy.act(frame)
    fake_step(policy, frame, policy.pruning_state.plan())


def test_waiting_would_be_noticed(smallest, as_on_a_gpu, monkeypatch):
    policy = smallest("openvla_oft", keep_ratio=0.02, history_fill="semantic")
    select = policy.pruning_state.select

    def waiting(plan, signals):
        selection = select(plan, signals)
        assert selection.kept.sum().item() >= 0
        return selection

    monkeypatch.setattr(policy.pruning_state, "select", waiting)
    frame = observation(policy)
    policy.act(frame)
    with pytest.raises(DataDependentOutputException):
        fake_step(policy, frame, policy.pruning_state.plan())


# ---- a replay is the step


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "method"),
    [
        *(("openvla_oft", method) for method in ("vla_pruner", "random", "divprune")),
        *((family, "vla_pruner") for family in ("openvla", "pi0")),
    ],
)
def test_replays_are_plain_steps(smallest, as_on_a_gpu, family, method):
    settings = {"method": method, "temporal_window": 2, "keep_ratio": 0.04}
    plain, graphed = smallest(family, **settings), smallest(family, **settings)
    taped(graphed)
    instructions = ["close the door", "push the button from above"]
    for number in range(9):
        frame = observation(plain, number, instructions[number >= 6])
        if number == 5:
            for policy in (plain, graphed):
                policy.pruning = replace(policy.pruning, keep_ratio=0.06, temporal_decay=0.5)
        if number == 7:
            plain.reset()
            graphed.reset()
        assert_same_chunk(graphed.act(frame), plain.act(frame))
    assert len(graphed.graphs.store) >= 3


@pytest.mark.slow
def test_quantized_replays_are_plain_steps(smallest, as_on_a_gpu):
    pytest.importorskip("torchao")
    settings = {"quantization": "int8", "keep_ratio": 0.04, "history_fill": "semantic"}
    plain, graphed = smallest("openvla", **settings), taped(smallest("openvla", **settings))
    for number in range(3):
        frame = observation(plain, number)
        assert_same_chunk(graphed.act(frame), plain.act(frame))
    assert len(graphed.graphs.store) > 0


@pytest.mark.slow
@pytest.mark.parametrize("draft", ["linear", "tree"])
def test_drafted_replays_are_plain_steps(smallest, as_on_a_gpu, draft):
    settings = {"temporal_window": 1, "keep_ratio": 0.04}
    plain = smallest("openvla", draft, **settings)
    graphed = taped(smallest("openvla", draft, **settings))
    for number in (0, 0, 1, 1, 1, 2, 2, 0):  # accepted and refused guesses in turn
        frame = observation(plain, number)
        assert_same_chunk(graphed.act(frame), plain.act(frame))


def test_a_replay_that_gives_no_action_is_not_remembered(smallest, as_on_a_gpu, monkeypatch):
    policy = taped(smallest("openvla_oft", keep_ratio=0.04, temporal_window=1))
    for number in range(3):
        policy.act(observation(policy, number))
    before = action_relevance(policy.pruning_state).clone()
    monkeypatch.setattr(policy, "_to_actions", lambda raw, inputs: np.full((8, 7), np.nan))
    with pytest.raises(RuntimeError, match="not finite"):
        policy.act(observation(policy, 3))
    assert torch.equal(action_relevance(policy.pruning_state), before)


def test_warming_up_records_the_usual_budgets_and_leaves_no_trace(smallest, as_on_a_gpu):
    policy = taped(smallest("openvla_oft", temporal_window=1, keep_ratio=0.04))
    before = policy.pruning
    policy.capture_graphs("close the door")
    # Five budgets; each but the unpruned one has steps without history of another kind.
    assert len(policy.graphs.store) == 9
    assert (policy.pruning, policy.pruning_state.plan().history_length) == (before, 0)
    fresh = smallest("openvla_oft", temporal_window=1, keep_ratio=0.04)
    for number in range(3):
        frame = observation(policy, number, "close the door")
        assert_same_chunk(policy.act(frame), fresh.act(frame))
    assert len(policy.graphs.store) == 9


def test_a_longer_prompt_moves_the_cache_and_makes_old_graphs_unusable(smallest, as_on_a_gpu):
    plain, graphed = (smallest("openvla", method="full") for _ in range(2))
    taped(graphed)
    short, long = (observation(plain, 0, text) for text in ("push", "push the button " * 60))
    for frame in (short, short, long, short, long):
        assert_same_chunk(graphed.act(frame), plain.act(frame))
    assert graphed.cache.generation > 0


def test_a_camera_that_goes_and_comes_back_leaves_no_stale_graph(smallest, as_on_a_gpu):
    settings = {"temporal_window": 1, "keep_ratio": 0.04}
    plain, graphed = smallest("pi0", **settings), taped(smallest("pi0", **settings))
    for number, is_lost in enumerate([False] * 3 + [True] * 3 + [False] * 3):
        frame = observation(plain, number)
        if is_lost:
            frame = replace(frame, images=[None, *frame.images[1:]])
        assert_same_chunk(graphed.act(frame), plain.act(frame))


def test_the_cache_stays_in_place_within_its_capacity():
    cache = KeyValueCache(2, 1, 4, torch.device("cpu"), torch.float32, capacity=6)
    address = [buffer.data_ptr() for buffer in cache._buffers]
    cache.start([6, 3])
    assert [buffer.data_ptr() for buffer in cache._buffers] == address
    assert cache.generation == 0
    cache.start([7, 3])
    assert cache.generation == 1


# ---- which graphs are kept


def fill(store: GraphStore, *names: str, size: int = 4) -> None:
    for name in names:
        if store.find(name) is None:
            store.add(name, lambda name=name: (name, size))


def test_the_least_recently_used_goes_first():
    store = GraphStore(limit=12)
    fill(store, "a", "b", "c", "a", "d")
    assert [store.find(name) for name in "abcd"] == ["a", None, "c", "d"]
    assert store.bytes == 12


def test_one_that_is_too_large_displaces_nothing(caplog):
    store = GraphStore(limit=12)
    fill(store, "a", "b")
    with caplog.at_level(logging.WARNING):
        fill(store, "huge", size=13)
    assert [store.find(name) for name in ("a", "b", "huge")] == ["a", "b", None]
    assert "graph_memory_mb" in caplog.text


def test_what_cannot_be_recorded_is_said_once_and_not_tried_again(caplog):
    store, tried = GraphStore(limit=12), []

    def refuse(name):
        tried.append(name)
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    with caplog.at_level(logging.WARNING):
        for name in ("a", "b", "a", "b"):
            store.add(name, lambda name=name: refuse(name))
    assert tried == ["a", "b"]
    assert len(caplog.records) == 1
    assert "not permitted when stream is capturing" in caplog.text


def test_a_policy_goes_on_where_recording_fails(smallest, caplog):
    def refuse(body):
        raise RuntimeError("out of memory")

    plain, graphed = (smallest("openvla_oft", temporal_window=1) for _ in range(2))
    graphed.graphs = GraphedSteps(graphed, memory_mb=1, record=refuse)
    for number in range(4):
        frame = observation(plain, number)
        assert_same_chunk(graphed.act(frame), plain.act(frame))
    assert len(caplog.records) == 1


# ---- with a GPU


@needs_cuda
@pytest.mark.parametrize("draft", ["off", "tree"])
@pytest.mark.parametrize("family", FAMILIES)
def test_captured_steps_are_eager_steps(checkpoints, family, draft):
    if draft != "off" and family != "openvla":
        pytest.skip("nothing to draft")
    policies = [
        load_policy(
            checkpoints(family),
            device="cuda",
            pruning=PruningConfig(keep_ratio=0.25, temporal_window=2),
            execution=ExecutionConfig(graphs=graphs, draft=draft),
        )
        for graphs in (False, True)
    ]
    for number in range(8):
        eager, graphed = (p.act(observation(p, number // 2)) for p in policies)
        np.testing.assert_allclose(graphed.actions, eager.actions, atol=1e-4)
        assert {"vision", "prefill", "decode"} <= set(graphed.pruning.timings)
        assert all(seconds >= 0.0 for seconds in graphed.pruning.timings.values())
    assert len(policies[1].graphs.store) >= 2
