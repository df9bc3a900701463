"""A simulated arm (MetaWorld's Sawyer on MuJoCo) driven by displacements in metres.

Everything outside this file follows REP-103: frame "base", x forward from the robot, y left, z up.
MetaWorld's world has x right and y forward; `to_base` and `to_world` are the only places that know.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vla_pruner_ros.sim.backend import ENVIRONMENTS, mujoco
from vla_pruner_ros.sim.rendering import DEFAULT_VIEWS, CameraView, SceneRenderer
from vla_pruner_ros.sim.tasks import TASKS_WITH_GOAL, VERSION_SUFFIX, instruction_for, task_name

logger = logging.getLogger(__name__)

BASE_FROM_WORLD = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
FINGER_JOINTS = ("r_close", "l_close")
FINGER_TRAVEL = 0.07  # m, both fingers together, from open to closed
GRIPPER_GAIN = 5.0  # full closing effort once a fifth of the opening is missing
MAX_LEAD = 0.10  # m that the commanded position may run ahead of a blocked hand
ACTION_PERIOD = 0.1  # s
GOAL_COLOUR = (0.0, 0.9, 0.0, 1.0)
PARTS = ("background", "arm", "hand", "object")
"""Parts that a pixel may show: SimulatedRobot.parts has their indices. The object is all of the
task's
own bodies: the drawer and its case, the window and its frame."""
ROBOT_BODY, HAND_BODY = "base", "hand"
SURROUNDINGS = ("world", "tablelink", "RetainingWall", "mocap")
FINGERTIP_SITES = ("rightEndEffector", "leftEndEffector")


def to_base(vector: np.ndarray) -> np.ndarray:
    """Convert float [3] from world axes (MetaWorld) to base axes (REP-103)."""
    return BASE_FROM_WORLD @ vector


def to_world(vector: np.ndarray) -> np.ndarray:
    """Convert float [3] from base axes (REP-103) to world axes (MetaWorld)."""
    return BASE_FROM_WORLD.T @ vector


@dataclass(frozen=True)
class SimState:
    """The robot at one instant.

    time: s since reset. end_effector_position: [3] (m) and end_effector_quaternion: [4] (x y z w)
    of the point between the fingers, in "base". joint_positions: [len(joint_names)], rad for the
    arm, m for the fingers. gripper_opening: 0 closed .. 1 open. success: the task is done now.
    """

    time: float
    end_effector_position: np.ndarray
    end_effector_quaternion: np.ndarray
    joint_names: tuple[str, ...]
    joint_positions: np.ndarray
    gripper_opening: float
    success: bool

    @property
    def proprioception(self) -> np.ndarray:
        """The state in LIBERO's order, float32 [8]: position 3, axis-angle 3, finger joints 2."""
        rotation = axis_angle(self.end_effector_quaternion)
        fingers = self.joint_positions[-len(FINGER_JOINTS) :]
        return np.concatenate([self.end_effector_position, rotation, fingers]).astype(np.float32)


@dataclass(frozen=True)
class Snapshot:
    """State from which an instant can be continued again; see SimulatedRobot.save."""

    physics: np.ndarray
    target: np.ndarray
    opening: float
    steps_left: int
    observation: np.ndarray
    success: bool


class SimulatedRobot:
    """One MetaWorld task, its cameras and its arm. Use it from one thread.

    image_size: (height, width) of every camera. render_quality: "fast" or "full".
    """

    def __init__(
        self,
        task: str = "drawer-close",
        seed: int = 0,
        image_size: tuple[int, int] = (224, 224),
        cameras: tuple[str, ...] = ("scene", "gripper"),
        render_quality: str = "fast",
    ):
        unknown = set(cameras) - set(DEFAULT_VIEWS)
        if unknown:
            raise ValueError(f"unknown cameras {sorted(unknown)}; there are {list(DEFAULT_VIEWS)}")
        self.task = task_name(task)
        self.views = {name: DEFAULT_VIEWS[name] for name in cameras}
        self._image_size = image_size
        self._quality = render_quality
        self._renderer: SceneRenderer | None = None  # created for the first image
        self._rotation_noted = False
        self._env = _make_environment(self.task)
        _dress_scene(self._env.model, self.task)
        self.reset(seed)

    @property
    def instruction(self) -> str:
        """The instruction of the task."""
        return instruction_for(self.task)

    @property
    def control_period(self) -> float:
        """Seconds of one control step, in which the commanded position may move max_speed * it."""
        return float(self._env.model.opt.timestep * self._env.frame_skip)

    @property
    def max_speed(self) -> float:
        """Fastest commanded motion along an axis (m/s)."""
        return self._env.action_scale / self.control_period

    @property
    def observation(self) -> np.ndarray:
        """MetaWorld's own observation [39], with object and goal positions, for its experts."""
        return self._observation

    def reset(self, seed: int | None = None) -> SimState:
        """Start an episode. Equal seeds give equal episodes; without one, the next in line."""
        if seed is not None:
            self._env.seed(seed)
        self._observation, _ = self._env.reset()
        mujoco.mj_forward(self._env.model, self._env.data)  # moved bodies and marker take effect
        self._success = False
        self._start_time = self._env.data.time
        self._opening = 1.0
        self.halt()
        return self.state()

    def command(self, action: np.ndarray, duration: float = ACTION_PERIOD) -> None:
        """Begin a displacement, to be carried out by tick() within `duration` seconds.

        action: [7] dx dy dz (m, base axes), droll dpitch dyaw (rad, ignored: this arm keeps its
        orientation), gripper opening 0..1. What is left of an earlier command is still carried
        out. A displacement faster than max_speed is cut to it, and a hand that is blocked is
        led by at most MAX_LEAD, so that no motion is stored up.
        """
        displacement, rotation, opening = _checked_action(action, duration)
        if np.any(rotation) and not self._rotation_noted:
            logger.info("rotations are ignored: the simulated arm keeps its orientation")
            self._rotation_noted = True
        self._steps_left = max(1, round(duration / self.control_period))
        reach = self._env.action_scale * self._steps_left
        target = self._target + to_world(displacement)
        target = self._mocap + np.clip(target - self._mocap, -reach, reach)
        target = self._hand + np.clip(target - self._hand, -MAX_LEAD, MAX_LEAD)
        self._target = np.clip(target, self._env.mocap_low, self._env.mocap_high)
        self._opening = opening

    def halt(self) -> None:
        """Hold still; the gripper keeps its last command."""
        self._target = self._mocap
        self._steps_left = 0

    def tick(self) -> SimState:
        """Simulate one control period of the current command, or of holding still."""
        motion = np.zeros(3)
        if self._steps_left:
            motion = (self._target - self._mocap) / self._steps_left
            self._steps_left -= 1
        effort = GRIPPER_GAIN * (self._measured_opening() - self._opening)
        self._advance(np.append(motion / self._env.action_scale, effort))
        return self.state()

    def step(self, action: np.ndarray, duration: float = ACTION_PERIOD) -> SimState:
        """Command a displacement, float [7], and simulate until its duration (s) is over."""
        self.command(action, duration)
        for _ in range(self._steps_left):
            state = self.tick()
        return state

    def step_native(self, action: np.ndarray) -> SimState:
        """Do one control step of MetaWorld's own action: [4] in -1..1, world axes, closing
        effort.
        """
        self._advance(np.asarray(action))
        self._target = self._mocap
        self._steps_left = 0
        return self.state()

    def render(self, camera: str) -> np.ndarray:
        """Render one of the cameras given at construction: uint8 [H, W, 3] RGB."""
        return self._renderer_of(camera).render(self._env.data, self._view(camera))

    def parts(self, camera: str) -> np.ndarray:
        """Return what each pixel of render(camera) shows: int32 [H, W], indices into PARTS."""
        geoms = self._renderer_of(camera).geom_ids(self._env.data, self._view(camera))
        return np.where(geoms < 0, 0, self._part_of_geom[geoms])

    def _renderer_of(self, camera: str) -> SceneRenderer:
        if camera not in self.views:
            raise ValueError(f"this robot has no camera {camera!r}, only {list(self.views)}")
        if self._renderer is None:
            self._renderer = SceneRenderer(self._env.model, *self._image_size, self._quality)
        return self._renderer

    def _view(self, camera: str):
        return self.views[camera].mujoco_camera(self._hand)

    @cached_property
    def _part_of_geom(self) -> np.ndarray:
        model = self._env.model
        parts = [PARTS.index(_part_of_body(model, body)) for body in range(model.nbody)]
        return np.array(parts, np.int32)[model.geom_bodyid]

    def set_view(self, camera: str, view: CameraView) -> None:
        """Move a camera, for example to a jittered view."""
        self.views[camera] = view

    def state(self) -> SimState:
        """Return the present joint positions and pose."""
        data = self._env.data
        names = tuple(name for name, _ in self._joints())
        return SimState(
            time=float(data.time - self._start_time),
            end_effector_position=to_base(data.site("endEffector").xpos),
            end_effector_quaternion=_quaternion(BASE_FROM_WORLD @ _rotation(data.body("hand"))),
            joint_names=names,
            joint_positions=np.array([data.qpos[address] for _, address in self._joints()]),
            gripper_opening=self._measured_opening(),
            success=self._success,
        )

    def save(self) -> Snapshot:
        """Save this instant, to look ahead from it."""
        model, data = self._env.model, self._env.data
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        physics = np.empty(mujoco.mj_stateSize(model, kind))
        mujoco.mj_getState(model, data, physics, kind)
        return Snapshot(
            physics,
            self._target,
            self._opening,
            self._steps_left,
            self._observation,
            self._success,
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Return to a saved instant of the same episode."""
        model, data = self._env.model, self._env.data
        mujoco.mj_setState(model, data, snapshot.physics, mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_forward(model, data)
        self._target, self._opening = snapshot.target, snapshot.opening
        self._steps_left = snapshot.steps_left
        self._observation, self._success = snapshot.observation, snapshot.success

    def commanded_position(self) -> np.ndarray:
        """[3] (m, base axes) where the arm is being led; the hand follows it softly."""
        return to_base(self._mocap)

    def close(self) -> None:
        """Free the images' memory; the robot must not be used afterwards."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self._env.close()

    @property
    def _mocap(self) -> np.ndarray:
        return self._env.data.mocap_pos[0].copy()

    @property
    def _hand(self) -> np.ndarray:
        return self._env.data.body("hand").xpos.copy()

    def _advance(self, native: np.ndarray) -> None:
        native = np.clip(native, -1.0, 1.0).astype(np.float32)
        self._observation, _, _, _, info = self._env.step(native)
        self._success = bool(info["success"])

    def _measured_opening(self) -> float:
        right, left = (self._env.data.joint(name).qpos[0] for name in FINGER_JOINTS)
        return float(np.clip(1.0 - (right - left) / FINGER_TRAVEL, 0.0, 1.0))

    def _joints(self) -> list[tuple[str, int]]:
        """Return names and qpos addresses of the arm's joints and the fingers."""
        model = self._env.model
        joints = [model.joint(i) for i in range(model.njnt)]
        return [
            (joint.name, int(joint.qposadr[0]))
            for joint in joints
            if joint.name.startswith("right_j") or joint.name in FINGER_JOINTS
        ]


def _make_environment(task: str):
    """Make a MetaWorld environment that draws its initial states from its own seeded generator."""
    env = ENVIRONMENTS[task + VERSION_SUFFIX]()
    # MetaWorld's benchmark classes set exactly these fields; it has no public way to do so.
    env._partially_observable = False
    env.__dict__.pop("sawyer_observation_space", None)  # cached without the goal
    env._set_task_called = True
    env._freeze_rand_vec = False
    env.seeded_rand_vec = True
    env.max_path_length = sys.maxsize  # the caller decides when an episode ends
    return env


def _dress_scene(model, task: str) -> None:
    """Show what a policy must see and nothing that reveals the task; see TASKS_WITH_GOAL."""
    for i in range(model.nsite):
        if model.site(i).name not in FINGERTIP_SITES:
            model.site_rgba[i, 3] = 0.0
    if task in TASKS_WITH_GOAL:
        model.site("goal").rgba = GOAL_COLOUR
        model.geom("objGeom").matid = -1  # its wood texture would leave the red puck dark brown


def _part_of_body(model, body: int) -> str:
    root = model.body(model.body_rootid[body]).name
    if root != ROBOT_BODY:
        return "background" if root in SURROUNDINGS else "object"
    hand = model.body(HAND_BODY).id
    while body > hand:  # MuJoCo numbers parents before their children
        body = model.body_parentid[body]
    return "hand" if body == hand else "arm"


def _checked_action(action: np.ndarray, duration: float) -> tuple[np.ndarray, np.ndarray, float]:
    action = np.asarray(action, dtype=np.float64)
    if action.shape != (7,) or not np.all(np.isfinite(action)):
        raise ValueError(f"an action is 7 finite numbers, got {action}")
    if not duration > 0:
        raise ValueError(f"an action's duration must be positive, got {duration} s")
    return action[:3], action[3:6], float(np.clip(action[6], 0.0, 1.0))


def _rotation(body) -> np.ndarray:
    return body.xmat.reshape(3, 3)


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    """Convert a rotation matrix to a quaternion x y z w."""
    wxyz = np.empty(4)
    mujoco.mju_mat2Quat(wxyz, rotation.flatten())
    return np.roll(wxyz, -1)


def axis_angle(quaternion: np.ndarray) -> np.ndarray:
    """Convert a quaternion, float [4] x y z w, to a rotation vector [3] (rad), at most pi long."""
    rotation = np.empty(3)
    mujoco.mju_quat2Vel(rotation, np.roll(quaternion, 1), 1.0)
    return rotation
