"""Bad robot profiles, URDFs, joint targets, measured joints and gripper openings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vla_pruner_lab.reliability.case import BadInput
from vla_pruner_ros.control.joints import JointBounds, limit_opening
from vla_pruner_ros.robots import load_profile
from vla_pruner_ros.robots.profile import JointLimits
from vla_pruner_ros.robots.urdf import joint_limits

NAN, INF = float("nan"), float("inf")
PROFILE = """\
format: 1
source: a test
control_rate: 10.0
cameras:
  - {name: front, rotation: 180}
grippers:
  hand: {joints: [finger], closed: 0.0, open: 0.04}
state:
  - {source: joint_states, joints: [a, b], unit: rad}
  - {source: gripper, closed: 0, open: 100, names: [hand.pos]}
action:
  - {kind: joint_position, joints: [a, b], unit: deg}
  - {kind: gripper, closed: 0, open: 100}
limits:
  max_velocity: 1.0
  joints:
    a: {min: -1.0, max: 1.0}
"""
URDF = (
    '<robot name="r"><joint name="a" type="revolute"><limit lower="-1" upper="1"/></joint>'
    '<joint name="b" type="revolute"><limit lower="-1" upper="1"/></joint></robot>'
)
ARM, HAND, LIMIT = "kind: joint_position", "{kind: gripper, closed: 0, open: 100}", "min: -1.0"


def cases() -> Iterator[BadInput]:
    """Yield wrong robot profiles, robot descriptions, joint targets and openings."""
    yield from wrong_fields()
    yield from wrong_numbers()
    yield from profiles_with_urdfs()
    yield from urdfs()
    yield from joints()
    yield from openings()


def profile_case(name: str, line: int, text: str, old: str, new: str) -> BadInput:
    """Return the case of PROFILE with one place changed; text: what follows file and line."""
    assert PROFILE.count(old) == 1, old

    def attempt(directory: Path) -> Any:
        return read(directory, PROFILE.replace(old, new))

    return BadInput("robot profiles", f"profile {name}", attempt, f"robot.yaml:{line}: {text}")


def wrong_fields() -> Iterator[BadInput]:
    """Yield profiles with missing, unknown and doubled fields."""
    case = profile_case
    for field, line in (("source: a test\n", 1), ("control_rate: 10.0\n", 1)):
        name = field.partition(":")[0]
        yield case(f"without {name}", line, f"the file lacks the field {name!r}", field, "")
    text = "action, entry 2 lacks the field 'open'"
    yield case("without an opening", 13, text, ", open: 100}\nl", "}\nl")
    yield case("without a unit", 12, "action, entry 1 lacks the field 'unit'", ", unit: deg", "")
    yield case("without a kind", 12, "action, entry 1 lacks the field 'kind'", f"{ARM}, ", "")
    for field, line in (("source: a test", 3), ("control_rate: 10.0", 4)):
        name = field.partition(":")[0]
        doubled = f"{field}\n{field}"
        yield case(f"with {name} twice", line, f"field {name!r} is given twice", field, doubled)
    yield case("with a nested field twice", 17, "field 'min' is given twice", LIMIT,
               f"{LIMIT}, {LIMIT}")  # fmt: skip
    for place, old, line in (("file", "control_rate", 3), ("limits", "max_velocity", 15),
                             ("joint", LIMIT, 17), ("camera", "rotation", 5)):  # fmt: skip
        comma = ", " if line in (5, 17) else "\n" + "  " * (line == 15)
        yield case(f"with an unknown field in {place}", line, "", old, f"speed: 1{comma}{old}")
    for unit in ("degrees", "RAD", "radians", "inch", "", "m/s", "N"):
        yield case(f"in the unit {unit!r}", 12, "", "unit: deg", f"unit: '{unit}'")
    for count, names in ((1, "[x]"), (3, "[x, y, z]"), (0, "[]")):
        text = f"names holds {count} entries for 2 number(s)"
        yield case(f"with {count} names", 12, text, ARM, f"{ARM}, names: {names}")
    for numbers in ([0, 0, 0], [0] * 4, []):
        yield case(f"with {len(numbers)} offsets", 12, "offset holds", ARM,
                   f"{ARM}, offset: {numbers}")  # fmt: skip
        yield case(f"with {len(numbers)} scales", 12, "scale holds", ARM,
                   f"{ARM}, scale: {numbers}")  # fmt: skip
    yield case("with a scale of zero", 12, "scale must not be 0", ARM, f"{ARM}, scale: 0")


def wrong_numbers() -> Iterator[BadInput]:
    """Yield profiles with numbers that are not finite or out of range."""
    case = profile_case
    for value in (".nan", ".inf", "-.inf"):
        yield case(f"with min {value}", 17, "min must be a finite number", LIMIT, f"min: {value}")
        yield case(f"with max_velocity {value}", 15, "max_velocity must be a finite number",
                   "max_velocity: 1.0", f"max_velocity: {value}")  # fmt: skip
    for low in ("1.0", "2.0", "1.0e+300"):
        yield case(f"with min {low}", 17, "joint 'a' has min", LIMIT, f"min: {low}")
    for value in ("0", "-1"):
        yield case(f"with max_velocity {value}", 15, "max_velocity must be above 0",
                   "max_velocity: 1.0", f"max_velocity: {value}")  # fmt: skip
    for joint in ("c", "A", "''"):
        yield case(f"with limits of joint {joint}", 17, "", f"a: {{{LIMIT}", f"{joint}: {{{LIMIT}")
    for value in ("0.0", "0.04", "-7"):
        old = "closed: 0.0, open: 0.04"
        text = "gripper 'hand' has the same number for closed and open"
        yield case(f"with a gripper that stays at {value}", 7, text, old,
                   f"closed: {value}, open: {value}")  # fmt: skip
    for value in ("0", "5"):
        new = f"{{kind: gripper, closed: {value}, open: {value}}}\nlimits"
        text = "the action field of gripper"
        yield case(f"with gripper numbers {value} twice", 13, text, f"{HAND}\nlimits", new)
    for value in ("101", "-1", ".nan"):
        yield case(f"with a threshold of {value}", 13, "threshold", f"{HAND}\nlimits",
                   f"{HAND[:-1]}, threshold: {value}}}\nlimits")  # fmt: skip


def profiles_with_urdfs() -> Iterator[BadInput]:
    """Yield profiles that name a URDF which cannot be used."""
    line = PROFILE.count("\n") + 1

    def case(
        name: str, text: str, path: str, content: bytes | None = None, reason: str = ""
    ) -> BadInput:
        def attempt(directory: Path) -> Any:
            if content is not None:
                (directory / "arm.urdf").write_bytes(content)
            return read(directory, f"{PROFILE}urdf: {path}\n")

        whole = f"robot.yaml:{line}: {text}{reason}"
        return BadInput("robot profiles", f"profile with a URDF {name}", attempt, whole)

    for path in ("../arm.urdf", "/etc/hostname", "folder/arm.urdf", "..", "./arm.urdf"):
        yield case(f"at {path}", "urdf must name a file next to the profile", path)
    yield case("that is not there", "urdf arm.urdf cannot be read", "arm.urdf")
    for name, text, content in (
        ("that is empty", "the robot description is not XML", b""),
        ("of text", "the robot description is not XML", b"hello"),
        ("of bytes", "'utf-8' codec", b"\xff\xfe\x00"),
        ("cut", "the robot description is not XML", URDF[:60].encode()),
        ("of another kind", "the URDF's outermost element is <sdf>", b"<sdf/>"),
        (
            "with entities",
            "the URDF declares a document type",
            b'<!DOCTYPE r [<!ENTITY a "b">]><robot/>',
        ),
        (
            "with min above max",
            "the URDF's joint a has lower 3",
            URDF.replace("-1", "3", 1).encode(),
        ),
        (
            "with NaN limits",
            "the URDF's joint a has lower 'nan'",
            URDF.replace("-1", "nan", 1).encode(),
        ),
    ):
        yield case(name, "urdf arm.urdf cannot be read: ", "arm.urdf", content, text)
    yield case("of 50 MB", "urdf arm.urdf is larger than 16 MiB", "arm.urdf", bytes(50 << 20))
    for joint in ("b", "a"):
        renamed = URDF.replace(f'"{joint}"', '"other"').encode()
        text = f"urdf arm.urdf has no joint {joint}, which action commands"
        yield case(f"without joint {joint}", text, "arm.urdf", renamed)


def urdfs() -> Iterator[BadInput]:
    """Yield robot descriptions that cannot be used."""
    for name, text, content in (
        ("that is empty", "not XML", ""), ("of text", "not XML", "robot"),
        ("of JSON", "not XML", '{"robot": 1}'), ("cut", "not XML", URDF[:40]),
        ("with two roots", "not XML", URDF * 2), ("of SDF", "<sdf> instead", "<sdf/>"),
        ("of 50 MB", "50 MiB, more than 16", "<robot>" + " " * (50 << 20) + "</robot>"),
        ("with entities", "document type", '<!DOCTYPE r [<!ENTITY a "b">]><robot/>'),
        ("that reads a file", "document type",
         '<!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/passwd">]><robot>&a;</robot>'),
        ("with NaN limits", "no number", URDF.replace("-1", "nan", 1)),
        ("with infinite limits", "no number", URDF.replace("-1", "inf", 1)),
        ("with limits of words", "no number", URDF.replace("-1", "low", 1)),
        ("with min above max", "above upper", URDF.replace("-1", "3", 1)),
        ("with a joint twice", "joint a twice", URDF.replace('"b"', '"a"')),
        ("with a joint without a name", "without a name", URDF.replace('"b"', '""')),
    ):  # fmt: skip
        take = lambda _, content=content: joint_limits(content)  # noqa: E731
        yield BadInput("robot descriptions", f"URDF {name}", take, text)


def joints() -> Iterator[BadInput]:
    """Yield joint targets that are not finite, out of range or too far away."""
    limits = {"a": JointLimits(-1.0, 1.0), "b": JointLimits(-1.0, 1.0)}
    made = JointBounds.combined(("a", "b"), [limits], 1.0, 0.3, 0.1)
    here = np.zeros(2)
    for value in (NAN, INF, -INF):
        for place, name in enumerate("ab"):
            target = np.where(np.arange(2) == place, value, 0.0)
            text = f"targets of joints {name} are not finite"
            yield BadInput("joint targets", f"target {value} of {name}",
                           lambda _, t=target: made.apply(t, here), text)  # fmt: skip
            yield BadInput("joint targets", f"first target {value} of {name}",
                           lambda _, t=target: made.check_jump(t, here), text)  # fmt: skip
    for value in (0.31, -0.9, 1e30, 57.3):
        yield BadInput("joint targets", f"first target {value} rad away",
                       lambda _, v=value: made.check_jump(np.array([0.0, v]), here),
                       "next target of joint b")  # fmt: skip
    for value in (1e30, -1e30, 2.0, 0.5):
        yield BadInput(
            "joint targets", f"target of {value} rad",
            lambda _, v=value: made.apply(np.array([v, v]), here)[0],
            check=lambda got: bool(np.abs(got).max() <= 0.1 + 1e-9),
        )  # fmt: skip
    for value in (1.31, -40.0, 1e308):
        yield BadInput("measured joints", f"joint measured at {value} rad",
                       lambda _, v=value: made.check_measured(np.array([v, 0.0])),
                       "Joint a is measured at")  # fmt: skip
    for sources, text in (
        ([{"a": limits["a"]}], "no limits for joints b"), ([{}], "no limits for joints a, b"),
        ([limits, {"b": JointLimits(2.0, 3.0)}], "no range for joints b"),
    ):  # fmt: skip
        take = lambda _, s=sources: JointBounds.combined("ab", s, 1.0, 0.3, 0.1)  # noqa: E731
        yield BadInput("joint targets", f"limits that give {text}", take, text)


def openings() -> Iterator[BadInput]:
    """Yield gripper openings that are not finite or out of range."""
    for value in (NAN, INF, -INF):
        yield BadInput("gripper openings", f"opening {value}",
                       lambda _, v=value: limit_opening(v, None, 1.0), "not finite")  # fmt: skip
    for value in (-1.0, 1.5, 1e30, -1e30):
        yield BadInput("gripper openings", f"opening of {value}",
                       lambda _, v=value: limit_opening(v, 0.5, 0.25)[0],
                       check=lambda got: 0.25 <= got <= 0.75)  # fmt: skip


def read(directory: Path, text: str) -> Any:
    """Read a robot profile from this text."""
    path = directory / "robot.yaml"
    path.write_text(text)
    return load_profile(str(path))
