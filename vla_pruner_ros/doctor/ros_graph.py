"""Checks of the running graph: cameras with their rates and stamps, instruction, the node."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from vla_pruner_ros.doctor.finding import Finding, green, red, yellow

CAMERA, NODE = "camera", "node"
SLOWEST = 2.0
"""Images a second (Hz) below which a camera is called slow."""
OLDEST = 0.5
"""Age of an image (s) at its arrival from which the node drops it by default."""
DISCOVERY = 2.0
"""Seconds that the graph gets to become known."""


@dataclass
class HeardTopic:
    """Images of one topic while the doctor listened: arrivals (s), stamps (s), their form."""

    topic: str
    msgtype: str
    arrivals: list[float] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)
    form: str = ""

    def add(self, message: Any, now: float) -> None:
        """Record the arrival of a message and its age (s) at `now`."""
        stamp = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
        self.arrivals.append(now)
        self.ages.append(now - stamp)
        self.form = _form(message)

    @property
    def rate(self) -> float:
        """Images a second (Hz); 0 if fewer than two came."""
        if len(self.arrivals) < 2:
            return 0.0
        return (len(self.arrivals) - 1) / max(1e-9, self.arrivals[-1] - self.arrivals[0])


def _form(message: Any) -> str:
    if hasattr(message, "encoding"):
        return f"{message.width}x{message.height} {message.encoding}"
    return f"compressed, {message.format}"


def camera_finding(heard: HeardTopic) -> Finding:
    """Judge the images of one topic."""
    if not heard.arrivals:
        return red(
            CAMERA,
            f"{heard.topic} is published, and no image arrived",
            "compare QoS (ros2 topic info -v); large raw images may get lost, see "
            "docs/how-to/run_on_a_robot.md#check-the-cameras",
        )
    age = sorted(heard.ages)[len(heard.ages) // 2]
    text = f"{heard.topic}: {heard.rate:.1f} Hz, {heard.form}, {1e3 * age:.0f} ms old at arrival"
    if abs(age) > OLDEST:
        return red(
            CAMERA,
            text,
            "clocks of camera and robot differ: chrony or PTP; with recorded or simulated time set "
            "use_sim_time",
        )
    if heard.rate < SLOWEST:
        return yellow(CAMERA, text, "raise the camera's rate, or compress: images may get lost")
    return green(CAMERA, text)


class GraphListener:
    """A node that listens for some seconds; use it as a context."""

    def __init__(self, name: str = "vla_pruner_doctor") -> None:
        import rclpy
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor

        self._context = Context()
        rclpy.init(args=[], context=self._context)
        self.node = rclpy.create_node(name, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="doctor")
        self._thread.start()

    def __enter__(self) -> GraphListener:
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.node.destroy_node()
        self._context.try_shutdown()

    def _spin(self) -> None:
        while not self._done.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def image_topics(self) -> dict[str, str]:
        """Return topic -> type of every image topic that somebody publishes."""
        kinds = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
        return {
            topic: next(kind for kind in kinds if kind in types)
            for topic, types in self.node.get_topic_names_and_types()
            if set(kinds) & set(types) and self.node.count_publishers(topic)
        }

    def await_graph(self, wanted: Sequence[str]) -> dict[str, str]:
        """Wait until the wanted topics, or any, are known; return the image topics."""
        deadline = time.monotonic() + DISCOVERY
        while time.monotonic() < deadline:
            found = self.image_topics()
            if found and set(wanted) <= found.keys():
                break
            self._done.wait(0.05)
        return self.image_topics()

    def listen(self, topics: dict[str, str], seconds: float) -> list[HeardTopic]:
        """Listen to image topics for some seconds."""
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import CompressedImage, Image

        heard = [HeardTopic(topic, kind) for topic, kind in topics.items()]
        subscriptions = []
        for one in heard:
            kind = Image if one.msgtype.endswith("/Image") else CompressedImage
            subscriptions.append(
                self.node.create_subscription(
                    kind, one.topic, self._recorder(one), qos_profile_sensor_data
                )
            )
        self._done.wait(seconds)
        for subscription in subscriptions:
            self.node.destroy_subscription(subscription)
        return heard

    def _recorder(self, heard: HeardTopic):
        def record(message: Any) -> None:
            heard.add(message, time.time())

        return record

    def nodes(self) -> list[str]:
        """Return the full names of the vla_pruner nodes."""
        found = self.node.get_node_names_and_namespaces()
        return [f"{space.rstrip('/')}/{name}" for name, space in found if name == "vla_pruner"]


def graph_findings(image_topics: Sequence[str], seconds: float) -> Iterator[Finding]:
    """Yield what is heard on the graph.

    Args:
        image_topics: expected ones; empty: all that are published.
        seconds: to listen.
    """
    wanted = [topic if topic.startswith("/") else f"/{topic}" for topic in image_topics]
    with GraphListener() as listener:
        found = listener.await_graph(wanted)
        for topic in wanted:
            if topic not in found:
                others = ", ".join(sorted(found)) or "none"
                yield red(
                    CAMERA,
                    f"nobody publishes {topic}",
                    f"start the camera, or set image_topics; published are: {others}",
                )
        if not wanted and not found:
            yield red(
                CAMERA,
                "no camera publishes",
                "start its driver; check ROS_DOMAIN_ID and ROS_AUTOMATIC_DISCOVERY_RANGE",
            )
        listened = {topic: kind for topic, kind in found.items() if not wanted or topic in wanted}
        listened = {t: k for t, k in listened.items() if not t.endswith("/vla_pruner/overlay")}
        for heard in listener.listen(listened, seconds) if listened else ():
            yield camera_finding(heard)
        yield from _node_findings(listener)


def _node_findings(listener: GraphListener) -> Iterator[Finding]:
    names = listener.nodes()
    if not names:
        yield yellow(NODE, "no vla_pruner node runs", "start it with vla_pruner_bringup")
    elif len(names) > 1:
        yield red(
            NODE,
            f"several nodes run: {', '.join(names)}",
            "two would drive one arm: end one, or give them namespaces",
        )
    else:
        yield green(NODE, f"{names[0]} runs")
        if not listener.node.count_publishers(f"{names[0].rpartition('/')[0]}/instruction"):
            yield yellow(
                NODE,
                "nobody publishes instruction",
                "publish it, or set the parameter instruction",
            )
