"""The recorder node on an executor of its own, and the player on a thread."""

from __future__ import annotations

import threading
from contextlib import contextmanager

from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter

from vla_pruner_ros.nodes.player import PlayerNode
from vla_pruner_ros.nodes.recorder import RecorderNode


@contextmanager
def recorder(context: Context, output, **parameters):
    """Record on an executor of its own, which is joined before the bag is closed."""
    values = {"output": str(output), **parameters}
    node = RecorderNode(
        context=context, parameter_overrides=[Parameter(k, value=v) for k, v in values.items()]
    )
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    spinner = threading.Thread(target=executor.spin)
    spinner.start()
    try:
        yield node
    finally:
        executor.shutdown()
        spinner.join()
        node.close()
        node.destroy_node()


@contextmanager
def playing(context: Context, bag, **parameters):
    """Play on a thread of its own until the end of the context."""
    values = {"bag": str(bag), "delay": 0.2, **parameters}
    player = PlayerNode(
        context=context, parameter_overrides=[Parameter(k, value=v) for k, v in values.items()]
    )
    stop = threading.Event()
    thread = threading.Thread(target=player.play, args=(stop.wait,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        player.destroy_node()
