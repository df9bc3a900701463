"""Offscreen pictures of a MuJoCo scene, several models in one process.

mujoco.Renderer opens one OpenGL context each, and with OSMesa several of them return each other's
stale pictures. Here the process has ONE OpenGL context, in which every model keeps its own
meshes, textures and framebuffer (MjrContext). Render from one thread only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from vla_pruner_ros.sim.backend import mujoco

QUALITIES = ("fast", "full")
_SLOW_EFFECTS = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION)
_FULL_SAMPLES = 4
_MAX_GEOMS = 2000


@dataclass(frozen=True)
class CameraView:
    """A camera that looks at a point.

    lookat: [3] (m) in MuJoCo's world, or relative to the hand where follows_hand.
    distance (m), azimuth and elevation (deg) as in MuJoCo's free camera.
    """

    lookat: tuple[float, float, float]
    distance: float
    azimuth: float
    elevation: float
    follows_hand: bool = False

    def jittered(
        self,
        rng: np.random.Generator,
        position: float = 0.02,
        angle: float = 3.0,
        distance: float = 0.04,
    ) -> CameraView:
        """The same view, off by up to `position` m, `angle` deg and a share of the distance."""
        shift = rng.uniform(-position, position, 3)
        return replace(
            self,
            lookat=tuple(float(x) for x in np.add(self.lookat, shift)),
            distance=self.distance * (1 + float(rng.uniform(-distance, distance))),
            azimuth=self.azimuth + float(rng.uniform(-angle, angle)),
            elevation=self.elevation + float(rng.uniform(-angle, angle)),
        )

    def mujoco_camera(self, hand: np.ndarray):
        camera = mujoco.MjvCamera()
        camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        camera.lookat[:] = np.add(self.lookat, hand if self.follows_hand else 0.0)
        camera.distance = self.distance
        camera.azimuth = self.azimuth
        camera.elevation = self.elevation
        return camera


DEFAULT_VIEWS: dict[str, CameraView] = {
    # Over the robot's right shoulder: the arm hides neither the gripper nor what lies before it.
    "scene": CameraView((0.0, 0.66, 0.12), 1.05, 145.0, -40.0),
    # From the other side, moving with the hand: fingers and the ground ahead of them.
    "gripper": CameraView((0.0, 0.06, -0.10), 0.50, 45.0, -40.0, follows_hand=True),
}


@lru_cache(maxsize=1)
def _process_context():
    """The OpenGL context of this process. Frames go to framebuffers of their own, so size 1 does."""
    return mujoco.GLContext(1, 1)


class SceneRenderer:
    """Renders one model at one size; "fast" leaves out shadows, reflections and multisampling."""

    def __init__(self, model, height: int, width: int, quality: str = "fast"):
        if quality not in QUALITIES:
            raise ValueError(f"render_quality must be one of {QUALITIES}, got {quality!r}")
        if min(height, width) < 1:
            raise ValueError(f"image size must be positive, got {height} x {width}")
        self._model = model
        self._shape = (height, width, 3)
        self._viewport = mujoco.MjrRect(0, 0, width, height)
        self._scene = mujoco.MjvScene(model, _MAX_GEOMS)
        self._options = mujoco.MjvOption()
        self._context = self._make_context(quality)

    def _make_context(self, quality: str):
        height, width, _ = self._shape
        visual = self._model.vis
        visual.global_.offheight, visual.global_.offwidth = height, width
        visual.quality.offsamples = _FULL_SAMPLES if quality == "full" else 0
        if quality == "fast":
            for effect in _SLOW_EFFECTS:
                self._scene.flags[effect] = False
        _process_context().make_current()
        context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
        return context

    def render(self, data, camera) -> np.ndarray:
        """uint8 [H, W, 3] RGB picture of `data` through an MjvCamera."""
        _process_context().make_current()
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(
            self._model, data, self._options, None, camera, everything, self._scene
        )
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        picture = np.empty(self._shape, np.uint8)
        mujoco.mjr_readPixels(picture, None, self._viewport, self._context)
        return np.ascontiguousarray(picture[::-1])  # OpenGL counts rows from below

    def close(self) -> None:
        if self._context is not None:
            _process_context().make_current()
            self._context.free()
            self._context = None
