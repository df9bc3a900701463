"""Readiness of the arm: may it move, and if not, why. Decided here for all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from vla_pruner_ros.control.clock import Instant, MotionClock
from vla_pruner_ros.control.freshness import is_silent, repeat_problem, stamp_problem
from vla_pruner_ros.control.joint_states import describe_silence, oldest_stamp
from vla_pruner_ros.control.joints import JointBounds
from vla_pruner_ros.control.poses import Pose
from vla_pruner_ros.nodes.messages import to_pose
from vla_pruner_ros.nodes.vla_pruner.host import HasSettings
from vla_pruner_ros.nodes.vla_pruner.inputs import NodeInputs, joint_topics
from vla_pruner_ros.nodes.vla_pruner.parameters import NodeSettings
from vla_pruner_ros.robots import Measured, RobotProfile
from vla_pruner_ros.robots.profile import JointLimits
from vla_pruner_ros.robots.urdf import UrdfError, joint_limits


class NotReady(Exception):  # noqa: N818 - a reason to wait, not an error
    """Nothing can be inferred from what is there; the sentence names what is awaited."""


@dataclass(frozen=True)
class Reason:
    """One cause that keeps the arm from moving and may vanish by itself.

    cause: a short name that stays the same, such as "camera"; sentence: what is wrong and what to
    do about it.
    """

    cause: str
    sentence: str


class Readiness:
    """Answers whether the arm may move by what a configured node's inputs deliver.

    Any thread may ask; every answer looks at the present. instruction: in force, "" if there is
    none. stalled: a sentence about a thread that makes no progress, "" if all do. profile: what the
    policy's numbers mean on this robot, None if unknown.
    """

    def __init__(
        self,
        inputs: NodeInputs,
        parameters: HasSettings,
        clock: MotionClock,
        needs_state: bool,
        profile: RobotProfile | None = None,
    ) -> None:
        """Watch over inputs.

        Args:
            inputs: the newest message of each.
            parameters: holder of the settings in force.
            clock: the node's clocks.
            needs_state: whether the model takes the robot's joint state.
            profile: of the robot.

        Raises:
            UrdfError: the URDF that the profile names is none.
        """
        self.profile = profile
        self._profile_urdf = joint_limits(profile.urdf) if profile and profile.urdf else {}
        self._bounds: tuple[tuple, JointBounds] | None = None
        self._inputs, self._parameters, self._clock = inputs, parameters, clock
        self._needs_state = needs_state
        self.instruction = ""
        self.stalled = ""

    def reasons(self) -> list[Reason]:
        """Return every present cause that forbids motion, the most basic first; empty: none."""
        return list(self._reasons())

    def first(self) -> Reason | None:
        """Return the most basic cause, None if the arm may move."""
        return next(self._reasons(), None)

    def pose(self) -> Pose:
        """Return the end effector's present pose in action_frame.

        Raises:
            NotReady: there is none, it is too old, in another frame, or no pose at all.
        """
        settings, received = self._parameters.settings, self._inputs.pose
        now, limit = self._clock.read(), settings.max_state_age
        if is_silent(received, limit, now):
            raise NotReady(
                f"No end_effector_pose has arrived for over {limit:.2f} s: the parameter workspace "
                "or the robot's profile needs it; publish it, or empty workspace"
            )
        what, name = "The newest end_effector_pose", "max_state_age"
        problem = stamp_problem(what, received.age_by_stamp(now), limit, name) or repeat_problem(
            what, received.repeated_for(now), limit, name
        )
        if problem:
            raise NotReady(problem)
        frame = received.message.header.frame_id
        if frame != settings.action_frame:
            raise NotReady(
                f"end_effector_pose is given in frame '{frame}', but actions and workspace are in "
                f"'{settings.action_frame}': publish the pose in that frame, or set action_frame"
            )
        try:
            return to_pose(received.message.pose)
        except ValueError as error:
            raise NotReady(f"end_effector_pose cannot be used: {error}") from None

    def pose_if_known(self) -> Pose | None:
        """Return the end effector's present pose, None if there is no usable one."""
        try:
            return self.pose()
        except NotReady:
            return None

    def recent_poses(self) -> list[tuple[float, np.ndarray]]:
        """Return when the last poses were measured, on playback time (s), and positions [3] (m)."""
        now, frame = self._clock.read(), self._parameters.settings.action_frame
        points = [
            (received.measured(now) * 1e-9, received.message.pose.position)
            for received in list(self._inputs.recent_poses)
            if received.message.header.frame_id == frame
        ]
        found = [(at, np.array([point.x, point.y, point.z])) for at, point in points]
        return [(at, position) for at, position in found if np.isfinite(position).all()]

    def measured(self) -> Measured:
        """Return the robot as last measured: all joints, and the pose if it can be used."""
        pose = self.pose_if_known()
        joints = self._inputs.joints.positions()
        return Measured(joints, *((pose.position, pose.orientation) if pose else (None, None)))

    def state_stamp(self) -> int:
        """Return the oldest stamp (ns) among the joints that are needed, 0 if there is none."""
        names = self.needed_joints(self._parameters.settings)
        if names:
            return oldest_stamp(self._inputs.joints.readings(names).values())
        newest = self._inputs.joint_state
        return newest.stamp if newest else 0

    def needed_joints(self, settings: NodeSettings) -> tuple[str, ...]:
        """Return the joints whose positions must arrive, empty if no names are known."""
        profile = self.profile
        moved = profile.joints if profile else ()
        if not self._needs_state:
            return moved
        if profile and profile.state:
            return profile.needed_joints
        return tuple(dict.fromkeys((*settings.state_joints, *moved)))

    def joints_are_silent(self) -> bool:
        """Return whether a joint that the arm moves has not been measured lately."""
        names, limit = self.profile.joints, self._parameters.settings.max_state_age
        return bool(self._inputs.joints.silent(names, self._clock.read().steady * 1e-9, limit))

    def joint_bounds(self, period: float) -> JointBounds:
        """Return the limits of the commanded joints for actions of one period (s).

        Raises:
            ValueError: joints have no limits, or the robot's description is none.
        """
        profile, settings = self.profile, self._parameters.settings
        description = self._inputs.robot_description
        key = (period, settings.max_joint_velocity, id(description))
        if self._bounds and self._bounds[0] == key:
            return self._bounds[1]
        sources: list[Mapping[str, JointLimits]] = [profile.limits.joints, self._profile_urdf]
        if description is not None:
            sources.append(joint_limits(description))
        # A profile lists every joint, with or without limits of its position.
        given = [{n: j for n, j in s.items() if j != JointLimits()} for s in sources]
        bounds = JointBounds.combined(
            profile.joints, given, settings.max_joint_velocity, profile.limits.max_jump, period
        )
        self._bounds = (key, bounds)
        return bounds

    def pose_measured(self) -> int:
        """Return when the newest pose was measured, on playback time (ns)."""
        received, now = self._inputs.pose, self._clock.read()
        return received.measured(now) if received else now.playback

    def _reasons(self) -> Iterator[Reason]:
        settings, now = self._parameters.settings, self._clock.read()
        if self.stalled:
            yield Reason("stalled", self.stalled)
        yield from self._clock_reasons(settings)
        if not self.instruction:
            graph = self._inputs.why_silent("instruction")
            heard = any(word in graph for word in ("carries", "offers", "version"))
            hint = f" ({graph})" if heard else ""
            yield Reason(
                "instruction",
                f"Waiting for an instruction: publish one on the instruction topic{hint}",
            )
        yield from self._camera_reasons(settings, now)
        yield from self._joint_reasons(settings, now)
        if settings.workspace or self._profile_needs_pose():
            try:
                self.pose()
            except NotReady as reason:
                graph = _in_brackets(self._inputs.why_silent("end_effector_pose"))
                yield Reason("pose", f"{reason}{graph}")

    def _profile_needs_pose(self) -> bool:
        profile = self.profile
        if profile is None:
            return False
        in_state = self._needs_state and any(part.source == "pose" for part in profile.state)
        return in_state or profile.needs_pose_to_decode

    def _joint_reasons(self, settings: NodeSettings, now: Instant) -> Iterator[Reason]:
        names = self.needed_joints(settings)
        if names:
            yield from self._named_joint_reasons(names, settings, now)
        elif self._needs_state and not (self.profile and self.profile.state):
            yield from self._state_reasons(settings, now)
        if self.profile and self.profile.joints:
            try:
                self.joint_bounds(1.0 / settings.control_rate)
            except (ValueError, UrdfError) as error:
                yield Reason("joint_limits", str(error))

    def _named_joint_reasons(
        self, names: tuple[str, ...], settings: NodeSettings, now: Instant
    ) -> Iterator[Reason]:
        limit, joints = settings.max_state_age, self._inputs.joints
        silent = describe_silence(names, joints, now.steady * 1e-9, limit)
        if silent:
            named = self._where_named(names)
            graph = [self._inputs.why_silent(topic) for _, topic in joint_topics(settings)]
            yield Reason("joint_state", " ".join([silent, *filter(None, [named, *graph])]))
            return
        what, name = "The oldest joint state", "max_state_age"
        readings = joints.readings(names).values()
        stamp = oldest_stamp(r for r in readings if r.stamp)
        age = (now.stamp - stamp) * 1e-9 if stamp else 0.0
        repeated = now.steady * 1e-9 - min(r.first for r in readings)
        problem = stamp_problem(what, age, limit, name) or repeat_problem(
            what, repeated, limit, name
        )
        if problem:
            yield Reason("joint_state", problem)

    def _where_named(self, names: tuple[str, ...]) -> str:
        """Return where the profile names a joint that no joint state ever had, "" if all came."""
        never = [name for name in names if not self._inputs.joints.readings([name])]
        if not never or self.profile is None:
            return ""
        return f"({self.profile.where(never[0])} names {never[0]})"

    def _clock_reasons(self, settings: NodeSettings) -> Iterator[Reason]:
        still = self._clock.stood_still()
        if still > settings.max_image_age:
            what = (
                "The simulated clock stands still: check what publishes /clock"
                if self._inputs.clock_is_published()
                else "use_sim_time is true, and nobody publishes /clock: start the simulation or "
                "the player"
            )
            yield Reason("clock", f"{what}, or set use_sim_time to false")

    def _camera_reasons(self, settings: NodeSettings, now: Instant) -> Iterator[Reason]:
        limit, topics, frames = settings.max_image_age, settings.image_topics, self._inputs.frames
        silent = [camera for camera, age in enumerate(frames.silence()) if age > limit]
        if silent and not (settings.on_camera_loss == "continue" and len(silent) < len(topics)):
            names = ", ".join(topics[camera] for camera in silent)
            graph = [self._inputs.why_camera_silent(camera) for camera in silent]
            why = "".join(f"; {reason}" for reason in graph if reason)
            yield Reason(
                f"camera {names}", f"No image on {names} for over {limit:.2f} s: motion stops{why}"
            )
        yield from self._spread_reasons(settings, silent)
        for camera, frame in enumerate(frames.newest()):
            if frame and camera not in silent:
                age = (now.stamp - frame.stamp) * 1e-9
                what, name = f"The newest image on {topics[camera]}", "max_image_age"
                repeated = now.steady * 1e-9 - frame.first
                problem = stamp_problem(what, age, limit, name) or repeat_problem(
                    what, repeated, limit, name
                )
                if problem:
                    yield Reason(f"image_stamp {camera}", problem)

    def _spread_reasons(self, settings: NodeSettings, silent: list[int]) -> Iterator[Reason]:
        """Yield the reason if every camera delivers and their stamps never fit together."""
        found = None if silent else self._inputs.frames.apart(settings.max_image_age)
        if found:
            spread, cameras = found
            names = " and ".join(settings.image_topics[camera] for camera in cameras)
            yield Reason(
                "camera_spread",
                f"The stamps of {names} are {spread:.2f} s apart, more than max_camera_spread "
                f"{settings.max_camera_spread:.2f} s: synchronise the cameras, or raise it",
            )

    def _state_reasons(self, settings: NodeSettings, now: Instant) -> Iterator[Reason]:
        received, limit = self._inputs.joint_state, settings.max_state_age
        if is_silent(received, limit, now):
            yield Reason(
                "joint_state",
                "The model needs the robot's state, but no joint state arrived for over "
                f"{limit:.2f} s: motion stops"
                + _in_brackets(self._inputs.why_silent("joint_states")),
            )
            return
        what, name = "The newest joint state", "max_state_age"
        problem = stamp_problem(what, received.age_by_stamp(now), limit, name) or repeat_problem(
            what, received.repeated_for(now), limit, name
        )
        if problem:
            yield Reason("joint_state", problem)


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""
