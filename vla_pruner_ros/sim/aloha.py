"""Two simulated ViperX 300 S arms (gym-aloha's scene on MuJoCo), driven by joint positions.

The scene, meshes and joint limits are gym-aloha's. Its drives are too weak for its joint friction
to reach a commanded position; here they are stiff and damped, as the servos of a real arm are.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vla_pruner_ros.sim.backend import SimulatorMissingError, mujoco
from vla_pruner_ros.sim.rendering import SceneRenderer

CAMERAS = {"cam_high": "top", "cam_left": "left_pillar", "cam_right": "right_pillar"}
"""Name here -> camera of the scene."""
SIDES = ("left", "right")
ARM_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
FINGERS = ("left_finger", "right_finger")
JOINTS = tuple(f"{side}_{name}" for side in SIDES for name in (*ARM_JOINTS, *FINGERS))
"""As joint_states names them: left_waist .. right_right_finger."""
START = (0.0, -0.96, 1.16, 0.0, -0.3, 0.0, 0.024, -0.024)
"""Joint positions of one arm (rad, m)."""
STIFFNESS, DAMPING, FRICTION = 1500.0, 120.0, 0.1
CONTROL_PERIOD = 0.01


class AlohaArms:
    """Both arms as position servos. Use it from one thread.

    setpoints: [16] where each joint is led (rad, m), in the order of JOINTS.
    """

    control_period = CONTROL_PERIOD

    def __init__(
        self, image_size: tuple[int, int] = (480, 640), cameras: Sequence[str] = tuple(CAMERAS)
    ) -> None:
        """image_size: (height, width). Raises SimulatorMissingError."""
        self.views = tuple(cameras)
        self._image_size = image_size
        self._renderer: SceneRenderer | None = None
        self._model = mujoco.MjModel.from_xml_path(str(_scene()))
        self._stiffen()
        self._data = mujoco.MjData(self._model)
        joints = [self._model.joint(_mujoco_name(name)) for name in JOINTS]
        self._places = np.array([int(joint.qposadr[0]) for joint in joints])
        self.ranges = {
            name: (float(joint.range[0]), float(joint.range[1]))
            for name, joint in zip(JOINTS, joints, strict=True)
        }
        self.reset()

    def _stiffen(self) -> None:
        model = self._model
        model.opt.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        for actuator in range(model.nu):
            joint = int(model.actuator_trnid[actuator, 0])
            model.actuator_gainprm[actuator, 0] = STIFFNESS
            model.actuator_biasprm[actuator, 1:3] = -STIFFNESS, -DAMPING
            model.dof_frictionloss[model.jnt_dofadr[joint]] = FRICTION

    def reset(self) -> None:
        """Put both arms to their start."""
        mujoco.mj_resetDataKeyframe(self._model, self._data, 0)
        self.setpoints = np.array(START * len(SIDES))
        self._data.qpos[self._places] = self.setpoints
        mujoco.mj_forward(self._model, self._data)

    def command(self, positions: Mapping[str, float]) -> None:
        """Lead some joints to positions (rad, m), within what the drives accept.

        A left finger moves the right one of its hand too.
        """
        for name, position in positions.items():
            place = JOINTS.index(name)
            self.setpoints[place] = np.clip(position, *self.ranges[name])
            if name.endswith("left_finger"):
                self.setpoints[place + 1] = -self.setpoints[place]

    def tick(self) -> np.ndarray:
        """Simulate one control period; return the joint positions [16] (rad, m)."""
        self._data.ctrl[:] = self.setpoints
        steps = max(1, round(CONTROL_PERIOD / self._model.opt.timestep))
        mujoco.mj_step(self._model, self._data, steps)
        return self.positions()

    def positions(self) -> np.ndarray:
        """Return the measured joint positions [16] (rad, m)."""
        return self._data.qpos[self._places].copy()

    def render(self, camera: str) -> np.ndarray:
        """Return uint8 [H, W, 3] of one of the cameras."""
        if self._renderer is None:
            self._renderer = SceneRenderer(self._model, *self._image_size, "fast")
        view = mujoco.MjvCamera()
        view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        view.fixedcamid = self._model.camera(CAMERAS[camera]).id
        return self._renderer.render(self._data, view)

    def urdf(self) -> str:
        """Return a URDF of the joints and their limits, as robot_state_publisher would have it."""
        joints = "".join(
            f'<link name="{name}_link"/><joint name="{name}" type="{_kind(name)}">'
            f'<parent link="base"/><child link="{name}_link"/>'
            f'<limit lower="{low:.6f}" upper="{high:.6f}" velocity="3.14" effort="50"/></joint>'
            for name, (low, high) in self.ranges.items()
        )
        return f'<?xml version="1.0"?><robot name="aloha"><link name="base"/>{joints}</robot>'

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def _kind(name: str) -> str:
    return "prismatic" if name.endswith("finger") else "revolute"


def _mujoco_name(name: str) -> str:
    side, _, joint = name.partition("_")
    return f"vx300s_{side}/{joint}"


def _scene() -> Path:
    found = importlib.util.find_spec("gym_aloha")  # found, not imported: it brings dm_control along
    if found is None or not found.submodule_search_locations:
        raise SimulatorMissingError(
            "the simulated ALOHA needs gym-aloha, which is not installed: pip install gym-aloha"
        )
    folder = Path(next(iter(found.submodule_search_locations)))
    return folder / "assets" / "bimanual_viperx_transfer_cube.xml"
