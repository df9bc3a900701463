"""One of two cameras falls silent: motion stops, or goes on without it where that is asked for."""

from __future__ import annotations

from lifecycle_msgs.msg import Transition
from node_helpers import ControlledPolicy, bench

from vla_pruner_ros.msg import ActionChunk

TOPICS = ["image_raw", "gripper/image_raw"]


def see_with_both(b, policy):
    def both():
        b.show(10, TOPICS[0])
        b.show(20, TOPICS[1])
        return policy.observations and all(i is not None for i in policy.observations[-1].images)

    b.until(both, "an inference on both cameras")


def lacks_one(policy):
    return policy.observations[-1].images[1] is None


def test_motion_holds_by_default():
    policy = ControlledPolicy(num_cameras=2)
    with bench(policy, image_topics=TOPICS, max_image_age=0.3) as b:
        b.activate()
        see_with_both(b, policy)
        b.show_until(lambda: TOPICS[1] in b.node.health.problem, "the stop", topic=TOPICS[0])
        sent, seen = b.count("actions"), len(policy.observations)
        b.show_until(lambda: b.count("frames") % 20 == 0, "more frames", topic=TOPICS[0])
        assert (b.count("actions"), len(policy.observations)) == (sent, seen)


def test_motion_goes_on_without_the_camera_and_takes_it_back():
    policy = ControlledPolicy(num_cameras=2)
    settings = {"image_topics": TOPICS, "max_image_age": 0.3, "on_camera_loss": "continue"}
    with bench(policy, **settings) as b:
        chunks = b.listen(ActionChunk, "/vla_pruner/action_chunk")
        b.activate()
        see_with_both(b, policy)
        b.show_until(lambda: lacks_one(policy), "an inference without", topic=TOPICS[0])
        sent = b.count("actions")
        b.show_until(lambda: b.count("actions") > sent + 2, "motion", topic=TOPICS[0])
        assert b.node.state()["cameras_missing"] == [TOPICS[1]]
        assert not b.node.health.problem
        stamps = chunks[-1].image_stamps
        present = [stamp.sec > 0 for stamp in stamps]
        assert present == [True, False], "the chunk shows which camera was missing"
        see_with_both(b, policy)
        assert b.node.state()["cameras_missing"] == []


def test_motion_stops_when_the_last_camera_is_lost():
    policy = ControlledPolicy(num_cameras=2)
    settings = {"image_topics": TOPICS, "max_image_age": 0.3, "on_camera_loss": "continue"}
    with bench(policy, **settings) as b:
        b.activate()
        see_with_both(b, policy)
        b.until(lambda: "No image on" in b.node.health.problem, "the stop")
        assert not b.node.motion.moving


def test_a_model_that_needs_every_camera_is_not_configured_to_go_on():
    policy = ControlledPolicy()
    policy.can_miss_cameras = False
    with bench(policy, on_camera_loss="continue") as b:
        assert not b.change_state(Transition.TRANSITION_CONFIGURE)
        assert "set it to hold" in b.node.health.problem
