"""The published vla-eval runs evaluations against the server."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgpack
import numpy as np
import pytest
import yaml
from serving_helpers import SteppedPolicy, served

pytest.importorskip("vla_eval", reason="vla-eval is not installed: make setup brings it")

import vla_eval.api
from beacon_benchmark import BeaconBenchmark, follow
from vla_eval.protocol import Message, MessageType, pack_message, unpack_message
from vla_eval.results.export import export_eval
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from vla_pruner_ros.models.policy import PolicyError
from vla_pruner_ros.serving.vla_eval import VlaEval

HELPERS = Path(__file__).resolve().parents[1] / "helpers"
BEACON = "beacon_benchmark:BeaconBenchmark"


def follower(**options) -> SteppedPolicy:
    policy = SteppedPolicy(**options)
    policy.spoil = follow(policy)
    return policy


def config(url: str, output: Path, **benchmark) -> dict:
    entry = {"benchmark": BEACON, "episodes_per_task": 2, "name": "beacon", **benchmark}
    return {"server": {"url": url}, "output_dir": str(output), "benchmarks": [entry]}


def observation(brightness: int = 128, task: str = "follow") -> dict:
    image = np.full((32, 32, 3), brightness, dtype=np.uint8)
    images = {"agentview": image, "wrist": image}
    return {"images": images, "task_description": task, "states": np.zeros(8)}


class RawClient:
    """vla-eval's own messages over a plain websocket."""

    def __init__(self, socket) -> None:
        self._socket, self._seq = socket, 0

    def send(self, kind: str, payload: dict) -> int:
        self._seq += 1
        self._socket.send(pack_message(Message(MessageType(kind), payload, seq=self._seq)))
        return self._seq

    def receive(self) -> Message:
        return unpack_message(self._socket.recv(timeout=10))

    def act(self, payload: dict) -> Message:
        seq = self.send("observation", payload)
        answer = self.receive()
        assert answer.seq == seq
        return answer


def test_an_evaluation_succeeds(tmp_path):
    with served(follower(chunk_size=1), VlaEval()) as running:
        (result,) = vla_eval.api.run(config(running.url, tmp_path, params={"num_tasks": 3}))
    assert result["mean_success"] == 1.0
    assert result["num_episodes_total"] == 6
    assert result["num_errors"] == 0
    assert result["server_info"]["vla_pruner"]["family"] == "openvla_oft"


def test_shards_in_several_processes_share_one_server(tmp_path):
    policy = follower(chunk_size=1)
    with served(policy, VlaEval()) as running:
        path = tmp_path / "beacon.yaml"
        path.write_text(yaml.safe_dump(config(running.url, tmp_path / "out", episodes_per_task=4)))
        paths = os.pathsep.join([str(HELPERS), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "vla_eval.cli.main", "run", "--config", str(path)]
        command += ["--no-docker", "--yes", "--eval-id", "shared"]
        shards = [
            subprocess.Popen(
                [*command, "--shard-id", str(shard), "--num-shards", "2"],
                env={**os.environ, "PYTHONPATH": paths},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for shard in range(2)
        ]
        logs = [shard.communicate(timeout=100)[0] for shard in shards]
        clients = running.server.handler._sessions
    assert [shard.returncode for shard in shards] == [0, 0], logs
    (result,) = export_eval(tmp_path / "out", "shared")
    assert clients == 2
    assert result["num_episodes_total"] == 8
    assert result["mean_success"] == 1.0
    assert "partial" not in result


@pytest.mark.realtime
def test_on_a_live_clock_a_slow_policy_loses_what_a_pruned_one_wins(tmp_path):
    policy = follower(chunk_size=1)
    act = policy.act

    def artificially_slow(observed):
        time.sleep(0.4 * policy.pruning.keep_ratio)  # stands for a step whose time follows tokens
        return act(observed)

    policy.act = artificially_slow
    live = {"mode": "live", "hz": 10.0, "episodes_per_task": 1, "params": {"num_tasks": 1}}
    live["params"]["drift"] = 0.02
    success = {}
    with served(policy, VlaEval()) as running:
        for ratio in (1.0, 0.125):
            url = f"{running.url}/?keep_ratio={ratio}"
            (result,) = vla_eval.api.run(config(url, tmp_path / str(ratio), **live))
            success[ratio] = result["mean_success"]
    assert success == {1.0: 0.0, 0.125: 1.0}


def test_a_chunk_is_played_one_action_a_reply_and_an_episode_starts_anew():
    policy = SteppedPolicy(chunk_size=3)
    policy.spoil = lambda actions: np.arange(21, dtype=np.float32).reshape(3, 7) + policy._steps
    with (
        served(policy, VlaEval(), robot="metaworld", execute_steps=2) as running,
        connect(running.url) as socket,
    ):
        peer = RawClient(socket)
        peer.send("episode_start", {"task": {"name": "follow"}})
        shape = {**observation(), "images": {"scene": np.zeros((32, 32, 3), np.uint8)}}
        shape["images"]["gripper"] = shape["images"]["scene"]
        first = [peer.act(shape).payload["actions"][0] for _ in range(3)]
        peer.send("episode_end", {})
        peer.send("episode_start", {"task": {"name": "follow"}})
        again = peer.act(shape).payload["actions"][0]
    assert first == [1, 8, 2]  # the second action of the first chunk, then another inference
    assert again == 1  # the history was cleared


def test_hello_says_what_the_policy_wants_to_see():
    with served(SteppedPolicy(), VlaEval()) as running, connect(running.url) as socket:
        peer = RawClient(socket)
        seq = peer.send("hello", {"harness_version": "0.8.0", "protocol_version": 1})
        reported = peer.receive()
    assert (reported.type, reported.seq) == (MessageType.HELLO, seq)
    assert reported.payload["observation_params"]["send_wrist_image"] is True
    assert reported.payload["action_spec"]["gripper"]["format"] == "binary_close_positive"
    assert set(reported.payload["observation_spec"]) == {"agentview", "wrist", "language", "state"}


def test_an_error_keeps_the_connection():
    policy = SteppedPolicy()
    with served(policy, VlaEval()) as running, connect(running.url) as socket:
        peer = RawClient(socket)
        policy.fail = PolicyError("the instruction is too long")
        failed = peer.act(observation())
        refused = peer.act({**observation(), "states": np.zeros(3)})
        fine = peer.act(observation())
    assert failed.type == refused.type == MessageType.ERROR
    assert "too long" in failed.payload["error"]
    assert "3 numbers, the policy takes 8" in refused.payload["error"]
    assert fine.type == MessageType.ACTION


def test_on_a_live_clock_the_newest_observation_is_answered():
    policy = SteppedPolicy(chunk_size=1)
    with served(policy, VlaEval()) as running, connect(running.url) as socket:
        peer = RawClient(socket)
        policy.proceed.clear()
        peer.send("observation", observation(0))
        assert policy.started.wait(10)
        for brightness in (50, 100, 255):
            last = peer.send("observation", observation(brightness))
        handler = running.server.handler
        replaced = handler.metrics.requests.labels("replaced")
        running.until(lambda: replaced._value.get() == 2, "two are overtaken")
        policy.proceed.set()
        answers = [peer.receive(), peer.receive()]
    assert [answer.seq for answer in answers] == [1, last]
    assert answers[1].payload["actions"][1] == 1.0


def test_on_a_live_clock_no_action_of_a_chunk_overtakes_another():
    """The harness plays the newest action of a tick: two answers at once would lose the first."""
    policy = SteppedPolicy(chunk_size=3)
    policy.spoil = lambda actions: np.arange(21, dtype=np.float32).reshape(3, 7)
    with served(policy, VlaEval()) as running, connect(running.url) as socket:
        peer = RawClient(socket)
        policy.proceed.clear()
        first = peer.send("observation", observation(0))
        assert policy.started.wait(10)
        peer.send("observation", observation(50))  # a tick that passed during the inference
        seq = peer.send("hello", {})
        assert peer.receive().seq == seq  # it has been taken in
        policy.proceed.set()
        answers = [peer.receive()]
        answers += [peer.act(observation(100)), peer.act(observation(100))]
    assert answers[0].seq == first
    assert [answer.payload["actions"][0] for answer in answers] == [0, 7, 14]
    assert policy.order == ["follow"]


def test_an_answer_of_the_last_episode_is_not_sent():
    policy = SteppedPolicy(chunk_size=1)
    with served(policy, VlaEval()) as running, connect(running.url) as socket:
        peer = RawClient(socket)
        policy.proceed.clear()
        peer.send("observation", observation(0))
        assert policy.started.wait(10)
        peer.send("episode_start", {"task": {"name": "next"}})
        seq = peer.send("hello", {})
        assert peer.receive().seq == seq  # the episode's start has been taken in
        policy.proceed.set()
        answer = peer.act(observation(255))
    assert answer.payload["actions"][1] == 1.0


def test_many_bad_frames_in_a_row_end_a_connection():
    with served(SteppedPolicy(), VlaEval()) as running, connect(running.url) as socket:
        codes = []

        def read() -> None:
            with suppress(ConnectionClosed):
                for data in socket:
                    codes.append(unpack_message(data).type)

        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(40):
            with suppress(ConnectionClosed):
                socket.send(msgpack.packb({"type": "nothing"}))
        reader.join(10)
        assert socket.close_code == 1008
    assert set(codes) == {MessageType.ERROR}


def test_the_beacon_is_missed_without_a_policy():
    """The benchmark separates good from bad: holding still fails."""
    benchmark = BeaconBenchmark()
    benchmark.reset({"task_id": 0})
    for _ in range(40):
        result = benchmark.step(benchmark.get_hold_action(None))
    assert benchmark.get_step_result(result)["success"] is False
