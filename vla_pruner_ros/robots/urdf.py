"""Joint limits out of a URDF, which comes from outside and is not trusted."""

from __future__ import annotations

import math
from xml.etree.ElementTree import TreeBuilder
from xml.parsers import expat

from vla_pruner_ros.robots.profile import JointLimits

MAX_BYTES = 16 << 20
"""A large robot's URDF takes about 1 MB."""
MOVING = ("revolute", "prismatic", "continuous")


class UrdfError(ValueError):
    """A URDF cannot be used; the message gives the reason."""


def joint_limits(text: str) -> dict[str, JointLimits]:
    """Read the limits of every joint that moves.

    Args:
        text: of the URDF, as on robot_description.

    Returns:
        Joint name -> limits; a continuous joint has no min and max.

    Raises:
        UrdfError: too large, no URDF, an entity in it, or limits that are no limits.
    """
    root = _parse(text)
    if root.tag != "robot":
        raise UrdfError(f"the URDF's outermost element is <{root.tag}> instead of <robot>")
    found: dict[str, JointLimits] = {}
    for joint in root.iterfind("joint"):
        if joint.get("type") not in MOVING:
            continue
        name = joint.get("name") or ""
        if not name:
            raise UrdfError("the URDF has a joint without a name")
        if name in found:
            raise UrdfError(f"the URDF has joint {name} twice")
        found[name] = _limits(name, joint)
    return found


def _limits(name: str, joint) -> JointLimits:
    limit = joint.find("limit")
    given = {} if limit is None else limit.attrib
    low, high, velocity = (
        _number(name, given, key) if key in given else None
        for key in ("lower", "upper", "velocity")
    )
    if velocity is not None and velocity <= 0.0:
        velocity = None  # exporters write 0 for unknown
    if joint.get("type") == "continuous":
        return JointLimits(max_velocity=velocity)
    low, high = low or 0.0, high or 0.0  # left out means 0 in the URDF's specification
    if low == high:
        # No joint is built that cannot move: its limits were never filled in.
        return JointLimits(max_velocity=velocity)
    if low > high:
        raise UrdfError(f"the URDF's joint {name} has lower {low:g} above upper {high:g}")
    return JointLimits(min=low, max=high, max_velocity=velocity)


def _number(name: str, given: dict[str, str], key: str) -> float:
    try:
        value = float(given[key])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UrdfError(f"the URDF's joint {name} has {key} {given[key]!r}, which is no number")
    return value


def _parse(text: str):
    """Parse without entities or document types: they can read files and fill the memory."""
    data = text.encode("utf-8", "surrogatepass")
    if len(data) > MAX_BYTES:
        raise UrdfError(
            f"the URDF has {len(data) >> 20} MiB, more than {MAX_BYTES >> 20}: meshes belong into "
            "files of their own"
        )
    builder = TreeBuilder()
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.EntityDeclHandler = _refuse_doctype
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, AssertionError, UnicodeEncodeError) as error:
        raise UrdfError(f"the robot description is not XML: {error}") from None


def _refuse_doctype(*_: object) -> None:
    raise UrdfError("the URDF declares a document type or entities, which are not allowed")
