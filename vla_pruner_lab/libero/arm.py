"""LIBERO's simulated Panda with a robot profile between it and anyone who moves it.

In go displacements in metres and radians and an opening; out come the state and the images as the
profile makes them of what is measured. LIBERO itself sees only the numbers of a policy.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vla_pruner_ros.robots import (
    Commands,
    Measured,
    RobotProfile,
    assemble_state,
    encode_actions,
    oriented,
)

SETTLING = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0])
SETTLING_STEPS = 10
"""LIBERO's protocol lets objects come to rest before a policy acts."""
MAX_STEPS = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520}
IMAGE = 256
GEOM = 5
"""MuJoCo's number for the kind of object that a pixel shows."""
TALL = 0.025
"""Height of a standing object's middle (m)."""
OPENVLA_PROFILE = "franka_libero"
"""Profile of the numbers that OpenVLA's evaluation hands to LIBERO as -sign(2 g - 1). Those of
other policies go in as they are."""
ARM_JOINTS = tuple(f"panda_joint{n}" for n in range(1, 8))


class LiberoArm:
    """One task of a LIBERO suite.

    instruction: of the task. succeeded: LIBERO's own verdict after the last step.
    """

    def __init__(self, profile: RobotProfile, suite: str, task: int) -> None:
        from libero.libero import benchmark, get_libero_path
        from libero.libero.envs.env_wrapper import ControlEnv

        self.profile = profile
        tasks = benchmark.get_benchmark_dict()[suite]()
        chosen = tasks.get_task(task)
        self.instruction: str = chosen.language
        self._starts = tasks.get_task_init_states(task)
        scene = Path(get_libero_path("bddl_files")) / chosen.problem_folder / chosen.bddl_file
        # Images are rendered when they are looked at: every step would take ten times as long.
        self._env = ControlEnv(
            bddl_file_name=str(scene),
            use_camera_obs=False,
            has_offscreen_renderer=True,
            camera_heights=IMAGE,
            camera_widths=IMAGE,
        )

    def reset(self, episode: int) -> None:
        """Begin the episode with the benchmark's initial state of that number."""
        self._env.seed(0)
        self._env.reset()
        self._observed = self._env.set_init_state(self._starts[episode % len(self._starts)])
        self.succeeded = False
        for _ in range(SETTLING_STEPS):
            self._observed, _, _, _ = self._env.step(SETTLING)

    def measured(self) -> Measured:
        """Return the robot as its drivers would report it: both fingers count from closed."""
        seen = self._observed
        joints = dict(zip(ARM_JOINTS, seen["robot0_joint_pos"].tolist(), strict=True))
        first, second = seen["robot0_gripper_qpos"]
        joints |= {"panda_finger_joint1": float(first), "panda_finger_joint2": float(-second)}
        return Measured(joints, seen["robot0_eef_pos"], seen["robot0_eef_quat"])

    def state(self) -> np.ndarray:
        """Return the state, float [8], as the profile makes it: in the checkpoints' units."""
        return assemble_state(self.profile, self.measured())

    def libero_state(self) -> np.ndarray:
        """Return the state, float [8], as LIBERO's evaluation of OpenVLA-OFT makes it."""
        from robosuite.utils.transform_utils import quat2axisangle

        seen = self._observed
        turn = quat2axisangle(seen["robot0_eef_quat"].copy())
        return np.concatenate([seen["robot0_eef_pos"], turn, seen["robot0_gripper_qpos"]])

    def image(self, camera: int) -> np.ndarray:
        """Return what the policy sees through a camera of the profile: uint8 [H, W, 3]."""
        return oriented(self.raw_image(camera), self.profile.cameras[camera])

    def raw_image(self, camera: int) -> np.ndarray:
        """Return an image as the simulator gives it, uint8 [256, 256, 3]."""
        name = ("agentview", "robot0_eye_in_hand")[camera]
        return self._env.sim.render(width=IMAGE, height=IMAGE, camera_name=name)

    def seen_at(self, camera: int, name: str) -> np.ndarray:
        """Return [column, row] of an object's middle in image(camera), NaN if it is hidden."""
        view = ("agentview", "robot0_eye_in_hand")[camera]
        sim = self._env.sim
        marks = sim.render(width=IMAGE, height=IMAGE, camera_name=view, segmentation=True)
        turned = oriented(np.ascontiguousarray(marks), self.profile.cameras[camera])
        model = sim.model
        bodies = [n for n in range(model.nbody) if (model.body_id2name(n) or "").startswith(name)]
        geoms = [n for n in range(model.ngeom) if model.geom_bodyid[n] in bodies]
        rows, columns = np.nonzero((turned[..., 0] == GEOM) & np.isin(turned[..., 1], geoms))
        return np.array([columns.mean(), rows.mean()]) if len(rows) else np.full(2, np.nan)

    def projected(self, camera: int, point: np.ndarray) -> np.ndarray:
        """Return [column, row] at which a physical camera at that place would show a point (m)."""
        view = ("agentview", "robot0_eye_in_hand")[camera]
        model, data = self._env.sim.model, self._env.sim.data
        number = model.camera_name2id(view)
        x, y, z = data.cam_xmat[number].reshape(3, 3).T @ (point - data.cam_xpos[number])
        focal = IMAGE / 2 / np.tan(np.deg2rad(model.cam_fovy[number]) / 2)
        return np.array([IMAGE / 2 - focal * x / z, IMAGE / 2 + focal * y / z])

    def move(self, displacement: np.ndarray, opening: float) -> None:
        """Carry out one action: [6] x y z (m), roll pitch yaw (rad), and the gripper's opening."""
        commands = Commands(displacement[None], None, None, np.array([[opening]]))
        numbers = encode_actions(self.profile, commands, self.measured(), 0.05)[0]
        if self.profile.name == OPENVLA_PROFILE:
            numbers[6] = -np.sign(2.0 * numbers[6] - 1.0)
        self._observed, _, done, _ = self._env.step(numbers)
        self.succeeded = self.succeeded or bool(done)

    def position_of(self, name: str) -> np.ndarray:
        """Return where an object is: [3] x y z (m)."""
        return np.asarray(self._observed[f"{name}_pos"], dtype=np.float64)

    def outline(self, name: str) -> np.ndarray:
        """Return points [n, 3] (m) on the surface of an object: the corners of its bodies."""
        sim = self._env.sim
        model, data = sim.model, sim.data
        bodies = [n for n in range(model.nbody) if (model.body_id2name(n) or "").startswith(name)]
        geoms = [
            n
            for n in range(model.ngeom)
            if model.geom_bodyid[n] in bodies and model.geom_contype[n]
        ]
        return np.concatenate([_corners(model, data, geom) for geom in geoms])

    def others(self, name: str) -> list[np.ndarray]:
        """Return where other objects stand that reach higher than a flat one: [3] x y z (m)."""
        names = [key.removesuffix("_pos") for key in self._observed if key.endswith("_1_pos")]
        places = [self.position_of(n) for n in names if n not in (name, "basket_1")]
        return [place for place in places if place[2] > TALL]

    def target(self) -> str:
        """Return the name of the object that belongs in the basket in this task."""
        return next(iter(self._env.obj_of_interest))

    def close(self) -> None:
        """Close the simulator."""
        self._env.close()


def _corners(model, data, geom: int) -> np.ndarray:
    kind = int(model.geom_type[geom])
    if kind == 7:  # a mesh
        mesh = model.geom_dataid[geom]
        start, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
        local = model.mesh_vert[start : start + count]
    else:
        size = model.geom_size[geom]
        if kind == 5:  # a cylinder has radius and half its length
            size = np.array([size[0], size[0], size[1]])
        elif kind == 2:  # a sphere has a radius
            size = np.full(3, size[0])
        local = size * np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    turn = data.geom_xmat[geom].reshape(3, 3)
    return local @ turn.T + data.geom_xpos[geom]
