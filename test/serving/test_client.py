"""RemotePolicy against the real server, and against servers that lie, dawdle and vanish."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import msgpack
import numpy as np
import pytest
from model_helpers import checkpoints, small_policy  # noqa: F401
from model_helpers import observation as seeded_observation
from serving_helpers import WAIT, SteppedPolicy, served
from websockets.sync.server import serve

from vla_pruner_ros.models.policy import CheckpointError, Observation, PolicyError
from vla_pruner_ros.robots import load_profile
from vla_pruner_ros.serving.client.address import RemoteOptions, is_remote
from vla_pruner_ros.serving.client.opening import connect_policy
from vla_pruner_ros.serving.client.policy import RemotePolicy
from vla_pruner_ros.serving.handler import report_fields
from vla_pruner_ros.serving.layout import openpi_layout
from vla_pruner_ros.serving.wire import arrays
from vla_pruner_ros.serving.wire.limits import WireLimits

PATIENT = RemoteOptions(timeout=WAIT)


def seen(brightness: int = 100, instruction: str = "push the button") -> Observation:
    image = np.full((48, 64, 3), brightness, dtype=np.uint8)
    return Observation([image, image], instruction, np.arange(8.0))


@contextmanager
def remote(policy, options: RemoteOptions = PATIENT, **settings):
    with served(policy, **settings) as running:
        made = RemotePolicy(running.url, options)
        try:
            yield made, running
        finally:
            made.close()


def test_an_address_is_told_from_a_directory():
    assert is_remote("ws://gpu-box:8000")
    assert is_remote("wss://gpu-box")
    assert not is_remote("/models/ws")


def test_it_describes_the_servers_policy_and_acts_as_it_does():
    policy = SteppedPolicy()
    with remote(policy) as (far, _):
        assert (far.family, far.trained, far.num_cameras, far.state_dim) == (
            "openvla_oft", True, 2, 8,
        )  # fmt: skip
        chunk = far.act(seen(51))
    np.testing.assert_allclose(chunk.actions[0, :3], [1.0, 0.2, 0.25], atol=1e-6)
    assert (chunk.actions[:, -1] == 1.0).all()  # the checkpoint's own gripper, not robosuite's
    assert chunk.pruning.tokens_kept == 8
    assert [len(kept) for kept in chunk.pruning.kept_indices] == [4, 4]
    assert np.isnan(chunk.pruning.action_overlap)
    np.testing.assert_array_equal(policy.observations[0].state, np.arange(8.0))


@pytest.mark.parametrize("robot", ["franka_libero", "franka_droid"])
def test_the_state_arrives_whole_whatever_its_keys(robot):
    policy = SteppedPolicy()
    with remote(policy, robot=robot) as (far, _):
        far.act(seen())
    np.testing.assert_array_equal(policy.observations[0].state, np.arange(8.0))


def test_real_weights_give_the_same_actions_as_here(small_policy):  # noqa: F811
    near = small_policy("openvla_oft", keep_ratio=0.25)
    seeds = range(4)
    expected = [near.act(seeded_observation(near, seed)) for seed in seeds]
    near.restore_history(None)
    with remote(near) as (far, _):
        far.pruning = near.pruning
        got = [far.act(seeded_observation(far, seed)) for seed in seeds]
    for mine, exact in zip(got, expected, strict=True):
        np.testing.assert_array_equal(mine.actions, exact.actions)
        for kept, right in zip(mine.pruning.kept_indices, exact.pruning.kept_indices, strict=True):
            np.testing.assert_array_equal(kept, right)


def test_settings_reach_the_next_inference_and_reset_clears_the_history():
    with remote(SteppedPolicy()) as (far, _):
        assert far.act(seen()).actions[0, 2] == 0.25
        far.pruning = replace(far.pruning, keep_ratio=0.5)
        chunk = far.act(seen())
        assert (chunk.actions[0, 0], chunk.actions[0, 2]) == (2, 0.5)
        far.reset()
        assert far.act(seen()).actions[0, 0] == 1


def test_jpeg_travels_smaller_and_shows_nearly_the_same():
    policy = SteppedPolicy()
    ramp = np.linspace(0, 255, 64 * 48).reshape(48, 64, 1).repeat(3, axis=2).astype(np.uint8)
    with remote(policy, RemoteOptions("jpeg", WAIT)) as (far, _):
        far.act(Observation([ramp, ramp], "push", np.zeros(8)))
    arrived = policy.observations[0].images[0]
    assert arrived.shape == ramp.shape
    assert 0 < np.abs(arrived.astype(int) - ramp).max() < 12


def test_a_refusal_of_the_policy_is_handed_on_and_the_next_inference_works():
    policy = SteppedPolicy()
    with remote(policy) as (far, _):
        policy.fail = PolicyError("the instruction is too long")
        with pytest.raises(PolicyError, match="too long"):
            far.act(seen())
        assert far.act(seen()).actions[0, 0] == 1
        assert far.diagnostics()["remote_reconnects"] == 1


def test_a_late_answer_is_given_up_and_never_taken_for_the_next():
    policy = SteppedPolicy()
    with remote(policy, RemoteOptions(timeout=0.3)) as (far, _):
        far.act(seen(0))
        policy.proceed.clear()
        start = time.monotonic()
        with pytest.raises(PolicyError, match=r"no answer within 0\.30 s"):
            far.act(seen(51))
        assert time.monotonic() - start < 5.0
        policy.proceed.set()
        assert far.act(seen(255)).actions[0, 1] == 1.0
        printed = far.diagnostics()
    assert (printed["remote_timeouts"], printed["remote_late_answers"]) == (1, 1)
    assert printed["remote_latency_p50"] > 0.0


def test_a_lost_server_fails_and_is_found_again_with_a_new_history():
    policy = SteppedPolicy()
    with served(policy) as first:
        port = first.port
        far = RemotePolicy(first.url, PATIENT)
        far.act(seen())
        far.act(seen())
    with pytest.raises(PolicyError, match="closed the connection"):
        far.act(seen())
    with pytest.raises(PolicyError, match="cannot be reached"):
        far.act(seen())
    from vla_pruner_ros.serving.openpi import Openpi
    from vla_pruner_ros.serving.server import PolicyServer
    from vla_pruner_ros.serving.settings import ServerSettings
    from serving_helpers import Served  # isort: skip

    layout = openpi_layout(load_profile("franka_libero"))
    again = Served(lambda: PolicyServer(policy, Openpi(), layout, ServerSettings(port=port)))
    try:
        assert far.act(seen()).actions[0, 0] == 1
        assert far.diagnostics()["remote_reconnects"] == 1
    finally:
        far.close()
        again.stop()


def test_a_server_that_came_back_with_another_policy_is_refused():
    with remote(SteppedPolicy()) as (far, running):
        far.act(seen())
        far._link.close()
        running.server.handler.policy.chunk_size = 2
        with pytest.raises(PolicyError, match="another policy"):
            far.act(seen())


def test_the_key_is_sent(tmp_path):
    path = tmp_path / "key"
    path.write_text("open sesame\n")
    with served(SteppedPolicy(), api_key="open sesame") as running:
        with pytest.raises(CheckpointError, match=r"401.*API key"):
            connect_policy(running.url, timeout=WAIT)
        far = connect_policy(running.url, timeout=WAIT, api_key_file=str(path))
        assert far.act(seen()).actions[0, 0] == 1
        far.close()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("ws://127.0.0.1:9", "cannot be reached"),
        ("ws://", "cannot be reached"),
        ("ws://256.256.256.256:1", "cannot be reached"),
    ],
)
def test_an_address_that_leads_nowhere_is_named(url, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        connect_policy(url)


def test_a_missing_key_file_is_named():
    with pytest.raises(CheckpointError, match="/nowhere/key"):
        connect_policy("ws://127.0.0.1:9", api_key_file="/nowhere/key")


# --- Servers that are not ours, or not honest ------------------------------------------------


class Liar:
    """A server whose greeting and answers the test writes."""

    def __init__(self, greeting: bytes, answer) -> None:
        self._greeting, self._answer = greeting, answer
        self.requests: list[dict] = []
        self._server = serve(self._converse, "127.0.0.1", 0)
        self.port = self._server.socket.getsockname()[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _converse(self, socket) -> None:
        if self._greeting is not None:
            socket.send(self._greeting)
        for data in socket:
            request = msgpack.unpackb(data)
            self.requests.append(request)
            answer = self._answer(request)
            if answer is None:
                return
            socket.send(answer)

    def stop(self) -> None:
        self._server.shutdown()


def pack(value) -> bytes:
    return msgpack.packb(value, default=arrays.encode_openpi)


def honest_greeting() -> dict:
    layout = openpi_layout(load_profile("franka_libero"))
    return {
        "vla_pruner": {
            "family": "openvla_oft",
            "trained": True,
            "num_cameras": 2,
            "state_dim": 8,
            "chunk_size": 4,
            "camera_keys": list(layout.cameras),
            "state_keys": list(layout.state),
            "state_sizes": [8],
            "prompt_key": "prompt",
        }
    }


def honest_answer(request: dict, **changes) -> dict:
    policy = SteppedPolicy()
    chunk = policy.act(seen())
    report = report_fields(chunk.pruning, with_indices=True)
    answer = {"actions": chunk.actions, "pruning": report, "request": request["request"]}
    return {**answer, **changes}


@contextmanager
def lying(answer, greeting: bytes | None = None, options: RemoteOptions | None = None):
    liar = Liar(pack(honest_greeting()) if greeting is None else greeting, answer)
    try:
        far = RemotePolicy(f"ws://127.0.0.1:{liar.port}", options or RemoteOptions(timeout=5.0))
        yield far, liar
        far.close()
    finally:
        liar.stop()


def broken_report(**changes) -> dict:
    report = report_fields(SteppedPolicy().act(seen()).pruning, with_indices=True)
    return {**report, **changes}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"actions": np.full((4, 7), np.nan, np.float32)}, "not finite"),
        ({"actions": np.zeros(7, np.float32)}, r"shape \[7\]"),
        ({"actions": np.zeros((0, 7), np.float32)}, r"shape \[0, 7\]"),
        ({"actions": np.zeros((2000, 7), np.float32)}, r"shape \[2000, 7\]"),
        ({"actions": np.zeros((4, 7), bool)}, "no actions"),
        ({"actions": "forward"}, "no actions"),
        ({"actions": None}, "no actions"),
        ({"pruning": broken_report(kept_indices=[np.arange(4)])}, "1 cameras"),
        ({"pruning": broken_report(kept_indices=[np.full(4, 99)] * 2)}, "beyond its grid"),
        ({"pruning": broken_report(grid=[4])}, "report is broken"),
        ({"pruning": {}}, "report is broken"),
        ({"pruning": broken_report(surprise=1)}, "report is broken"),
    ],
)
def test_a_lie_is_refused(changes, sentence):
    with (
        lying(lambda request: pack(honest_answer(request, **changes))) as (far, _),
        pytest.raises(PolicyError, match=sentence),
    ):
        far.act(seen())


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda request: b"\xc1", "cannot be read"),
        (lambda request: pack([1, 2]), "no map"),
        (lambda request: "out of memory", "out of memory"),
        (lambda request: None, "closed the connection"),
        (lambda request: pack(honest_answer(request))[:-3], "cannot be read"),
        (lambda request: bytes(20 * 2**20), "closed the connection"),
    ],
)
def test_a_broken_answer_is_refused_and_the_connection_made_anew(answer, sentence):
    answers = iter([answer])

    def once(request):
        return next(answers, lambda r: pack(honest_answer(r)))(request)

    with lying(once) as (far, _):
        with pytest.raises(PolicyError, match=sentence):
            far.act(seen())
        assert far.act(seen()).actions.shape == (4, 7)


def test_an_answer_to_another_question_is_not_taken():
    def twice(request):
        return pack({**honest_answer(request), "request": request["request"] - 1})

    with (
        lying(twice, options=RemoteOptions(timeout=0.3)) as (far, _),
        pytest.raises(PolicyError, match="no answer within"),
    ):
        far.act(seen())


@pytest.mark.parametrize(
    "greeting", [b"", b"\xc1", pack(["hello"]), pack({"vla_pruner": {"family": "x"}}), pack({})]
)
def test_a_broken_greeting_is_refused(greeting):
    with (
        pytest.raises(PolicyError),
        lying(lambda request: None, greeting, RemoteOptions(timeout=2.0)),
    ):
        pass


def test_any_openpi_server_serves_a_robot_that_is_named():
    """openpi's own server sends empty metadata and knows none of this package's extras."""

    def answer(request):
        return pack({"actions": np.ones((10, 8)), "server_timing": {"infer_ms": 1.0}})

    options = RemoteOptions(timeout=5.0, robot="franka_droid")
    with lying(answer, pack({}), options) as (far, liar):
        chunk = far.act(seen())
        far.act(seen())
    assert chunk.actions.shape == (10, 8)
    request = arrays.decode(liar.requests[0], WireLimits())
    assert set(request) == {
        "observation/exterior_image_1_left",
        "observation/wrist_image_left",
        "observation/joint_position",
        "observation/gripper_position",
        "prompt",
    }
    np.testing.assert_array_equal(request["observation/joint_position"], np.arange(7.0))
    np.testing.assert_array_equal(request["observation/gripper_position"], [7.0])
