"""vla_pruner: camera images and an instruction in, end-effector actions of a pruned VLA out."""

from __future__ import annotations

import functools
import gc
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_srvs.srv import Trigger

from vla_pruner_ros.control.gate import MotionGate
from vla_pruner_ros.control.health import Health
from vla_pruner_ros.control.worker import Worker
from vla_pruner_ros.models.policy import VlaPolicy
from vla_pruner_ros.nodes.diagnostics import diagnostics_message, judge
from vla_pruner_ros.nodes.inference import Inference, NotReady, Result, Task
from vla_pruner_ros.nodes.inputs import Inputs
from vla_pruner_ros.nodes.motion import Motion
from vla_pruner_ros.nodes.outputs import Outputs
from vla_pruner_ros.nodes.parameters import LiveParameters, Settings
from vla_pruner_ros.nodes.policy_loading import check_policy, load_from_settings, warm_up
from vla_pruner_ros.nodes.spin import run_node
from vla_pruner_ros.nodes.watchdog import silence
from vla_pruner_ros.observation import clean_instruction

MAX_INSTRUCTION = 1000
"""Characters of an instruction; tasks are sentences, and prompts have a length to fit in."""

WATCHDOG_PERIOD = 0.05
PACING = 0.9
"""Inferences start at least this share of a control period apart: cameras jitter."""

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


def transition(callback: Callable) -> Callable:
    """Log what a transition raises, with its traceback: rclpy would swallow it."""

    @functools.wraps(callback)
    def wrapped(self: VlaPrunerNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return callback(self, state)
        except Exception as error:
            name = callback.__name__.removeprefix("on_")
            self.health.set_problem(str(error))
            self.get_logger().error(f"{name} failed: {error}\n{traceback.format_exc()}")
            return TransitionCallbackReturn.ERROR

    return wrapped


class VlaPrunerNode(LifecycleNode):
    """A managed node around one VlaPolicy.

    Threads: executor callbacks store inputs and play actions out; the worker's thread alone calls
    the policy. Between them stand the frame buffer (newest frame only) and the motion gate (nothing
    computed before a reset, instruction, clock jump or deactivation gets through after it).
    """

    def __init__(
        self,
        name: str = "vla_pruner",
        load: Callable[[Settings], VlaPolicy] = load_from_settings,
        **node_options: Any,
    ) -> None:
        super().__init__(name, **node_options)
        self._load = load
        self.parameters = LiveParameters(self, self._on_parameters)
        self.health = Health()
        self.gate = MotionGate()
        self._inputs_group = ReentrantCallbackGroup()
        timers_group = MutuallyExclusiveCallbackGroup()
        self.motion = Motion(self, self.gate, self.health, self._inputs_group)
        self.outputs = Outputs(self)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_service(Trigger, "~/reset", self._on_reset)
        # Steady time: a simulated clock that stands still must not stop the watchdog.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        for period, callback in ((WATCHDOG_PERIOD, self._watch), (1.0, self._report)):
            self.create_timer(period, callback, callback_group=timers_group, clock=steady)
        self._clock_jump = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True
            ),
            post_callback=self._on_clock_jump,
        )
        self._instruction = ""
        self._memory = 0
        self._sequence = 0
        self._held = False
        self._waiting = False
        self._frames_awaited_since = 0.0
        self._lifecycle = "unconfigured"
        self._inputs: Inputs | None = None
        self._inference: Inference | None = None
        self._worker: Worker | None = None
        self._counts_reported: dict[str, int] = {}
        self._last_level = b""

    # --- Transitions -------------------------------------------------------------------------

    @transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        settings = self.parameters.settings
        try:
            policy = self._load_checked(settings)
        except Exception as error:  # whatever a checkpoint brings: stay unconfigured and say why
            self.health.set_problem(str(error))
            self.get_logger().error(f"configure failed: {error}")
            self.get_logger().debug(traceback.format_exc())
            traceback.clear_frames(error.__traceback__)
            _free_device_memory()
            return FAILURE
        self._build(policy, settings)
        self.parameters.configured = True
        self._lifecycle = "inactive"
        return super().on_configure(state)

    @transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        super().on_activate(state)
        self._inputs.frames.clear()
        self._held = False
        self.health.forgive()
        self._memory += 1
        self.motion.start()
        self.gate.open()
        self._frames_awaited_since = time.monotonic()
        self._lifecycle = "active"
        self.get_logger().info(
            f"Active, instruction: {self._instruction!r}"
            if self._instruction
            else "Active, waiting for an instruction"
        )
        return SUCCESS

    @transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_moving()
        if self._worker and not self._worker.wait_idle(self._patience):
            self._warn_of_hanging()
        return super().on_deactivate(state)

    @transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._dismantle()
        self.health.forgive()
        return super().on_cleanup(state)

    @transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_moving()
        self._dismantle()
        self._lifecycle = "finalized"
        return super().on_shutdown(state)

    @transition
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_moving()
        self._dismantle()
        super().on_error(state)
        return SUCCESS

    def close(self) -> None:
        """Stop motion and free everything, while publishing still works."""
        self._stop_moving()
        self._dismantle()

    # --- Building and taking down -------------------------------------------------------------

    def _load_checked(self, settings: Settings) -> VlaPolicy:
        started = time.monotonic()
        policy = self._load(settings)
        check_policy(policy, settings)
        if not warm_up(policy, settings.instruction):
            self.get_logger().warning(
                "The policy gave the same action for a black and a white image: it may be ignoring "
                "the camera. Check the checkpoint before letting it drive an arm"
            )
        if not policy.trained:
            self.get_logger().warning("The weights are UNTRAINED: the actions mean nothing")
        seconds = time.monotonic() - started
        self.get_logger().info(f"Loaded a {policy.family} policy in {seconds:.1f} s")
        return policy

    def _build(self, policy: VlaPolicy, settings: Settings) -> None:
        self.health.clear()
        self._counts_reported = {}
        self._sequence = 0
        self._instruction = clean_instruction(settings.instruction)
        self._inference = Inference(policy)
        self._worker = Worker(
            self._infer, self._on_failure, lambda: PACING / self.parameters.settings.control_rate
        )
        self._inputs = Inputs(
            self,
            self.health,
            self._inputs_group,
            on_frames=self._worker.wake,
            on_instruction=self._on_instruction,
            on_pose=self.motion.end_effector.store,
            is_listening=lambda: self.gate.is_open,
        )

    def _stop_moving(self) -> None:
        # The stop goes out at once; the gate keeps what the worker still computes from following.
        self.motion.close()
        self.motion.stop_timers()
        if self._lifecycle == "active":
            self._lifecycle = "inactive"

    def _warn_of_hanging(self) -> None:
        self.get_logger().warning("An inference is still running; its result will be dropped")

    def _dismantle(self) -> None:
        self.outputs.forget()
        if self._worker and not self._worker.stop(self._patience):
            self._warn_of_hanging()
        if self._inputs:
            self._inputs.destroy()
        self._worker = self._inputs = self._inference = None
        self.motion.end_effector.forget()
        self.parameters.configured = False
        self._lifecycle = "unconfigured"
        _free_device_memory()

    @property
    def _patience(self) -> float:
        return self.parameters.settings.transition_timeout

    # --- What changes the task ----------------------------------------------------------------

    def _on_instruction(self, text: str) -> None:
        instruction = clean_instruction(text)
        if len(instruction) > MAX_INSTRUCTION:
            self.health.count("instructions_refused")
            self.get_logger().error(
                f"An instruction of {len(instruction)} characters was refused: at most "
                f"{MAX_INSTRUCTION} are taken. The arm stops; send a shorter one"
            )
            instruction = ""
        # A publisher that repeats itself must not make the policy forget.
        if instruction == self._instruction:
            return
        self._instruction = instruction
        self._forget(f"new instruction: {instruction!r}" if instruction else "no instruction")

    def _on_parameters(self, changes: dict[str, Any]) -> None:
        if "instruction" in changes and self._inputs:
            self._on_instruction(changes["instruction"])

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        was_held, self._held = self._held, False
        self.health.forgive()
        self._forget("~/reset was called")
        if was_held and self._lifecycle == "active":
            self.gate.open()
        response.success = True
        response.message = "relevance forgotten" + (", hold released" if was_held else "")
        return response

    def _on_clock_jump(self, _: Any) -> None:
        if self._inputs:
            self._inputs.frames.clear()
        self._frames_awaited_since = time.monotonic()
        self._forget("the clock jumped back")

    def _forget(self, reason: str) -> None:
        self._memory += 1
        self.motion.halt()
        self.get_logger().info(f"Starting anew: {reason}")

    # --- The worker's thread ------------------------------------------------------------------

    def _infer(self) -> None:
        inputs, inference = self._inputs, self._inference
        epoch = self.gate.epoch
        if inputs is None or inference is None or not self.gate.is_open:
            return
        if not self._instruction:
            self._wait_for("Waiting for an instruction: publish one on the instruction topic")
            return
        frames = inputs.frames.take()
        if frames is None:
            return
        task = Task(
            frames,
            self._instruction,
            inputs.joint_state,
            inputs.joint_state_arrival,
            self.parameters.settings,
            epoch,
            self._memory,
            self.get_clock().now().nanoseconds,
        )
        try:
            self.motion.check_pose(task.settings)
            result = inference.run(task)
        except NotReady as reason:
            self.health.count("frames_unusable")
            self._wait_for(str(reason))
        except Exception:
            # What failed before a reset or in an earlier life is no failure of the present one.
            if epoch == self.gate.epoch:
                raise
            self.health.count("results_discarded")
        else:
            self._deliver(result)

    def _deliver(self, result: Result) -> None:
        task, sequence = result.task, self._sequence
        # Counted even if discarded: the policy remembers it, and a replay must know that it is not
        # in the bag.
        self._sequence += 1
        queue = (self.motion.queue_length, self.motion.queue_age())
        with self.gate.passing(task.epoch) as may_pass:
            if not may_pass:
                self.health.count("results_discarded")
                return
            self.health.succeeded()
            self._waiting = False
            self.motion.submit(self.outputs.plan(result, sequence))
            arrival = max(frame.arrival for frame in task.frames)
            overhead = time.monotonic() - arrival - result.seconds
            self.health.record(result.seconds, overhead, task.settings.pruning.target_latency)
            self.outputs.publish(result, sequence, self._inference.policy, queue)

    def _wait_for(self, sentence: str) -> None:
        self._waiting = True
        if self.health.set_problem(sentence):
            self.get_logger().warning(sentence)
        self.motion.halt()

    def _on_failure(self, error: Exception) -> None:
        self._waiting = False
        in_a_row = self.health.failed(str(error))
        self.get_logger().error(
            f"Inference failed ({in_a_row} in a row): {error}", throttle_duration_sec=1.0
        )
        self.get_logger().debug("".join(traceback.format_exception(error)))
        self.motion.halt()
        if _is_out_of_memory(error):
            # The traceback's frames hold the tensors that a failed allocation could be made from.
            # Only then: collecting takes long enough to disturb the timers that play actions.
            traceback.clear_frames(error.__traceback__)
            _free_device_memory()
        if in_a_row >= self.parameters.settings.max_consecutive_failures and not self._held:
            self._held = True
            self.motion.close()
            self.get_logger().error(
                "Motion is held until ~/reset is called or the node is activated again"
            )

    # --- Watching -----------------------------------------------------------------------------

    def _watch(self) -> None:
        inputs, inference = self._inputs, self._inference
        if inputs is None or inference is None or not self.gate.is_open:
            return
        if not self.motion.moving and self._waiting:
            return
        settings, needs_state = self.parameters.settings, inference.policy.state_dim > 0
        since = self._frames_awaited_since
        silent = silence(inputs, self.motion.end_effector, settings, needs_state, since)
        if silent:
            self._wait_for(silent)

    def _report(self) -> None:
        state = self.state()
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(diagnostics_message(state, self.get_name(), stamp))
        level, sentence = judge(state)
        if level != self._last_level:
            self.get_logger().info(f"Diagnostics: {sentence}")
        self._last_level = level

    def state(self) -> dict[str, Any]:
        """Return what diagnostics show; `new` holds the counts since the last call."""
        counts = self.health.counts()
        new = {k: v - self._counts_reported.get(k, 0) for k, v in counts.items()}
        self._counts_reported = counts
        inference, inputs = self._inference, self._inputs
        pruning = self.parameters.settings.pruning
        return {
            "lifecycle": self._lifecycle,
            "held": self._held,
            "waiting": self._waiting,
            "problem": self.health.problem,
            "instruction": self._instruction,
            "model": inference.policy.family if inference else "",
            "trained": inference.policy.trained if inference else None,
            "pruner": pruning.pruner,
            "keep_ratio": pruning.keep_ratio,
            "budget_mode": pruning.budget_mode,
            "frame_age": [-1.0 if a is None else a for a in inputs.camera_ages()] if inputs else [],
            "camera_spread": inputs.frames.spread() if inputs else 0.0,
            "latency_p50": self.health.latency.percentile(50),
            "latency_p95": self.health.latency.percentile(95),
            "overhead_p50": self.health.overhead.percentile(50),
            "overhead_p95": self.health.overhead.percentile(95),
            **self.outputs.tokens,
            "queue_length": self.motion.queue_length,
            "device_memory_mb": _device_memory_mb(),
            "counts": counts,
            "new": {k: v for k, v in new.items() if v},
        }


def _is_out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    return isinstance(error, MemoryError) or bool(
        torch and isinstance(error, torch.OutOfMemoryError)
    )


def _free_device_memory() -> None:
    torch = sys.modules.get("torch")
    gc.collect()
    if torch and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _device_memory_mb() -> float:
    torch = sys.modules.get("torch")
    used = torch.cuda.memory_allocated() if torch and torch.cuda.is_available() else 0
    return used / 2**20


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM."""
    return run_node(VlaPrunerNode, args)
