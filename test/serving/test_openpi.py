"""The published openpi-client drives the server."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from serving_helpers import SteppedPolicy, aloha, droid, libero, served

pytest.importorskip("openpi_client", reason="openpi-client is not installed: make setup brings it")

from openpi_client.websocket_client_policy import WebsocketClientPolicy
from websockets.exceptions import ConnectionClosed, InvalidStatus

pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used:DeprecationWarning")

from vla_pruner_ros.models.policy import PolicyError


def client(running, query: str = "", **options) -> WebsocketClientPolicy:
    return WebsocketClientPolicy(f"{running.url}{query}", **options)


def steps(reply: dict) -> int:
    """Inferences since the history was cleared, as SteppedPolicy counts them."""
    return round(float(reply["actions"][0, 0]))


def test_metadata_describe_the_policy():
    with served(SteppedPolicy()) as running:
        reported = client(running).get_server_metadata()["vla_pruner"]
    assert reported["num_cameras"] == 2
    assert reported["state_dim"] == 8
    assert reported["camera_keys"] == ["observation/image", "observation/wrist_image"]


@pytest.mark.parametrize(
    ("robot", "observation", "policy"),
    [
        ("franka_libero", libero, SteppedPolicy()),
        ("franka_droid", droid, SteppedPolicy(action_dim=8)),
        ("aloha", aloha, SteppedPolicy(4, 14, action_dim=14)),
    ],
)
def test_observations_of_every_robot_are_understood(robot, observation, policy):
    with served(policy, robot=robot) as running:
        reply = client(running).infer(observation(brightness=51))
    assert reply["actions"].shape == (4, policy.action_dim)
    assert reply["actions"][0, 1] == pytest.approx(0.2)
    seen = policy.observations[0]
    assert [image.shape for image in seen.images] == [(224, 224, 3)] * policy.num_cameras
    assert seen.state.shape == (policy.state_dim,)
    assert set(reply["server_timing"]) >= {"infer_ms", "queue_ms"}


def test_the_whole_image_arrives_whatever_its_form():
    rgb = np.random.default_rng(0).integers(0, 256, (224, 300, 3), dtype=np.uint8)
    policy = SteppedPolicy()
    forms = [rgb, rgb.transpose(2, 0, 1), rgb.astype(np.float32) / 255.0]
    with served(policy) as running:
        peer = client(running)
        for form in forms:
            peer.infer({**libero(), "observation/image": form})
            difference = policy.observations[0].images[0].astype(int) - rgb
            assert abs(difference).max() <= 1  # openpi's own conversion of floats truncates


def test_the_gripper_of_libero_closes_at_plus_one():
    policy = SteppedPolicy()  # its gripper number is 1, open
    with served(policy) as running:
        assert (client(running).infer(libero())["actions"][:, -1] == -1.0).all()
    for robot, observation in (("franka_libero_pi0", libero), ("franka_droid", droid)):
        with served(policy, robot=robot) as running:  # left as the data has it
            assert (client(running).infer(observation())["actions"][:, -1] == 1.0).all()


def test_a_history_is_a_connections_own():
    with served(SteppedPolicy(), max_gap=60.0) as running:
        one, other = client(running), client(running)
        assert [steps(one.infer(libero())) for _ in range(3)] == [1, 2, 3]
        assert steps(other.infer(libero())) == 1
        assert steps(one.infer(libero())) == 4
        assert steps(other.infer(libero())) == 2
        assert steps(client(running).infer(libero())) == 1


def test_another_prompt_a_gap_and_a_reset_clear_the_history():
    with served(SteppedPolicy(), max_gap=0.2) as running:
        peer = client(running)
        assert [steps(peer.infer(libero())) for _ in range(2)] == [1, 2]
        assert steps(peer.infer(libero(prompt="close the drawer"))) == 1
        assert steps(peer.infer({**libero(prompt="close the drawer"), "reset": True})) == 1
        assert steps(peer.infer(libero(prompt="close  the drawer "))) == 2
        time.sleep(0.3)  # the gap itself
        assert steps(peer.infer(libero(prompt="close the drawer"))) == 1


def test_pruning_is_set_by_request_and_by_address_for_one_client_alone():
    with served(SteppedPolicy()) as running:
        one, other = client(running), client(running, "/?keep_ratio=0.5")
        changed = one.infer({**libero(), "pruning": {"keep_ratio": 0.125}})
        assert changed["actions"][0, 2] == 0.125
        assert changed["pruning"]["tokens_kept"] == 4
        assert one.infer(libero())["actions"][0, 2] == 0.125
        assert other.infer(libero())["actions"][0, 2] == 0.5
        assert client(running).infer(libero())["actions"][0, 2] == 0.25


def test_a_bad_pruning_setting_is_refused_with_a_sentence():
    with served(SteppedPolicy()) as running, pytest.raises(RuntimeError, match="keep_ratio must"):
        client(running).infer({**libero(), "pruning": {"keep_ratio": 2.0}})
    with (
        served(SteppedPolicy(), fixed_pruning=True) as running,
        pytest.raises(RuntimeError, match="fixed"),
    ):
        client(running).infer({**libero(), "pruning": {"keep_ratio": 0.5}})


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (PolicyError("the instruction is too long: 900 tokens"), "The instruction is too long"),
        (KeyError("secret"), "the policy failed .KeyError.; the server's log"),
    ],
)
def test_a_failure_gives_a_sentence_and_no_traceback_and_the_next_client_is_served(error, sentence):
    policy = SteppedPolicy()
    with served(policy) as running:
        peer = client(running)
        policy.fail = error
        with pytest.raises(RuntimeError, match="(?i)" + sentence) as caught:
            peer.infer(libero())
        assert "Traceback" not in str(caught.value)
        assert "secret" not in str(caught.value)
        with pytest.raises(ConnectionClosed) as closed:
            peer.infer(libero())
        assert closed.value.rcvd.code == 1011
        assert steps(client(running).infer(libero())) == 1


def test_actions_that_are_not_finite_are_not_sent():
    policy = SteppedPolicy()
    policy.spoil = lambda actions: actions * np.nan
    with served(policy) as running, pytest.raises(RuntimeError, match="not finite"):
        client(running).infer(libero())


def test_the_api_key_is_asked_for_and_guessing_is_limited():
    with served(SteppedPolicy(), api_key="open sesame") as running:
        for key in (None, "wrong"):
            with pytest.raises(InvalidStatus) as refused:
                client(running, api_key=key)
            assert refused.value.response.status_code == 401
        peer = client(running, api_key="open sesame")
        codes = []
        for guess in range(100):
            with pytest.raises(InvalidStatus) as refused:
                client(running, api_key=f"guess {guess}")
            codes.append(refused.value.response.status_code)
        assert codes.count(401) == 9
        assert codes[-1] == 429
        assert steps(peer.infer(libero())) == 1  # who is in stays in


def test_waiting_requests_are_answered_in_order_and_too_many_are_refused():
    policy = SteppedPolicy()
    with served(policy, max_waiting=2) as running:
        peers = [client(running) for _ in range(4)]
        outcomes: dict[int, object] = {}

        def ask(number: int) -> None:
            try:
                outcomes[number] = peers[number].infer(libero(prompt=f"task {number}"))
            except RuntimeError as error:
                outcomes[number] = str(error)

        policy.proceed.clear()
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for number, thread in enumerate(threads):
            thread.start()
            waiting = min(number + 1, 3)
            running.until(lambda n=waiting: running.server.handler.thread.waiting >= n, "queued")
            if number == 0:
                policy.started.wait(10)
        running.until(lambda: 3 in outcomes, "the refusal")
        policy.proceed.set()
        for thread in threads:
            thread.join(10)
    assert "busy" in outcomes[3]
    assert policy.order == ["task 0", "task 1", "task 2"]
    assert all(isinstance(outcomes[number], dict) for number in range(3))


def test_a_stop_lets_the_running_request_be_answered():
    policy = SteppedPolicy()
    with served(policy) as running:
        peer, answers = client(running), []
        policy.proceed.clear()
        asking = threading.Thread(target=lambda: answers.append(peer.infer(libero())))
        asking.start()
        assert policy.started.wait(10)
        running.loop.call_soon_threadsafe(running.server.request_stop)
        running.until(lambda: running.server.draining, "draining")
        with pytest.raises(InvalidStatus) as refused:
            client(running)
        assert refused.value.response.status_code == 503
        policy.proceed.set()
        asking.join(10)
    assert running.ended
    assert steps(answers[0]) == 1


def test_a_full_server_refuses_the_next_client_and_takes_it_when_one_left():
    with served(SteppedPolicy(), max_clients=2) as running:
        peers = [client(running), client(running)]
        with pytest.raises(InvalidStatus) as refused:
            client(running)
        assert refused.value.response.status_code == 503
        assert b"2 places" in refused.value.response.body
        peers[0]._ws.close()
        running.until(lambda: len(running.server._sessions) == 1, "the client left")
        assert steps(client(running).infer(libero())) == 1
