"""vla_pruner: camera images and an instruction in, end-effector actions of a pruned VLA out."""

from __future__ import annotations

import functools
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_srvs.srv import Trigger

from vla_pruner_ros.control.clock import MotionClock
from vla_pruner_ros.control.gate import MotionGate
from vla_pruner_ros.control.health import Health
from vla_pruner_ros.models.cancellation import cancellable, check_cancelled
from vla_pruner_ros.models.execution.device_memory import free_device_memory
from vla_pruner_ros.models.policy import VlaPolicy
from vla_pruner_ros.nodes.overrides import parameter_files, unread_qos, unread_settings
from vla_pruner_ros.nodes.parameter_specs import RefusesOldNames
from vla_pruner_ros.nodes.process.host_memory import (
    leave_out_of_collections,
    return_free_memory,
    take_into_collections,
)
from vla_pruner_ros.nodes.process.log import Log, forwarded_logging
from vla_pruner_ros.nodes.spin import run_node
from vla_pruner_ros.nodes.vla_pruner.diagnostics import Reporter
from vla_pruner_ros.nodes.vla_pruner.loading import (
    check_policy,
    load_from_settings,
    load_robot,
    try_policy,
)
from vla_pruner_ros.nodes.vla_pruner.parameters import LiveParameters, NodeSettings
from vla_pruner_ros.nodes.vla_pruner.runner import PolicyRunner
from vla_pruner_ros.nodes.vla_pruner.watchdog import WATCHDOG_PERIOD, Watchdog
from vla_pruner_ros.pruning.config import RENAMED_FIELDS
from vla_pruner_ros.robots import RobotProfile

REPORT_PERIOD = 1.0

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


def transition(callback: Callable) -> Callable:
    """Log what a transition raises, with its traceback: rclpy would swallow it."""

    @functools.wraps(callback)
    def wrapped(self: VlaPrunerNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return callback(self, state)
        except BaseException as error:
            name = callback.__name__.removeprefix("on_")
            self.health.set_problem(str(error))
            self.log.error(f"{name} failed: {error}")
            self.log.traceback(traceback.format_exc())
            return TransitionCallbackReturn.ERROR

    return wrapped


class VlaPrunerNode(RefusesOldNames, LifecycleNode):
    """A managed node around one VlaPolicy: its transitions, services and timers.

    What it does while active is PolicyRunner's. lifecycle: the state as diagnostics name it.
    """

    renamed = RENAMED_FIELDS

    def __init__(
        self,
        name: str = "vla_pruner",
        load: Callable[[NodeSettings], VlaPolicy] = load_from_settings,
        parameter_files: Sequence[Path] = (),
        **node_options: Any,
    ) -> None:
        super().__init__(name, **node_options)
        self.log = Log(self.get_logger())
        self._load = load
        self._closing = threading.Event()
        self.lifecycle = "unconfigured"
        self.parameters = LiveParameters(self, self._on_parameters, self._check_fit)
        self.health = Health()
        self.gate = MotionGate()
        clock = self.get_clock()
        self.motion_clock = MotionClock(
            lambda: clock.now().nanoseconds, lambda: clock.ros_time_is_active
        )
        self.runner = PolicyRunner(self, ReentrantCallbackGroup())
        self.motion = self.runner.motion
        self.reporter = Reporter(self)
        self.watchdog = Watchdog(self._look, self.log.error)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self._create_timers()
        self._serve_while_configuring()
        self._clock_jump = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True
            ),
            post_callback=lambda _: self.runner.clear_frames(),
        )
        self._unread = unread_settings(self, parameter_files)
        for sentence in (*self._unread.warnings, *self._unread.refusals):
            self.log.warning(sentence)
        self.watchdog.start()

    def _create_timers(self) -> None:
        # Steady time: a simulated clock that stands still must not stop the executor's beat.
        steady, group = Clock(clock_type=ClockType.STEADY_TIME), MutuallyExclusiveCallbackGroup()
        for period, callback in (
            (WATCHDOG_PERIOD, self.watchdog.beat),
            (REPORT_PERIOD, self.reporter.report),
        ):
            self.create_timer(period, callback, callback_group=group, clock=steady)

    def _look(self) -> None:
        self.runner.watch(self.watchdog.executor_stalled)

    def _serve_while_configuring(self) -> None:
        """Give the transitions a group of their own: a checkpoint takes minutes to load, and state
        and parameters are answered meanwhile. A second transition waits for the first."""
        for service in self.services:
            if service.srv_name.endswith("/change_state"):
                service.callback_group = MutuallyExclusiveCallbackGroup()
                service.callback_group.add_entity(service)
                service.callback = self._answer_always(service.callback)

    def _answer_always(self, change_state: Callable) -> Callable:
        """Answer a transition that does not fit the state: rclpy of Jazzy raises instead, which
        ends the executor."""

        def answer(request: Any, response: Any) -> Any:
            try:
                return change_state(request, response)
            except Exception as error:
                self.log.error(f"The transition was refused: {error}")
                response.success = False
                return response

        return answer

    def on_callback_error(self, error: BaseException) -> None:
        """Stop motion after a callback failed, and stay serviceable; the executor calls this."""
        self.motion.halt()
        self.health.count("callbacks_failed")
        self.health.set_problem(f"A callback failed: {error!r}; see the log")
        self.log.error(f"A callback failed: {error!r}")
        self.log.traceback("".join(traceback.format_exception(error)))

    # --- Transitions -------------------------------------------------------------------------

    @transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the policy and subscribe; called by rclpy on *configure*."""
        self.lifecycle = "configuring"
        try:
            if self._unread.refusals:
                raise ValueError("; ".join(self._unread.refusals))
            policy, profile = self._load_checked(self.parameters.freeze())
            self.health.clear()
            self.reporter.clear()
            self.runner.build(policy, profile)
            for sentence in unread_qos(self):
                self.log.warning(sentence)
            leave_out_of_collections()
        except BaseException as error:  # whatever a checkpoint brings, panics of Rust included
            self._undo_configure(error)
            return FAILURE
        self.lifecycle = "inactive"
        return super().on_configure(state)

    def _undo_configure(self, error: BaseException) -> None:
        """Stay unconfigured and log the reason."""
        self.health.set_problem(str(error))
        self.log.error(f"configure failed: {error}")
        self.log.debug(traceback.format_exc())
        traceback.clear_frames(error.__traceback__)
        self._dismantle()

    @transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open the gate, unless something forbids motion; called by rclpy on *activate*."""
        refused = self._why_not_activate()
        if refused:
            self.health.set_problem(refused)
            self.log.error(refused)
            return FAILURE
        super().on_activate(state)
        self.runner.begin()
        self.lifecycle = "active"
        instruction = self.runner.instruction
        self.log.info(
            f"Active, instruction: {instruction!r}"
            if instruction
            else "Active, waiting for an instruction"
        )
        return SUCCESS

    @transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the arm and close the gate; called by rclpy on *deactivate*."""
        self._stop_moving()
        if not self.runner.wait_idle(self._patience):
            self._warn_of_hanging()
        self.health.forgive()
        return super().on_deactivate(state)

    @transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the policy and its memory; called by rclpy on *cleanup*."""
        self._dismantle()
        self.health.forgive()
        return super().on_cleanup(state)

    @transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the arm and release everything; called by rclpy on *shutdown*."""
        self._stop_moving()
        self._dismantle()
        self.lifecycle = "finalized"
        return super().on_shutdown(state)

    @transition
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the arm and release everything; called by rclpy after a failed transition."""
        self._stop_moving()
        self._dismantle()
        super().on_error(state)
        return SUCCESS

    @property
    def closing_patience(self) -> float:
        """Longest time (s) that close() takes on purpose."""
        return self._patience

    def close(self) -> None:
        """Stop motion and free everything, while publishing still works; end a load under way."""
        self._closing.set()
        self._stop_moving()
        self.watchdog.stop()
        if self.lifecycle != "configuring":  # else the transition itself cleans up
            self._dismantle()

    def destroy_node(self) -> None:
        """Leave the graph now: rclpy drops the state machine, whose services hold the node, and
        the DDS participant would stay until the garbage collector comes by."""
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    # --- Building and taking down -------------------------------------------------------------

    def _why_not_activate(self) -> str:
        if self._closing.is_set():
            return "The node is shutting down"
        own = (self.get_name(), self.get_namespace())
        if self.get_node_names_and_namespaces().count(own) > 1:
            return (
                f"Another node named {self.get_fully_qualified_name()} is running: two would drive "
                "one arm. End it, or rename one; a killed one vanishes after about 20 s"
            )
        return ""

    def _load_checked(self, settings: NodeSettings) -> tuple[VlaPolicy, RobotProfile | None]:
        with cancellable(self._closing), forwarded_logging(self.log):
            loaded = self._load_and_try(settings)
            check_cancelled()
            return loaded

    def _load_and_try(self, settings: NodeSettings) -> tuple[VlaPolicy, RobotProfile | None]:
        started = time.monotonic()
        self.log.info(f"Loading {settings.checkpoint} (a large checkpoint takes minutes)")
        policy = self._load(settings)
        check_policy(policy, settings)
        check_cancelled()
        uses_image, width = try_policy(policy, settings.instruction)
        profile = load_robot(policy, settings, width)
        if not uses_image:
            self.log.warning(
                "The policy gave the same action for a black and a white image: it may be ignoring "
                "the camera. Check the checkpoint before letting it drive an arm"
            )
        if not policy.trained:
            self.log.warning("The weights are UNTRAINED: the actions mean nothing")
        seconds = time.monotonic() - started
        self.log.info(f"Loaded a {policy.family} policy in {seconds:.1f} s")
        self._tell_profile(profile, settings)
        return policy, profile

    def _tell_profile(self, profile: RobotProfile | None, settings: NodeSettings) -> None:
        if profile:
            names = ", ".join(profile.action_names)
            self.log.info(f"Robot profile {profile.name} explains the actions: {names}")
            if abs(profile.control_rate - settings.control_rate) > 1e-6:
                self.log.warning(
                    f"control_rate is {settings.control_rate:g} Hz, but profile {profile.name} was "
                    f"made for {profile.control_rate:g} Hz: the parameter wins, because an arm may "
                    "have to go slower than the demonstrations. Actions given as displacements are "
                    "then carried out faster or slower than in training"
                )
        if settings.dry_run:
            self.log.warning("DRY RUN: commands go to ~/preview/ alone, no arm follows them")

    def _stop_moving(self) -> None:
        with self.gate.lock:  # a reset meanwhile must not open the gate again
            self.runner.stop()
            if self.lifecycle == "active":
                self.lifecycle = "inactive"
        # Before the transition is answered: then another program may command the arm.
        self.motion.finish_stop()

    def _warn_of_hanging(self) -> None:
        self.log.warning("An inference is still running; its result will be dropped")

    def _dismantle(self) -> None:
        if not self.runner.dismantle(self._patience):
            self._warn_of_hanging()
        self.parameters.thaw()
        self.lifecycle = "unconfigured"
        take_into_collections()
        free_device_memory()
        return_free_memory()

    @property
    def _patience(self) -> float:
        return self.parameters.settings.transition_timeout

    # --- What people ask of it ----------------------------------------------------------------

    def _check_fit(self, settings: NodeSettings) -> None:
        """Raise ValueError if settings cannot fit the loaded policy."""
        policy = self.runner.policy if self.lifecycle != "unconfigured" else None
        check = getattr(policy, "check_pruning", None)
        if check is not None:
            check(settings.pruning)

    def _on_parameters(self, changes: dict[str, Any]) -> None:
        if "instruction" in changes and self.lifecycle != "unconfigured":
            self.runner.take_instruction(changes["instruction"])

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        was_held = self.runner.release()
        with self.gate.lock:
            if was_held and self.lifecycle == "active":
                self.gate.open()
        response.success = True
        response.message = "relevance cleared" + (", hold released" if was_held else "")
        return response

    def state(self) -> dict[str, Any]:
        """See Reporter.state."""
        return self.reporter.state()


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM."""
    files = parameter_files(args)
    return run_node(functools.partial(VlaPrunerNode, parameter_files=files), args)
