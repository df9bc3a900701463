"""The live page: what it shows, what it commands, who may command, and a real browser."""

from __future__ import annotations

import http.client
import io
import json
import shutil
import subprocess
import time
from contextlib import contextmanager
from urllib.request import urlopen

import pytest
from PIL import Image

from vla_pruner_ros.dashboard import cli
from vla_pruner_ros.dashboard.server import TOKEN, Dashboard

PATIENCE = 60.0


class ShownRobot:
    """A Robot that remembers its commands."""

    def __init__(self) -> None:
        self.commands: list[tuple] = []
        buffer = io.BytesIO()
        Image.new("RGB", (32, 16), (10, 200, 30)).save(buffer, "JPEG")
        self.jpeg = buffer.getvalue()

    def state(self):
        return {"tokens": "64 of 256", "latency": "42", "instruction": "open <the> door",
                "keep_ratio": 0.5, "health": "Running", "sequence": "7"}  # fmt: skip

    def overlay(self):
        return self.jpeg

    def set_keep_ratio(self, value):
        if value == 0.95:
            raise ValueError("the node refuses 0.95")
        self.commands.append(("keep_ratio", value))

    def instruct(self, text):
        self.commands.append(("instruction", text))

    def hold(self):
        self.commands.append(("hold",))

    def reset(self):
        self.commands.append(("reset",))


@pytest.fixture
def robot():
    return ShownRobot()


@pytest.fixture
def dashboard(robot):
    with Dashboard(robot) as running:
        yield running


def ask(dashboard, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", dashboard.port, timeout=10)
    connection.request(method, path, body if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def command(dashboard, name, value=None, token=None):
    token = dashboard.token if token is None else token
    return ask(dashboard, "POST", f"/{name}", value, **{TOKEN: token})


def test_state_overlay_and_page_are_served(dashboard, robot):
    assert json.loads(ask(dashboard, "GET", "/state")[1]) == robot.state()
    assert ask(dashboard, "GET", "/overlay.jpg?7") == (200, robot.jpeg)
    status, page = ask(dashboard, "GET", "/")
    assert status == 200
    assert dashboard.token.encode() in page
    assert b"@TOKEN@" not in page
    assert b"http://" not in page
    assert b"https://" not in page
    assert ask(dashboard, "GET", "/etc/passwd")[0] == 404
    robot.jpeg = b""
    assert ask(dashboard, "GET", "/overlay.jpg")[0] == 204


def test_commands_reach_the_robot(dashboard, robot):
    for name, value in (("keep_ratio", 0.3), ("instruction", " open it "), ("hold", None),
                        ("reset", None)):  # fmt: skip
        assert command(dashboard, name, value)[0] == 200
    assert robot.commands == [("keep_ratio", 0.3), ("instruction", "open it"), ("hold",),
                              ("reset",)]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("keep_ratio", 1.5, "at most 1"),
        ("keep_ratio", "0.5", "at most 1"),
        ("keep_ratio", True, "at most 1"),
        ("keep_ratio", 0.95, "the node refuses 0.95"),
        ("instruction", "", "1 to 1000 characters"),
        ("instruction", "x" * 1001, "1 to 1000 characters"),
        ("instruction", "x" * 5000, "at most 4096 bytes"),
    ],
)
def test_a_wrong_command_is_refused_with_a_reason(dashboard, robot, name, value, words):
    status, content = command(dashboard, name, value)
    assert status == 400
    assert words in json.loads(content)["error"]
    assert not robot.commands


def test_another_site_cannot_move_the_arm(dashboard, robot):
    assert command(dashboard, "hold", token="")[0] == 403
    assert command(dashboard, "hold", token="x" * 32)[0] == 403
    foreign = {TOKEN: dashboard.token, "Host": f"evil.example:{dashboard.port}"}
    assert ask(dashboard, "POST", "/hold", None, **foreign)[0] == 403
    assert ask(dashboard, "GET", "/", Host="evil.example:80")[0] == 403
    assert not robot.commands


def test_it_does_not_listen_beyond_loopback_unasked(capsys):
    assert cli.main(["--host", "0.0.0.0"]) == 2
    assert "anyone there could move the arm" in capsys.readouterr().err


@contextmanager
def browser(address, profile):
    """Open a page in Chromium; yields a function that evaluates JavaScript in it."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("Chromium is not installed: the page is not tried in a browser")
    client = pytest.importorskip("websockets.sync.client", reason="websockets drives Chromium")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    options += ["--remote-debugging-port=0", f"--user-data-dir={profile}"]
    process = subprocess.Popen([chromium, *options, address], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE
        port = profile / "DevToolsActivePort"
        while not (port.exists() and port.read_text().strip()):
            assert time.monotonic() < deadline, "Chromium did not start"
            assert process.poll() is None, "Chromium ended"
            time.sleep(0.05)
        with urlopen(f"http://127.0.0.1:{port.read_text().split()[0]}/json", timeout=20) as answer:
            [page] = [one for one in json.load(answer) if one["type"] == "page"]
        with client.connect(page["webSocketDebuggerUrl"], proxy=None) as socket:

            def evaluate(script):
                request = {"id": 1, "method": "Runtime.evaluate",
                           "params": {"expression": script, "returnByValue": True}}  # fmt: skip
                socket.send(json.dumps(request))
                while "result" not in (answer := json.loads(socket.recv(timeout=PATIENCE))):
                    pass
                return answer["result"]["result"].get("value")

            yield evaluate
    finally:
        process.kill()
        process.wait()


def until(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.mark.realtime
@pytest.mark.slow
def test_the_page_in_a_real_browser(dashboard, robot, tmp_path):
    with browser(dashboard.address, tmp_path / "profile") as evaluate:
        text = lambda name: evaluate(f"document.getElementById('{name}')?.textContent")
        until(lambda: text("tokens") == "64 of 256", "the tokens are not shown")
        assert (text("latency"), text("health")) == ("42", "Running")
        assert text("instruction") == "open <the> door"
        assert evaluate("ratio.value") == "0.5"
        until(lambda: evaluate("overlay.naturalWidth") == 32, "the overlay is not shown")
        evaluate("ratio.value = 0.3; ratio.dispatchEvent(new Event('change'))")
        until(lambda: ("keep_ratio", 0.3) in robot.commands, "the slider sets nothing")
        evaluate("document.getElementById('text').value = 'close it'; words.requestSubmit()")
        until(lambda: ("instruction", "close it") in robot.commands, "no instruction came")
        evaluate("hold.click()")
        evaluate("reset.click()")
        until(lambda: {("hold",), ("reset",)} <= set(robot.commands), "buttons do nothing")
        evaluate("ratio.value = 0.95; ratio.dispatchEvent(new Event('change'))")
        until(lambda: text("message") == "the node refuses 0.95", "the refusal is not shown")
