"""Parameters of vla_pruner_node from the arguments of a bring-up."""

from __future__ import annotations

from collections.abc import Iterable

from vla_pruner_ros.bringup import simulation
from vla_pruner_ros.pruning.config import RENAMED_FIELDS

COMPRESSIONS = ("none", "png", "jpeg", "zstd")
"""Compressions of recorded images (png is exact, jpeg small and not exact), or of the whole bag
(zstd).
"""


def is_true(value: str) -> bool:
    """Return whether a launch argument is true, 1, yes or on."""
    return value.lower() in ("true", "1", "yes", "on")


def is_simulated(sim: str) -> bool:
    """Return whether the argument sim asks for a simulated robot: true, or the name of one.

    Raises:
        ValueError: there is no such robot.
    """
    if sim.lower() == simulation.ALOHA or is_true(sim):
        return True
    if sim.lower() in ("", "false", "0", "no", "off"):
        return False
    raise ValueError(f"sim must be true, false or {simulation.ALOHA}, got {sim!r}")


def refuse_old_names(names: Iterable[str]) -> None:
    """Refuse arguments that are called like a parameter of an earlier release.

    Raises:
        ValueError: the sentence gives the new name.
    """
    for name in names:
        if name in RENAMED_FIELDS:
            new = RENAMED_FIELDS[name]
            raise ValueError(f"{name} is now called {new}: set {new} in params_file instead")


def policy_parameters(given: dict[str, str]) -> dict[str, object]:
    """Return the parameters that the arguments of launch/bringup.launch.py name.

    What a bag was recorded with gives way to params_file, and that to what is named.

    Raises:
        BagError, ValueError: the bag or params_file cannot be read.
    """
    parameters: dict[str, object] = {}
    if given["as_recorded"]:
        from vla_pruner_ros.replay.live import parameters_as_recorded

        parameters.update(
            parameters_as_recorded(
                given["as_recorded"], given["recorded_node"], given["params_file"]
            )
        )
    if given["sim"].lower() == simulation.ALOHA:
        parameters.update(simulation.aloha_parameters())
    elif is_true(given["sim"]):
        parameters.update(simulation.policy_parameters(given["task"], given["checkpoint"]))
    if given["checkpoint"]:
        parameters["checkpoint"] = given["checkpoint"]
    if given["image_topic"]:
        parameters["image_topics"] = [given["image_topic"]]
    if given["instruction"]:
        parameters["instruction"] = given["instruction"]
    if given["robot"]:
        parameters["robot"] = given["robot"]
    if given["dry_run"]:
        parameters["dry_run"] = is_true(given["dry_run"])
    if given["keep_ratio"]:
        parameters["keep_ratio"] = number("keep_ratio", given["keep_ratio"])
    return parameters


def number(name: str, text: str) -> float:
    """Read a number. Raises ValueError: it is none; the sentence names the argument."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, got {text!r}") from None


def recorder_parameters(given: dict[str, str]) -> dict[str, object]:
    """Return the parameters of vla_pruner_recorder that the arguments name.

    Raises:
        ValueError: record_compression is none of COMPRESSIONS.
    """
    directory = "" if is_true(given["record"]) else given["record"]
    compression = given["record_compression"] or "none"
    if compression not in COMPRESSIONS:
        raise ValueError(
            f"record_compression must be one of {', '.join(COMPRESSIONS)}, got {compression!r}"
        )
    images = compression if compression in ("png", "jpeg") else "none"
    return {
        "output": directory,
        "image_compression": images,
        "compress": compression == "zstd",
    }


def is_recording(given: dict[str, str]) -> bool:
    """Return whether the launch arguments ask for a recording."""
    return bool(given["record"]) and given["record"].lower() != "false"
