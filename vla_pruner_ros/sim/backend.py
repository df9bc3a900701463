"""Import of MuJoCo and MetaWorld with a rendering backend that works without a display."""

from __future__ import annotations

import contextlib
import os
import warnings


class SimulatorMissingError(ImportError):
    """Error of a machine that cannot run the simulator; the message names the remedy."""


def select_rendering_backend() -> str:
    """Select software rendering if there is no display; MuJoCo reads MUJOCO_GL once, on import."""
    if "MUJOCO_GL" not in os.environ and not os.environ.get("DISPLAY"):
        os.environ["MUJOCO_GL"] = "osmesa"
    return os.environ.get("MUJOCO_GL", "")


def _load_triton() -> None:
    """Import Triton before Mesa.

    Triton comes with torch for CUDA. Like Mesa's software renderer it carries an LLVM. It crashes
    on import if Mesa's is loaded already; the other order works.
    """
    with contextlib.suppress(ImportError):
        import triton  # noqa: F401


def _import_simulator():
    backend = select_rendering_backend()
    _load_triton()
    try:
        import mujoco

        with warnings.catch_warnings():  # gymnasium warns about registrations that are not ours
            warnings.simplefilter("ignore")
            from metaworld.env_dict import ALL_V3_ENVIRONMENTS
            from metaworld.policies import ENV_POLICY_MAP
    except ModuleNotFoundError as error:
        raise SimulatorMissingError(
            f"the simulated robot needs MuJoCo and MetaWorld, and {error.name} is not installed: "
            "pip install metaworld mujoco"
        ) from error
    except (ImportError, AttributeError, OSError) as error:  # PyOpenGL's ways to miss a library
        raise SimulatorMissingError(
            f"MuJoCo cannot render with MUJOCO_GL={backend!r} ({error}). For osmesa install "
            "libosmesa6 (sudo apt-get install libosmesa6); with a GPU, MUJOCO_GL=egl may work"
        ) from error
    return mujoco, ALL_V3_ENVIRONMENTS, ENV_POLICY_MAP


mujoco, ENVIRONMENTS, EXPERTS = _import_simulator()
