"""The node with a policy on a server: the arm's side keeps its rules whatever the server does."""

from __future__ import annotations

import numpy as np
import pytest
from node_helpers import bench, moving
from serving_helpers import Served, SteppedPolicy, served

from vla_pruner_ros.msg import EndEffectorAction
from vla_pruner_ros.nodes.vla_pruner.loading import load_from_settings
from vla_pruner_ros.robots import load_profile
from vla_pruner_ros.serving.openpi import Openpi
from vla_pruner_ros.serving.server import PolicyServer
from vla_pruner_ros.serving.settings import ServerSettings

pytestmark = pytest.mark.realtime
ACTION = "/vla_pruner/action"
ROBOT = "widowx_bridge"  # one camera, no state


def one_camera() -> SteppedPolicy:
    policy = SteppedPolicy(num_cameras=1, state_dim=0, chunk_size=1)

    def moves(actions: np.ndarray) -> np.ndarray:
        small = np.zeros_like(actions)
        # Metres: brightness and ratio of what the server saw can be read from the arm's motion.
        small[:, 0] = 0.01 * actions[:, 1]
        small[:, 1] = 0.01 * policy.pruning.keep_ratio
        return small

    policy.spoil = moves
    return policy


def node(url: str, **parameters):
    given = {"robot": ROBOT, "remote_timeout": 5.0, **parameters}
    return bench(load_from_settings, checkpoint=url, **given)


@pytest.mark.parametrize("image_format", ["raw", "jpeg"])
def test_the_server_moves_the_arm_and_keep_ratio_reaches_it(image_format):
    policy = one_camera()
    with served(policy, robot=ROBOT) as running:
        with node(running.url, remote_image_format=image_format) as b:
            actions = b.listen(EndEffectorAction, ACTION)
            b.activate()
            b.show_until(lambda: len(moving(actions)) >= 2, "motion", brightness=51)
            first = moving(actions)[-1]
            assert b.set_parameter("keep_ratio", 0.5).successful
            slower = lambda: moving(actions)[-1].translation.y == pytest.approx(0.005, abs=1e-5)
            b.show_until(slower, "the new ratio in the arm's motion")
            reported = b.node.reporter.state()
        running.until(lambda: not running.server._sessions, "the node has let go")
    assert first.translation.x == pytest.approx(0.002, abs=1e-4)
    assert first.translation.y == pytest.approx(0.0025, abs=1e-5)
    assert reported["remote_reconnects"] == 0
    assert 0.0 < reported["remote_latency_p50"] < 5.0
    assert reported["remote_jitter"] >= 0.0


def test_a_lost_server_stops_motion_and_a_new_one_is_found():
    policy = one_camera()
    with served(policy, robot=ROBOT) as first:
        port, url = first.port, first.url
        context = node(url, max_consecutive_failures=1000)
        b = context.__enter__()
        try:
            actions = b.listen(EndEffectorAction, ACTION)
            b.activate()
            b.show_until(lambda: moving(actions), "motion")
            first.stop()
            b.show_until(lambda: url in b.node.health.problem, "the loss in the problem")
            b.show_until(lambda: actions[-1].stop, "a stop")
            again = Served(
                lambda: PolicyServer(
                    policy,
                    Openpi(),
                    Openpi.layout(load_profile(ROBOT)),
                    ServerSettings(port=port),
                )
            )
            try:
                count = len(moving(actions))
                b.show_until(lambda: len(moving(actions)) > count, "motion again")
                assert b.node.reporter.state()["remote_reconnects"] == 1
            finally:
                again.stop()
        finally:
            context.__exit__(None, None, None)


def test_an_answer_from_before_a_new_instruction_moves_nothing():
    policy = one_camera()
    with served(policy, robot=ROBOT) as running, node(running.url) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show_until(lambda: moving(actions), "motion")
        policy.started.clear()
        policy.proceed.clear()
        b.show_until(policy.started.is_set, "an inference that waits", brightness=255)
        b.instruct("open the drawer")
        b.until(lambda: b.node.runner.instruction == "open the drawer", "the instruction")
        count = len(moving(actions))
        policy.proceed.set()
        b.until(lambda: b.count("results_discarded") >= 1, "the old answer is dropped")
        assert len(moving(actions)) == count
        b.show_until(lambda: len(moving(actions)) > count, "motion for the new instruction")
        assert policy.order[-1] == "open the drawer"


def test_a_lying_server_stops_motion():
    policy = one_camera()
    with served(policy, robot=ROBOT) as running, node(running.url) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show_until(lambda: moving(actions), "motion")
        policy.spoil = lambda made: made[:, :5]
        b.show_until(lambda: "[1, 5]" in b.node.health.problem, "the refusal")
        b.show_until(lambda: actions[-1].stop, "a stop")


def test_a_server_that_is_not_there_fails_configure_in_a_sentence():
    from lifecycle_msgs.msg import Transition

    with node("ws://127.0.0.1:9") as b:
        assert not b.change_state(Transition.TRANSITION_CONFIGURE)
        assert "ws://127.0.0.1:9 cannot be reached" in b.node.health.problem
