"""A raw image beyond the shared memory of Fast DDS gets lost: our profile cures it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from node_helpers import ControlledPolicy, bench

VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""Variables of Kilted, and of Jazzy and Humble, whose Fast DDS does not read the other one."""
PROFILE = Path(__file__).resolve().parents[2] / "config" / "fastdds_large_images.xml"

CAMERA = """
import sys, time, rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("camera")
publisher = node.create_publisher(Image, "image_raw", qos_profile_sensor_data)
image = Image(height=960, width=1280, encoding="rgb8", step=3840)
image.data = bytes(960 * 3840)
while not publisher.get_subscription_count():
    time.sleep(0.02)
for _ in range(int(sys.argv[1])):
    image.header.stamp = node.get_clock().now().to_msg()
    publisher.publish(image)
    time.sleep(0.1)
sys.stdin.read()  # messages under way die with their publisher
"""


def camera(images: int, profile: Path | None) -> subprocess.Popen:
    """A camera driver in a process of its own: within one process nothing is lost."""
    environment = {k: v for k, v in os.environ.items() if k not in VARIABLES}
    if profile:
        environment |= dict.fromkeys(VARIABLES, str(profile))
    command = [sys.executable, "-c", CAMERA, str(images)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)


@pytest.fixture
def driver():
    children = []

    def start(*arguments):
        children.append(camera(*arguments))

    yield start
    for child in children:
        child.kill()
        child.wait()


def test_images_of_3_megabytes_arrive_from_a_publisher_with_the_profile(driver):
    with bench(ControlledPolicy(), max_image_age=5.0) as b:
        b.activate()
        driver(10, PROFILE)
        b.until(lambda: b.count("frames") >= 9, "nine images of ten", patience=20.0)


def test_lost_images_are_counted(driver):
    with bench(ControlledPolicy()) as b:
        b.activate()
        # Far beyond the default 512 KiB: hardly one gets through.
        driver(40, None)
        b.until(lambda: b.count("frames_lost"), "the count of lost images", patience=20.0)
