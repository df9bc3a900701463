"""Newest frames in, motion out, or a sentence why not: what an active node does."""

from __future__ import annotations

import time
import traceback
from typing import Any

from vla_pruner_ros.control.frames import CameraFrame
from vla_pruner_ros.control.worker import Worker
from vla_pruner_ros.conversions.instruction_and_state import clean_instruction
from vla_pruner_ros.models.execution.device_memory import free_device_memory, is_out_of_memory
from vla_pruner_ros.models.policy import VlaPolicy
from vla_pruner_ros.nodes.vla_pruner.inference import InferenceRunner, Result, Task
from vla_pruner_ros.nodes.vla_pruner.inputs import NodeInputs
from vla_pruner_ros.nodes.vla_pruner.motion import Motion
from vla_pruner_ros.nodes.vla_pruner.not_ready import NotReady
from vla_pruner_ros.nodes.vla_pruner.outputs import Outputs
from vla_pruner_ros.nodes.vla_pruner.readiness import silence

MAX_INSTRUCTION = 1000
"""Characters of an instruction; tasks are sentences, and prompts have a length to fit in."""

PACING = 0.9
"""Inferences start at least this share of a control period apart: cameras jitter."""


class PolicyRunner:
    """Runs a policy on the newest inputs, and stops motion where it cannot be run.

    Threads: executor callbacks store inputs and play actions out; the worker's thread alone calls
    the policy. Between them stand the frame buffer (newest frame only) and the motion gate (nothing
    computed before a reset, instruction, clock jump or deactivation gets through after it).

    instruction: in force, cleaned. waiting: something is missing that may come by itself.
    held: motion stays closed until a person resets or activates again.
    """

    def __init__(self, node: Any, callback_group: Any) -> None:
        """node: has parameters, health and gate."""
        self._node, self._group = node, callback_group
        self._health, self._gate = node.health, node.gate
        self.motion = Motion(
            node, node.gate, node.health, callback_group, self.silence, self.wait_for
        )
        self.outputs = Outputs(node)
        self.policy: VlaPolicy | None = None
        self.inputs: NodeInputs | None = None
        self.instruction = ""
        self.held = self.waiting = False
        self._inference: InferenceRunner | None = None
        self._worker: Worker | None = None
        self._memory = self._sequence = 0
        self._missing: list[str] = []
        self._free_since = float("-inf")

    @property
    def _settings(self) -> Any:
        return self._node.parameters.settings

    # --- Life ---------------------------------------------------------------------------------

    def build(self, policy: VlaPolicy) -> None:
        """Take a policy in and listen; nothing moves before begin()."""
        self._sequence = 0
        self._missing = []
        self.instruction = clean_instruction(self._settings.instruction)
        self.policy = policy
        self._inference = InferenceRunner(policy)
        self._worker = Worker(
            self._infer, self._on_failure, lambda: PACING / self._settings.control_rate
        )
        self.inputs = NodeInputs(
            self._node,
            self._health,
            self._group,
            on_frames=self._worker.wake,
            on_instruction=self.take_instruction,
            on_pose=self.motion.end_effector.store,
            is_listening=lambda: self._gate.is_open,
        )

    def begin(self) -> None:
        """Open the gate, with nothing remembered."""
        self.inputs.frames.clear()
        self.held = False
        self._health.forgive()
        self._memory += 1
        self.motion.start()
        self._gate.open()

    def stop(self) -> None:
        """Send the stop at once; the gate keeps what the worker still computes from following."""
        self.motion.close()
        self.motion.stop_timers()

    def wait_idle(self, patience: float) -> bool:
        """Wait for a running inference; return whether it ended in time."""
        return self._worker is None or self._worker.wait_idle(patience)

    def dismantle(self, patience: float) -> bool:
        """Let go of everything; return whether the worker ended in time."""
        self.outputs.clear()
        ended = self._worker is None or self._worker.stop(patience)
        if self.inputs:
            self.inputs.destroy()
        self._worker = self.inputs = self._inference = self.policy = None
        self.motion.end_effector.clear()
        return ended

    # --- What changes the task ----------------------------------------------------------------

    def take_instruction(self, text: str) -> None:
        instruction = clean_instruction(text)
        if len(instruction) > MAX_INSTRUCTION:
            self._health.count("instructions_refused")
            self._node.get_logger().error(
                f"An instruction of {len(instruction)} characters was refused: at most "
                f"{MAX_INSTRUCTION} are taken. The arm stops; send a shorter one"
            )
            instruction = ""
        # A publisher that repeats itself must not make the policy forget.
        if instruction == self.instruction:
            return
        self.instruction = instruction
        self.clear(f"new instruction: {instruction!r}" if instruction else "no instruction")

    def release(self) -> bool:
        """Forget failures and relevance on a person's word; return whether motion was held."""
        was_held, self.held = self.held, False
        self._health.forgive()
        self.clear("~/reset was called")
        return was_held

    def forget_frames(self) -> None:
        """What was seen before a jump of the clock is worth nothing."""
        if self.inputs:
            self.inputs.frames.clear()
        self.clear("the clock jumped back")

    def clear(self, reason: str) -> None:
        self._memory += 1
        self.motion.halt()
        self._node.get_logger().info(f"Starting anew: {reason}")

    # --- The worker's thread ------------------------------------------------------------------

    def _infer(self) -> None:
        epoch = self._gate.epoch
        task = self._next_task(epoch)
        if task is None:
            return
        try:
            self.motion.check_pose(task.settings)
            result = self._inference.run(task)
        except NotReady as reason:
            self._health.count("frames_unusable")
            self.wait_for(str(reason))
        except Exception:
            # What failed before a reset or in an earlier life is no failure of the present one.
            if epoch == self._gate.epoch:
                raise
            self._health.count("results_discarded")
        else:
            self._deliver(result)
        finally:
            self._free_since = time.monotonic()

    def _next_task(self, epoch: int) -> Task | None:
        inputs = self.inputs
        if inputs is None or self._inference is None or not self._gate.is_open:
            return None
        if not self.instruction:
            self.wait_for("Waiting for an instruction: publish one on the instruction topic")
            return None
        frames = inputs.frames.take()
        if frames is None:
            return None
        self._tell_missing(frames)
        return Task(
            frames,
            self.instruction,
            inputs.joint_state,
            inputs.joint_state_arrival,
            self._settings,
            epoch,
            self._memory,
            self._node.get_clock().now().nanoseconds,
        )

    def _tell_missing(self, frames: list[CameraFrame | None]) -> None:
        topics = self._settings.image_topics
        missing = [topic for topic, frame in zip(topics, frames, strict=True) if frame is None]
        if missing != self._missing:
            sentence = f"Going on without {', '.join(missing)}" if missing else "All cameras again"
            self._node.get_logger().warning(sentence)
        self._missing = missing

    def _deliver(self, result: Result) -> None:
        task, sequence = result.task, self._sequence
        # Counted even if discarded: the policy remembers it, and a replay must know that it is not
        # in the bag.
        self._sequence += 1
        queue = (self.motion.queue_length, self.motion.queue_age())
        with self._gate.passing(task.epoch) as may_pass:
            if not may_pass:
                self._health.count("results_discarded")
                return
            self._health.succeeded()
            self.waiting = False
            self.motion.submit(self.outputs.plan(result, sequence))
            self._record(result)
            self.outputs.publish(result, sequence, self.policy, queue)

    def _record(self, result: Result) -> None:
        # A frame that came while the policy was busy waited for the policy, not for the node.
        arrival = max(frame.arrival for frame in result.task.present)
        overhead = time.monotonic() - max(arrival, self._free_since) - result.seconds
        limit = result.task.settings.pruning.target_latency
        self._health.record(result.seconds, overhead, limit)

    def _on_failure(self, error: Exception) -> None:
        logger = self._node.get_logger()
        self.waiting = False
        in_a_row = self._health.failed(str(error))
        logger.error(f"Inference failed ({in_a_row} in a row): {error}", throttle_duration_sec=1.0)
        logger.debug("".join(traceback.format_exception(error)))
        self.motion.halt()
        if is_out_of_memory(error):
            # The traceback's frames hold the tensors that a failed allocation could be made from.
            # Only then: collecting takes long enough to disturb the timers that play actions.
            traceback.clear_frames(error.__traceback__)
            free_device_memory()
        if in_a_row >= self._settings.max_consecutive_failures and not self.held:
            self.held = True
            self.motion.close()
            logger.error("Motion is held until ~/reset is called or the node is activated again")

    # --- Watching -----------------------------------------------------------------------------

    def watch(self) -> None:
        """Stop motion where an input fell silent while no inference looked at it."""
        if not self._gate.is_open or (self.waiting and not self.motion.moving):
            return
        silent = self.silence()
        if silent:
            self.wait_for(silent)

    def silence(self) -> str:
        """Return a sentence about an input that fell silent, empty where all arrive."""
        inputs, policy = self.inputs, self.policy
        if inputs is None or policy is None:
            return "The node is being taken down"
        return silence(inputs, self.motion.end_effector, self._settings, policy.state_dim > 0)

    def wait_for(self, sentence: str) -> None:
        """Stop motion until what the sentence names is there."""
        self.waiting = True
        if self._health.set_problem(sentence):
            self._node.get_logger().warning(sentence)
        self.motion.halt()
