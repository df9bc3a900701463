"""From a profile's YAML to a checked RobotProfile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vla_pruner_ros.robots.arms import read_arms
from vla_pruner_ros.robots.profile import (
    ACTION_KINDS,
    END_EFFECTOR_ABSOLUTE,
    END_EFFECTOR_DELTA,
    JOINT_KINDS,
    ROTATIONS,
    STATE_SOURCES,
    UNITS,
    ActionField,
    Camera,
    Gripper,
    JointLimits,
    Limits,
    RobotProfile,
    StateField,
    default_names,
)
from vla_pruner_ros.robots.rotations import WIDTHS
from vla_pruner_ros.robots.urdf import UrdfError, joint_limits
from vla_pruner_ros.robots.yaml_reader import Mapping, ProfileError, Value, read_yaml

FORMAT = 1
"""Version of this file format; a later one would be refused by name."""
MAX_WIDTH = 256
MAX_URDF_BYTES = 16 << 20
LENGTHS, ANGLES = ("m", "cm", "mm"), ("rad", "deg")
RATES = ("rad/s", "deg/s", "m/s")
ROTATION_KINDS = tuple(name for name in WIDTHS if name != "position")


def read_profile(path: Path) -> RobotProfile:
    """Read and check a robot profile.

    Raises:
        ProfileError: what is wrong, with file, line and remedy.
    """
    document = read_yaml(path).mapping()
    document.take("format", _read_format)
    grippers = document.take("grippers", _read_grippers, {})
    action = document.take("action", lambda value: _read_action(value, grippers))
    profile = RobotProfile(
        name=path.stem,
        description=document.take("description", Value.text, ""),
        source=document.take("source", Value.text),
        control_rate=document.take("control_rate", Value.positive),
        actions_per_chunk=document.take("actions_per_chunk", Value.integer, 0),
        cameras=document.take("cameras", _read_cameras, ()),
        grippers=grippers,
        state=document.take("state", lambda value: _read_state(value, grippers), ()),
        action=action,
        limits=document.take("limits", lambda value: _read_limits(value, action), Limits()),
        arms=document.take("arms", lambda value: read_arms(value, action, grippers), {}),
        urdf=document.take("urdf", lambda value: _read_urdf(value, path, action), ""),
        file=str(path),
    )
    document.end()
    return profile


def _read_format(value: Value) -> int:
    found = value.integer()
    if found != FORMAT:
        value.fail(f"format {found} is not known; this version reads format {FORMAT}")
    return found


def _read_cameras(value: Value) -> tuple[Camera, ...]:
    cameras: list[Camera] = []
    for item in value.items():
        fields = item.mapping()
        name = fields.take("name", Value.text)
        if name in [camera.name for camera in cameras]:
            item.fail(f"camera {name!r} is given twice")
        camera = Camera(
            name=name,
            rotation=fields.take("rotation", _read_rotation, 0),
            crop=fields.take("crop", _read_crop, Camera.crop),
        )
        fields.end()
        cameras.append(camera)
    return tuple(cameras)


def _read_rotation(value: Value) -> int:
    degrees = value.integer()
    if degrees not in ROTATIONS:
        value.fail(f"rotation must be one of {_listed(ROTATIONS)} degrees, got {degrees}")
    return degrees


def _read_crop(value: Value) -> tuple[float, ...]:
    numbers = value.numbers()
    if len(numbers) != 4:
        value.fail(f"crop must hold left, top, right and bottom, got {len(numbers)} number(s)")
    left, top, right, bottom = numbers
    if not (0.0 <= left < right <= 1.0 and 0.0 <= top < bottom <= 1.0):
        value.fail(
            "crop must hold left, top, right, bottom as shares 0 to 1 of the image, left below "
            f"right and top below bottom, got {list(numbers)}"
        )
    return numbers


def _read_grippers(value: Value) -> dict[str, Gripper]:
    grippers = {}
    for name, entry in value.mapping().each():
        fields = entry.mapping()
        joints = fields.take("joints", Value.texts)
        if not joints:
            entry.fail(f"gripper {name!r} must name at least one joint")
        closed, opened = fields.take("closed", Value.number), fields.take("open", Value.number)
        _check_travel(entry, f"gripper {name!r}", closed, opened)
        fields.end()
        grippers[name] = Gripper(name, joints, closed, opened)
    return grippers


def _check_travel(value: Value, what: str, closed: float, opened: float) -> None:
    if abs(closed - opened) < 1e-9:
        value.fail(f"{what} has the same number for closed and open ({opened:g})")


def _read_state(value: Value, grippers: dict[str, Gripper]) -> tuple[StateField, ...]:
    fields = tuple(_read_state_field(item, grippers) for item in value.items())
    _check_total(value, fields)
    return fields


def _read_state_field(item: Value, grippers: dict[str, Gripper]) -> StateField:
    fields = item.mapping()
    source = fields.take("source", lambda v: v.one_of(STATE_SOURCES))
    common: dict = {"source": source, "line": item.line}
    if source == "gripper":
        common |= _gripper_fields(item, fields, grippers)
        if not grippers[common["gripper"]].joints:
            item.fail(f"gripper {common['gripper']!r} has no joint to measure its opening")
        usual, units = (common["gripper"],), ()
    elif source == "joint_states":
        common["joints"] = usual = _joint_names(item, fields)
        units = (*ANGLES, *LENGTHS)
    else:
        shape = fields.take("representation", lambda v: v.one_of(tuple(WIDTHS)))
        common["representation"], usual = shape, default_names(shape)
        units = _units_of(shape)
        if shape == "axis_angle":
            common["reference"] = fields.take("reference", _read_reference, ())
    result = StateField(**common, **_names_and_scale(fields, usual, units))
    fields.end()
    return result


def _read_reference(value: Value) -> tuple[float, ...]:
    numbers = value.numbers()
    if len(numbers) != 3:
        value.fail(f"reference must hold 3 numbers (rad), got {len(numbers)}")
    return numbers


def _read_action(value: Value, grippers: dict[str, Gripper]) -> tuple[ActionField, ...]:
    items = value.items()
    if not items:
        value.fail("action must hold at least one field")
    fields = tuple(_read_action_field(item, grippers) for item in items)
    _check_total(value, fields)
    _check_combination(value, items, fields)
    return fields


def _read_action_field(item: Value, grippers: dict[str, Gripper]) -> ActionField:
    fields = item.mapping()
    kind = fields.take("kind", lambda v: v.one_of(ACTION_KINDS))
    read: Callable[..., dict] = {"gripper": _read_gripper_command, "unused": _read_unused}.get(
        kind, _read_joint_command if kind in JOINT_KINDS else _read_end_effector
    )
    result = ActionField(kind=kind, line=item.line, **read(item, fields, kind, grippers))
    fields.end()
    return result


def _read_end_effector(item: Value, fields: Mapping, kind: str, _grippers: dict) -> dict:
    shapes = tuple(WIDTHS)
    if kind == END_EFFECTOR_DELTA:  # a small turn has three numbers
        shapes = ("position", "rpy", "axis_angle")
    shape = fields.take("representation", lambda v: v.one_of(shapes))
    prefix = "d" if kind == END_EFFECTOR_DELTA else ""
    found: dict = {"representation": shape}
    if kind == END_EFFECTOR_DELTA:
        found["frame"] = fields.take("frame", lambda v: v.one_of(("base", "tool")), "base")
    return found | _names_and_scale(fields, default_names(shape, prefix), _units_of(shape))


def _read_joint_command(item: Value, fields: Mapping, kind: str, _grippers: dict) -> dict:
    joints = _joint_names(item, fields)
    found: dict = {"joints": joints}
    if kind == "joint_position":
        found["relative_to_state"] = fields.take("relative_to_state", Value.boolean, False)
    units = RATES if kind == "joint_velocity" else (*ANGLES, *LENGTHS)
    return found | _names_and_scale(fields, joints, units)


def _read_gripper_command(item: Value, fields: Mapping, _kind: str, grippers: dict) -> dict:
    found = _gripper_fields(item, fields, grippers)
    threshold = fields.take("threshold", Value.number, None)
    low, high = sorted((found["closed"], found["open"]))
    if threshold is not None and not low <= threshold <= high:
        item.fail(
            f"threshold {threshold:g} lies outside closed {found['closed']:g} and open "
            f"{found['open']:g}: the gripper would never move"
        )
    return found | {"threshold": threshold} | _names_and_scale(fields, (found["gripper"],), ())


def _read_unused(item: Value, fields: Mapping, _kind: str, _grippers: dict) -> dict:
    width = fields.take("width", Value.integer)
    if not 0 < width <= MAX_WIDTH:
        item.fail(f"width must be 1 to {MAX_WIDTH}, got {width}")
    names = fields.take("names", Value.texts, tuple(f"unused_{n}" for n in range(width)))
    if len(names) != width:
        item.fail(f"names holds {len(names)} names for {width} numbers")
    return {"names": names}


def _gripper_fields(item: Value, fields: Mapping, grippers: dict[str, Gripper]) -> dict:
    """Read which gripper a field means and its numbers; one that is not declared has no joint."""
    name = fields.take("gripper", Value.text, next(iter(grippers), "gripper"))
    if grippers and name not in grippers:
        item.fail(f"gripper {name!r} is not under grippers, which has {_listed(grippers)}")
    grippers.setdefault(name, Gripper(name))
    closed, opened = fields.take("closed", Value.number), fields.take("open", Value.number)
    _check_travel(item, f"the {item.name.split(',')[0]} field of gripper {name!r}", closed, opened)
    return {"gripper": name, "closed": closed, "open": opened}


def _joint_names(item: Value, fields: Mapping) -> tuple[str, ...]:
    joints = fields.take("joints", Value.texts)
    if not joints:
        item.fail("joints must name at least one joint")
    return joints


def _units_of(representation: str) -> tuple[str, ...]:
    if representation == "position":
        return LENGTHS
    return ANGLES if representation in ("rpy", "axis_angle") else ()


def _names_and_scale(fields: Mapping, usual: tuple[str, ...], units: tuple[str, ...]) -> dict:
    names = fields.take("names", lambda v: _counted(v, v.texts(), len(usual)), usual)
    scale = fields.take("scale", lambda v: _read_scale(v, len(usual)), (1.0,) * len(usual))
    offset = fields.take(
        "offset", lambda v: _repeated(v, v.numbers(), len(usual)), (0.0,) * len(usual)
    )
    unit = fields.take("unit", lambda v: _read_unit(v, units)) if units else ""
    return {"names": names, "scale": scale, "offset": offset, "unit": unit}


def _read_unit(value: Value, units: tuple[str, ...]) -> str:
    unit = value.text()
    if unit not in UNITS:
        value.fail(f"there is no unit {unit!r}; units here are {_listed(units)}")
    if unit not in units:
        value.fail(f"unit {unit!r} does not fit here; units here are {_listed(units)}")
    return unit


def _read_scale(value: Value, count: int) -> tuple[float, ...]:
    scale = _repeated(value, value.numbers(), count)
    if not all(scale):
        value.fail("scale must not be 0: the numbers would lose their meaning")
    return scale


def _repeated(value: Value, numbers: tuple[float, ...], count: int) -> tuple[float, ...]:
    return numbers * count if len(numbers) == 1 else _counted(value, numbers, count)


def _counted(value: Value, found: tuple, count: int) -> tuple:
    if len(found) != count:
        value.fail(f"{value.name} holds {len(found)} entries for {count} number(s)")
    return found


def _check_total(value: Value, fields: tuple) -> None:
    names = [name for part in fields for name in part.names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        value.fail(f"{value.name} has the names {_listed(twice)} more than once; set names")
    if len(names) > MAX_WIDTH:
        value.fail(f"{value.name} has {len(names)} numbers, more than {MAX_WIDTH}")


def _check_combination(value: Value, items: list[Value], fields: tuple[ActionField, ...]) -> None:
    """An arm follows one kind of command, and each part of it is commanded once."""
    kinds = {part.kind for part in fields} - {"gripper", "unused"}
    if not kinds:
        value.fail("action moves no arm: it needs an end effector's or joints' field")
    end_effector = kinds & {END_EFFECTOR_DELTA, END_EFFECTOR_ABSOLUTE}
    if end_effector and len(kinds) > 1:
        value.fail(f"action mixes {_listed(kinds)}; an arm follows one of them")
    seen: set[str] = set()
    for item, part in zip(items, fields, strict=True):
        for what in _commanded(part):
            if what in seen:
                item.fail(f"{what} is commanded twice")
            seen.add(what)
    if end_effector and sum(part.kind == "gripper" for part in fields) > 1:
        value.fail("an end effector's action takes one gripper at most")
    if end_effector and "the end effector's position" not in seen:
        value.fail("action turns the end effector but has no field with representation position")


def _commanded(part: ActionField) -> tuple[str, ...]:
    if part.kind == "gripper":
        return (f"gripper {part.gripper!r}",)
    if part.kind in JOINT_KINDS:
        return tuple(f"joint {name!r}" for name in part.joints)
    if part.kind == "unused":
        return ()
    return ("the end effector's " + ("position" if part.representation == "position" else "turn"),)


def _read_limits(value: Value, action: tuple[ActionField, ...]) -> Limits:
    fields = value.mapping()
    commanded = [name for part in action if part.kind in JOINT_KINDS for name in part.joints]
    common = {
        name: fields.take(name, Value.positive, None) for name in ("max_velocity", "max_step")
    }
    joints = fields.take("joints", lambda v: _read_joint_limits(v, commanded), {})
    limits = Limits(
        max_translation=fields.take("max_translation", Value.positive, None),
        max_rotation=fields.take("max_rotation", Value.positive, None),
        max_gripper_step=fields.take("max_gripper_step", Value.positive, None),
        max_jump=fields.take("max_jump", Value.positive, Limits.max_jump),
        joints={name: _joint_limits({**common, **joints.get(name, {})}) for name in commanded},
    )
    fields.end()
    return limits


def _read_joint_limits(value: Value, commanded: list[str]) -> dict[str, dict]:
    found = {}
    for name, entry in value.mapping().each():
        if name not in commanded:
            entry.fail(f"joint {name!r} has limits, but action commands {_listed(commanded)}")
        fields = entry.mapping()
        given = {n: fields.take(n, Value.number, None) for n in ("min", "max")}
        given |= {n: fields.take(n, Value.positive, None) for n in ("max_velocity", "max_step")}
        fields.end()
        if None not in (given["min"], given["max"]) and given["min"] >= given["max"]:
            entry.fail(f"joint {name!r} has min {given['min']:g} not below max {given['max']:g}")
        found[name] = {key: number for key, number in given.items() if number is not None}
    return found


def _joint_limits(given: dict) -> JointLimits:
    return JointLimits(**given)


def _read_urdf(value: Value, path: Path, action: tuple[ActionField, ...]) -> str:
    """Read a URDF next to the profile; a path could lead out of the profile's folder."""
    name = value.text()
    folder = path.resolve().parent
    file = (folder / name).resolve()
    if Path(name).name != name or file.parent != folder:
        value.fail(f"urdf must name a file next to the profile, got {name!r}")
    try:
        if file.stat().st_size > MAX_URDF_BYTES:
            value.fail(f"urdf {name} is larger than {MAX_URDF_BYTES >> 20} MiB")
        text = file.read_text(encoding="utf-8")
        known = joint_limits(text)
    except (OSError, UnicodeDecodeError, UrdfError) as error:
        value.fail(f"urdf {name} cannot be read: {error}")
    commanded = [joint for part in action if part.kind in JOINT_KINDS for joint in part.joints]
    missing = [joint for joint in commanded if joint not in known]
    if missing:
        value.fail(
            f"urdf {name} has no joint {_listed(missing)}, which action commands; it has "
            f"{_listed(known)}"
        )
    return text


def _listed(names) -> str:
    return ", ".join(map(str, names)) or "none"


__all__ = ["ProfileError", "read_profile"]
