"""Offscreen images of a MuJoCo scene, several models in one process.

With OSMesa, several mujoco.Renderer objects return each other's stale images: mjr_render draws
into whichever framebuffer was bound last, not into its own. Here the process has ONE OpenGL
context, in which every model keeps its meshes, textures and framebuffer (MjrContext), and each
image binds its own framebuffer first. Render from one thread only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from vla_pruner_ros.sim.backend import mujoco

QUALITIES = ("fast", "full")
_IDENTITY_EFFECTS = (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR)
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

    def jittered(self, rng: np.random.Generator, amount: float = 1.0) -> CameraView:
        """Return the same view, off by up to `amount` times 2 cm, 3 degrees and 4 % of the
        distance.
        """
        shift = amount * rng.uniform(-0.02, 0.02, 3)
        return replace(
            self,
            lookat=tuple(float(x) for x in np.add(self.lookat, shift)),
            distance=self.distance * (1 + amount * float(rng.uniform(-0.04, 0.04))),
            azimuth=self.azimuth + amount * float(rng.uniform(-3.0, 3.0)),
            elevation=self.elevation + amount * float(rng.uniform(-3.0, 3.0)),
        )

    def mujoco_camera(self, hand: np.ndarray):
        """Return MuJoCo's camera for this view.

        Args:
            hand: float [3], position of the hand (m), for views that follow it.
        """
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
    """Return the OpenGL context of this process; size 1, as frames have framebuffers of
    their own.
    """
    return mujoco.GLContext(1, 1)


class SceneRenderer:
    """Renderer of one model at one size; "fast" leaves out shadows, reflections and
    multisampling.
    """

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
        return mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)

    def render(self, data, camera) -> np.ndarray:
        """Render `data` through an MjvCamera: uint8 [H, W, 3] RGB."""
        self._update_scene(data, camera)
        return self._image()

    def geom_ids(self, data, camera) -> np.ndarray:
        """Return the geom of the model that each pixel shows, int32 [H, W], -1 if none."""
        self._update_scene(data, camera)
        before = [self._scene.flags[effect] for effect in _IDENTITY_EFFECTS]
        for effect in _IDENTITY_EFFECTS:
            self._scene.flags[effect] = True
        colours = self._image().astype(np.int32)
        for effect, flag in zip(_IDENTITY_EFFECTS, before, strict=True):
            self._scene.flags[effect] = flag
        # MuJoCo paints geom n of the scene in colour n + 1, red the lowest byte.
        places = colours @ np.array([1, 256, 256 * 256], np.int32)
        geoms = self._scene.geoms[: self._scene.ngeom]
        kind = mujoco.mjtObj.mjOBJ_GEOM
        known = {geom.segid + 1: geom.objid for geom in geoms if geom.objtype == kind}
        ids = np.full(max([0, *known, int(places.max())]) + 1, -1, np.int32)
        ids[list(known)] = list(known.values())
        return ids[places]

    def _update_scene(self, data, camera) -> None:
        _process_context().make_current()
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(
            self._model, data, self._options, None, camera, everything, self._scene
        )

    def _image(self) -> np.ndarray:
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        image = np.empty(self._shape, np.uint8)
        mujoco.mjr_readPixels(image, None, self._viewport, self._context)
        return np.ascontiguousarray(image[::-1])  # OpenGL counts rows from below

    def close(self) -> None:
        """Free the rendering context."""
        if self._context is not None:
            _process_context().make_current()
            self._context.free()
            self._context = None
