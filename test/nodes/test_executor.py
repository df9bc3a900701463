"""The executor of our nodes hands each callback over once; rclpy's own piles them up."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import rclpy
from node_helpers import DOMAIN, WAIT
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.context import Context

from vla_pruner_ros.nodes.spin import NodeExecutor, spin_on

THREADS, TIMERS = 2, 12


def test_callbacks_are_handed_over_once_while_all_threads_are_busy(monkeypatch):
    handed: list = []
    submit = ThreadPoolExecutor.submit

    def counting(pool, *call):
        handed.append(call)
        return submit(pool, *call)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", counting)
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = rclpy.create_node("busy", context=context)
    entered, proceed = threading.Semaphore(0), threading.Event()

    def callback() -> None:
        entered.release()
        assert proceed.wait(WAIT)

    groups = [ReentrantCallbackGroup() for _ in range(TIMERS)]
    for number, group in enumerate(groups):
        node.create_timer(0.01 * (1 + number), callback, callback_group=group)
    executor = NodeExecutor(THREADS, context=context)
    executor.add_node(node)
    spinner = threading.Thread(target=spin_on, args=(executor,))
    spinner.start()
    try:
        for _ in range(THREADS):
            assert entered.acquire(timeout=WAIT)
        assert not proceed.wait(0.03 * TIMERS)  # all timers come due meanwhile
        assert len(handed) <= THREADS + 1
        proceed.set()
        for _ in range(TIMERS):
            assert entered.acquire(timeout=WAIT), "the callbacks that had to wait"
    finally:
        proceed.set()
        executor.shutdown()
        spinner.join()
        node.destroy_node()
        context.try_shutdown()
