"""The queueing model, the load and the soak of the server, each on a small scale."""

from __future__ import annotations

import time
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("websockets", reason="websockets is not installed: no server")
pytest.importorskip("prometheus_client", reason="prometheus-client is not installed: no server")

from vla_pruner_lab.latency.model_shapes import SHAPES
from vla_pruner_lab.latency.model_work import Work
from vla_pruner_lab.serving.artificial_policy import ArtificialPolicy
from vla_pruner_lab.serving.load import Robots, run
from vla_pruner_lab.serving.scaling import StepTimes, most_robots, simulate
from vla_pruner_lab.serving.scaling_plot import latency_plot
from vla_pruner_lab.serving.server_process import server_process
from vla_pruner_lab.serving.soak import soak
from vla_pruner_lab.serving.studies.batching import batched, speed_up
from vla_pruner_lab.serving.studies.live_clock import StretchedPolicy, commanded_time, table
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.pruning.config import PruningConfig


def test_a_lone_robot_waits_for_nobody():
    np.testing.assert_allclose(simulate(1, period=0.1, service=0.03), 0.03)


@given(st.integers(1, 12), st.floats(0.001, 0.2))
@settings(max_examples=30, deadline=None)
def test_latencies_lie_between_one_service_and_one_of_every_robot(count, service):
    latencies = simulate(count, 0.1, service, asks=40)
    assert latencies.min() >= service * (1 - 1e-9)
    assert latencies.max() <= count * service * (1 + 1e-9)


def test_when_all_ask_at_once_everybody_waits_for_all_others():
    np.testing.assert_allclose(simulate(10, period=0.1, service=0.05), 0.5)


def test_twice_as_fast_a_step_serves_about_twice_the_robots():
    slow, fast = most_robots(0.1, 1.0), most_robots(0.05, 1.0)
    assert 9 <= slow <= 10
    assert 19 <= fast <= 20
    assert most_robots(1.1, 1.0) == 0


def test_step_times_pass_through_the_measured_points():
    times = StepTimes.through("x", {1.0: 200.0, 0.5: 150.0}, 0.5, "made up")
    assert times.at(0.25) == pytest.approx(0.125)


def test_the_plot_is_an_svg_with_a_curve_for_each_ratio():
    svg = latency_plot([1, 2, 3], {"keep 1": [0.1, 0.2, 9.0], "keep <": [0.1, 0.1, 0.1]}, 0.5, "x")
    root = ElementTree.fromstring(svg)
    assert len(root.findall(".//{*}circle")) == 5  # the point beyond the frame is left out


def test_robots_get_equal_shares_of_an_overloaded_server():
    with server_process(fixed_ms=20.0) as server:
        served = run(server.url, Robots(count=6, rate=20.0, seconds=2.0))
    figures = served.summary()
    assert figures["largest_share_over_smallest"] <= 1.2
    assert figures["infer_mean_ms"] >= 20.0
    assert min(served.answers) > 0


def test_a_small_soak_loses_nothing():
    found = soak(exchanges=120, every=30)
    assert found["wrong"] == {}
    assert found["reconnects"] == 0
    assert sum(found["faults"].values()) == 4


def test_a_batch_saves_where_weights_bind_and_nothing_where_arithmetic_does():
    shape = SHAPES["openvla_oft", "full"]
    assert speed_up(shape, 1.0, 8, "h100") == pytest.approx(1.0, abs=0.05)
    assert speed_up(shape, 0.25, 4, "thor") > 2.0
    decoding = speed_up(SHAPES["openvla", "full"], 0.25, 8, "thor")
    assert 7.0 < decoding <= 8.0


def test_a_batch_reads_its_weights_once():
    work = Work("prefill", flops=6, weights=5, cached=4, decoder=True)
    assert batched([work], 3) == [Work("prefill", flops=18, weights=5, cached=12, decoder=True)]


def test_a_stretched_policy_takes_the_commanded_time():
    policy = StretchedPolicy(ArtificialPolicy(), full_step=0.2)
    policy.pruning = PruningConfig(keep_ratio=0.125)
    assert policy.pruning.keep_ratio == 0.125
    start = time.monotonic()
    policy.act(Observation([np.zeros((8, 8, 3), np.uint8)] * 2, "push", np.zeros(8)))
    spent = time.monotonic() - start
    assert commanded_time(0.2, 0.125) == pytest.approx(0.1004, abs=1e-4)
    assert commanded_time(0.2, 1.0) == pytest.approx(0.2)
    assert spent >= commanded_time(0.2, 0.125)
    assert (policy.steps, policy.overruns) == (1, 0)


def test_the_live_table_has_a_row_for_each_step_time_and_marks_what_was_not_run():
    cell = {"full_step": 0.8, "keep_ratio": 0.5, "step": 0.571, "successes": 3, "episodes": 4}
    lines = table([cell, {**cell, "full_step": 0.4, "keep_ratio": 1.0, "step": 0.4}])
    assert lines[0] == "| step without pruning | keep 1 | keep 0.5 |"
    assert lines[2:] == ["| 0.4 s | 3 of 4 (0.40 s) | – |", "| 0.8 s | – | 3 of 4 (0.57 s) |"]
