"""Newest frames in, motion out, or a sentence why not: the work of an active node."""

from __future__ import annotations

import time
import traceback
from typing import Any

from vla_pruner_ros.control.frames import CameraFrame
from vla_pruner_ros.control.worker import Worker
from vla_pruner_ros.conversions.instruction_and_state import clean_instruction
from vla_pruner_ros.models.execution.device_memory import free_device_memory, is_out_of_memory
from vla_pruner_ros.models.policy import InputError, VlaPolicy
from vla_pruner_ros.nodes.vla_pruner.host import Host
from vla_pruner_ros.nodes.vla_pruner.inference import InferenceRunner, Result, Task
from vla_pruner_ros.nodes.vla_pruner.inputs import NodeInputs
from vla_pruner_ros.nodes.vla_pruner.motion import Motion
from vla_pruner_ros.nodes.vla_pruner.outputs import Outputs
from vla_pruner_ros.nodes.vla_pruner.parameters import NodeSettings
from vla_pruner_ros.nodes.vla_pruner.readiness import Readiness, Reason
from vla_pruner_ros.robots import RobotProfile

MAX_INSTRUCTION = 1000
"""Characters of an instruction; tasks are sentences, and prompts have a length to fit in."""

PACING = 0.9
"""Inferences start at least this share of a control period apart: cameras jitter."""


class PolicyRunner:
    """Runs a policy on the newest inputs, and stops motion where it cannot be run.

    Threads: executor callbacks store inputs and play actions out; the worker's thread alone calls
    the policy. Between them stand the frame buffer (newest frame only) and the motion gate (nothing
    computed before a reset, instruction, clock jump or deactivation gets through after it).

    instruction: in force, cleaned. held: motion stays closed until a person resets or activates
    again. readiness: None while not configured. profile: what the policy's numbers mean on the
    robot, None if unknown (a dry run).
    """

    def __init__(self, node: Host, callback_group: Any) -> None:
        self._node, self._group = node, callback_group
        self._health, self._gate = node.health, node.gate
        self.motion = Motion(node, callback_group)
        self.outputs = Outputs(node)
        self.policy: VlaPolicy | None = None
        self.profile: RobotProfile | None = None
        self.inputs: NodeInputs | None = None
        self.readiness: Readiness | None = None
        self._instruction = ""
        self.held = False
        self._inference: InferenceRunner | None = None
        self._worker: Worker | None = None
        self._memory = self._sequence = 0
        self._missing: list[str] = []
        self._free_since = float("-inf")

    @property
    def _settings(self) -> NodeSettings:
        return self._node.parameters.settings

    @property
    def instruction(self) -> str:
        """The instruction in force, empty if there is none."""
        return self._instruction

    @instruction.setter
    def instruction(self, text: str) -> None:
        with self._gate.lock:
            self._instruction = text
            if self.readiness:
                self.readiness.instruction = text

    # --- Life ---------------------------------------------------------------------------------

    def build(self, policy: VlaPolicy, profile: RobotProfile | None) -> None:
        """Take a policy in and listen; nothing moves before begin().

        Raises:
            ValueError: the profile's URDF or the gripper's action cannot be used.
        """
        self._sequence = 0
        self._missing = []
        self.policy, self.profile = policy, profile
        self._inference = InferenceRunner(policy, profile)
        # Before the inputs: a latched instruction may arrive as soon as they listen.
        self.instruction = self._accepted(self._settings.instruction)
        self._start_worker()
        self.inputs = NodeInputs(
            self._node,
            self._group,
            on_frames=lambda: self._worker.wake(),
            on_instruction=self.take_instruction,
        )
        self.readiness = Readiness(
            self.inputs,
            self._node.parameters,
            self._node.motion_clock,
            policy.state_dim > 0,
            profile,
        )
        with self._gate.lock:
            self.readiness.instruction = self._instruction
        self.motion.build(self.readiness, self._settings.dry_run)

    def _start_worker(self) -> None:
        self._worker = Worker(
            self._infer, self._on_failure, lambda: PACING / self._settings.control_rate
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
        """Begin the stop at once; the gate keeps what the worker still computes from following."""
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
        if hasattr(self.policy, "close"):  # a policy on a server
            self.policy.close()
        self.motion.dismantle()
        self._worker = self.inputs = self.readiness = self._inference = None
        self.policy = self.profile = None
        return ended

    # --- What changes the task ----------------------------------------------------------------

    def take_instruction(self, text: str) -> None:
        """Follow an instruction from now on; one that cannot be followed stops the arm."""
        instruction = self._accepted(text)
        # A repeated instruction must not clear the history.
        if instruction == self.instruction:
            return
        self.instruction = instruction
        self.clear(f"new instruction: {instruction!r}" if instruction else "no instruction")

    def _accepted(self, text: str) -> str:
        """Return an instruction cleaned, "" if it cannot be followed."""
        instruction = clean_instruction(text)
        refused = self._why_refused(instruction) if instruction else ""
        if not refused:
            return instruction
        self._health.count("instructions_refused")
        self._node.log.error(f"An instruction was refused, the arm stops: {refused}")
        return ""

    def _why_refused(self, instruction: str) -> str:
        if len(instruction) > MAX_INSTRUCTION:
            return (
                f"it has {len(instruction)} characters, at most {MAX_INSTRUCTION} are taken: send "
                "a shorter one"
            )
        check = getattr(self.policy, "check_instruction", None)  # a policy of one's own may lack it
        try:
            if check:
                check(instruction)
        except BaseException as error:  # a tokenizer may panic, which is no Exception
            return _sentence(error)
        return ""

    def release(self) -> bool:
        """Clear failures and relevance at a person's request; return whether motion was held."""
        if self._worker and not self._worker.alive:
            self._start_worker()
        was_held, self.held = self.held, False
        self._health.forgive()
        self.clear("~/reset was called")
        return was_held

    def clear_frames(self) -> None:
        """Drop what was seen before a jump of the clock, and everything computed from it."""
        if self.inputs:
            self.inputs.frames.clear()
        self.clear("the clock jumped back")

    def clear(self, reason: str) -> None:
        """Stop motion and clear the temporal relevance; the reason is logged."""
        self._memory += 1
        self.motion.halt()
        self._node.log.info(f"Starting anew: {reason}")

    # --- The worker's thread ------------------------------------------------------------------

    def _infer(self) -> None:
        epoch = self._gate.epoch
        task = self._next_task(epoch)
        if task is None:
            return
        try:
            result = self._inference.run(task)
        except BaseException:
            # What failed before a reset or in an earlier life is no failure of the present one.
            if epoch == self._gate.epoch:
                raise
            self._health.count("results_discarded")
        else:
            self._deliver(result)
        finally:
            self._free_since = time.monotonic()

    def _next_task(self, epoch: int) -> Task | None:
        inputs, readiness = self.inputs, self.readiness
        if inputs is None or readiness is None or not self._gate.is_open:
            return None
        instruction, frames = self.instruction, inputs.frames.take()
        if frames is None:
            return None
        self._tell_missing(frames)
        state = inputs.joint_state
        reasons = readiness.reasons()
        if reasons:
            self._health.count("frames_unusable", reasons[0].cause != "instruction")
            self.wait_for(*reasons)
            return None
        return Task(
            frames,
            instruction,
            state.message if state else None,
            readiness.measured(),
            readiness.state_stamp(),
            self._settings,
            epoch,
            self._memory,
            self._node.motion_clock.read(),
        )

    def _tell_missing(self, frames: list[CameraFrame | None]) -> None:
        topics = self._settings.image_topics
        missing = [topic for topic, frame in zip(topics, frames, strict=True) if frame is None]
        if missing != self._missing:
            sentence = f"Going on without {', '.join(missing)}" if missing else "All cameras again"
            self._node.log.warning(sentence)
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
            late = self.motion.submit(self.outputs.plan(result, sequence, self.profile))
            if late:
                self._health.count("results_discarded")
                self.wait_for(late)
            else:
                self._health.succeeded()
            self._record(result)
            self.outputs.publish(result, sequence, self.policy, queue, self.profile)

    def _record(self, result: Result) -> None:
        # A frame that came while the policy was busy waited for the policy, not for the node.
        arrival = max(frame.arrival for frame in result.task.present)
        overhead = time.monotonic() - max(arrival, self._free_since) - result.seconds
        limit = result.task.settings.pruning.target_latency
        self._health.record(result.seconds, overhead, limit)

    def _on_failure(self, error: BaseException) -> None:
        self.motion.halt()  # first of all: a log may be slow
        logger = self._node.log
        # What the next input may remove must not hold motion until a person comes.
        in_a_row = self._health.failed(_sentence(error), latches=not isinstance(error, InputError))
        logger.error(f"Inference failed ({in_a_row} in a row): {_sentence(error)}")
        logger.debug("".join(traceback.format_exception(error)))
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

    def watch(self, executor_stalled: bool = False) -> None:
        """Stop motion if something forbids it while no inference looks at the inputs."""
        self.motion.repeat_stop()  # the executor's timers may be stalled
        if self._node.motion_clock.stepped_back():
            self.clear_frames()
        readiness = self.readiness
        if not self._gate.is_open or readiness is None:
            return
        readiness.stalled = self._stalled_thread(executor_stalled)
        reasons = readiness.reasons()
        if reasons:
            self.wait_for(*reasons)

    def _stalled_thread(self, executor_stalled: bool) -> str:
        worker, limit = self._worker, self._settings.inference_timeout
        if executor_stalled:
            return (
                "The node's callbacks do not run: is the machine overloaded? If this stays, "
                "restart the node"
            )
        if worker and not worker.alive:
            return "The policy's thread has ended: call ~/reset"
        if worker and worker.busy_for() > limit:
            return (
                f"The policy has not answered for over {limit:.1f} s (inference_timeout): if it "
                "stays so, deactivate, clean up and configure the node"
            )
        return ""

    def wait_for(self, *reasons: Reason) -> None:
        """Stop motion until what the reasons name is there; then log each that is news."""
        self.motion.halt()
        for sentence in self._health.wait_for_all({r.cause: r.sentence for r in reasons}):
            self._node.log.warning(sentence)

    def busy_for(self) -> float:
        """Return for how long (s) the present inference has run, 0.0 if there is none."""
        return self._worker.busy_for() if self._worker else 0.0


def _sentence(error: BaseException) -> str:
    """Return an error's message, with its type unless that is a common one."""
    if isinstance(error, Exception):
        return str(error)
    return f"{type(error).__name__}: {error}"
