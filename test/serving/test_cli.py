"""The executable: it loads, serves real weights, drains on SIGTERM and refuses with a sentence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
from model_helpers import checkpoints  # noqa: F401
from serving_helpers import libero

pytest.importorskip("openpi_client", reason="openpi-client is not installed: make setup brings it")
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used:DeprecationWarning")

from openpi_client.websocket_client_policy import WebsocketClientPolicy

from vla_pruner_ros.serving import cli

COMMAND = (sys.executable, "-m", "vla_pruner_ros.serving.cli")


def start(directory, *arguments: str) -> tuple[subprocess.Popen, str]:
    """Start a server process; returns it and its address."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(
        [*COMMAND, "--checkpoint", str(directory), "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    line = process.stdout.readline()
    assert line.startswith("Serving"), line + process.stderr.read()
    return process, line.split()[-1]


def test_real_weights_are_served_and_a_sigterm_ends_the_process(checkpoints):  # noqa: F811
    process, url = start(
        checkpoints("openvla_oft"), "--robot", "franka_libero", "--keep-ratio", "0.5"
    )
    try:
        peer = WebsocketClientPolicy(url)
        replies = [peer.infer(libero(brightness)) for brightness in (0, 250, 250, 250, 250)]
        page = url.replace("ws://", "http://")
        with urllib.request.urlopen(f"{page}/health") as answer:
            assert json.load(answer) == {"status": "ok"}
        with urllib.request.urlopen(f"{page}/metrics") as answer:
            metrics = answer.read().decode()
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, log
    assert "Drained" in log
    assert replies[0]["actions"].shape == (8, 7)
    assert not np.array_equal(replies[0]["actions"], replies[1]["actions"])
    assert set(np.unique(replies[0]["actions"][:, -1])) <= {-1.0, 1.0}
    assert [reply["pruning"]["history_length"] for reply in replies] == [0, 1, 2, 3, 3]
    assert replies[-1]["pruning"]["tokens_kept"] == 256
    assert sum(len(kept) for kept in replies[-1]["pruning"]["kept_indices"]) == 256
    assert 'requests_total{outcome="ok"} 5.0' in metrics
    assert 'client_requests{client="1"} 5.0' in metrics


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--robot", "nobody"], "neither a file nor a bundled profile"),
        (["--robot", "franka_libero", "--host", "0.0.0.0"], "there is no API key"),
        (["--robot", "franka_libero", "--keep-ratio", "7"], "keep_ratio must be at most 1"),
        (["--robot", "franka_libero", "--set", "keep=1"], "'keep=1' is not NAME=VALUE"),
        (["--robot", "franka_libero", "--set", "seed=x"], "seed takes a int, got 'x'"),
        (["--robot", "franka_libero", "--api-key-file", "/nowhere"], "/nowhere"),
        (["--robot", "aloha"], "state of 8 numbers, the profile aloha gives 14"),
    ],
)
def test_a_bad_command_line_is_refused_in_a_sentence(
    checkpoints,  # noqa: F811
    capsys,
    arguments,
    sentence,
):
    directory = str(checkpoints("openvla_oft"))
    assert cli.main(["--checkpoint", directory, "--port", "0", *arguments]) == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert "Traceback" not in printed
