"""Checks of the ROS 2 installation and its environment; nothing of rclpy is imported."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from vla_pruner_ros.doctor.finding import Finding, examine, green, red, yellow

AREA = "ROS 2"
HIGHEST_DOMAIN = 101
"""Above it, DDS ports meet those that Linux gives to programs (32768 and up)."""
RECEIVE_BUFFER = 2**21
"""Bytes of a socket's receive buffer that a raw image over UDP needs."""
LARGE_IMAGES = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"
ON_THIS_MACHINE = ("LOCALHOST", "OFF")


def has_ros() -> bool:
    """Return whether rclpy and this package's messages can be imported."""
    return find_spec("rclpy") is not None and find_spec("vla_pruner_ros.msg") is not None


def setup_findings(environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Yield what the installation and the environment say."""
    yield from examine(AREA, [_installed, partial(_domain, environment)])
    if find_spec("rclpy") is not None:
        checks = [partial(_middleware, environment), partial(_buffers, environment)]
        yield from examine("DDS", checks)


def _installed() -> Iterator[Finding]:
    if find_spec("rclpy") is None:
        yield yellow(
            AREA,
            "rclpy was not found: no node can run here",
            "source /opt/ros/<distribution>/setup.sh; vla_pruner_replay works without it",
        )
    elif find_spec("vla_pruner_ros.msg") is None:
        yield red(
            AREA,
            "this package's messages are not built",
            "build with colcon, then source install/setup.sh",
        )
    else:
        name = os.environ.get("ROS_DISTRO") or "unnamed distribution (ROS_DISTRO is not set)"
        yield green(AREA, f"rclpy and the messages are there: {name}")


def _domain(environment: Mapping[str, str]) -> Iterator[Finding]:
    text = environment.get("ROS_DOMAIN_ID", "0") or "0"
    where = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    if environment.get("ROS_LOCALHOST_ONLY") == "1":
        where = "LOCALHOST"
    if not text.isdigit():
        yield red(AREA, f"ROS_DOMAIN_ID is {text!r}", "set it to a number from 0 to 101")
    elif int(text) > HIGHEST_DOMAIN:
        yield yellow(AREA, f"ROS_DOMAIN_ID is {text}", "use 0 to 101: higher ports may be taken")
    else:
        yield green(AREA, f"domain {text}, discovery range {where}")
    if where in ON_THIS_MACHINE:
        yield yellow(
            AREA,
            f"discovery range {where}: other computers are not seen",
            "fine on one computer; else set ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET",
        )


def _middleware(environment: Mapping[str, str]) -> Iterator[Finding]:
    name = environment.get("RMW_IMPLEMENTATION") or "rmw_fastrtps_cpp"
    if "fastrtps" in name and not any(environment.get(one) for one in LARGE_IMAGES):
        yield yellow(
            "DDS",
            f"{name} hands over images through 512 KiB of shared memory: larger ones get lost",
            f"set {LARGE_IMAGES[0]} for the camera's process, see "
            "docs/how-to/run_on_a_robot.md#check-the-cameras",
        )
    else:
        yield green("DDS", name)


def _buffers(environment: Mapping[str, str]) -> Iterator[Finding]:
    path = Path("/proc/sys/net/core/rmem_max")
    if not path.exists():
        return
    size = int(path.read_text())
    if size < RECEIVE_BUFFER:
        yield yellow(
            "DDS",
            f"net.core.rmem_max is {size} bytes: raw images from another computer get lost",
            f"sudo sysctl -w net.core.rmem_max={RECEIVE_BUFFER}, or send compressed images",
        )
    else:
        yield green("DDS", f"net.core.rmem_max is {size} bytes")
