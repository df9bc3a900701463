"""Robot profiles: the bundled ones, and every way in which a file can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_pruner_ros.robots import ProfileError, bundled_profiles, load_profile
from vla_pruner_ros.robots.parsing import MAX_URDF_BYTES, read_profile
from vla_pruner_ros.robots.yaml_reader import MAX_BYTES

GOOD = """\
format: 1
source: a test
control_rate: 10.0
cameras:
  - {name: front, rotation: 180, crop: [0.1, 0.0, 0.9, 1.0]}
grippers:
  hand: {joints: [finger], closed: 0.0, open: 0.04}
state:
  - {source: joint_states, joints: [a, b], unit: deg}
  - {source: gripper, closed: 0, open: 100, names: [hand.pos]}
action:
  - {kind: joint_position, joints: [a, b], unit: deg, names: [a.pos, b.pos]}
  - {kind: gripper, closed: 0, open: 100}
limits:
  max_velocity: 1.0
  joints:
    a: {min: -1.0, max: 1.0, max_step: 0.1}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "robot.yaml"
    path.write_text(text)
    return path


def replaced(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def test_a_profile_is_read(tmp_path):
    profile = load_profile(str(write(tmp_path, GOOD)))
    assert profile.name == "robot"
    assert profile.action_names == ("a.pos", "b.pos", "hand")
    assert profile.action_units == ("deg", "deg", "")
    assert profile.joints == ("a", "b")
    assert profile.needed_joints == ("a", "b", "finger")
    assert not profile.needs_pose
    assert profile.limits.joints["a"].max_velocity == profile.limits.joints["b"].max_velocity == 1.0
    assert (profile.limits.joints["a"].max_step, profile.limits.joints["b"].max_step) == (0.1, None)
    assert profile.cameras[0].rotation == 180


def test_every_bundled_profile_is_read_and_names_its_source():
    names = bundled_profiles()
    assert {
        "metaworld", "widowx_bridge", "franka_libero", "franka_droid", "so101", "aloha", "ur5"
    } <= set(names)  # fmt: skip
    for name in names:
        profile = load_profile(name)
        assert profile.source
        assert profile.description
        for joint in profile.joints:
            limits = profile.limits.joints[joint]
            assert limits.min < limits.max, f"{name}: {joint}"
            assert limits.max_velocity, f"{name}: {joint}"


@pytest.mark.parametrize(
    ("name", "action", "state", "cameras"),
    [
        ("metaworld", 7, 9, 2),
        ("widowx_bridge", 7, 0, 1),
        ("franka_libero", 7, 8, 2),
        ("franka_libero_pi0", 7, 8, 2),
        ("franka_droid", 8, 8, 2),
        ("so101", 6, 6, 2),
        ("aloha", 14, 14, 4),
        ("ur5", 7, 7, 2),
    ],
)
def test_bundled_profiles_have_the_widths_of_their_data_sets(name, action, state, cameras):
    profile = load_profile(name)
    assert (profile.action_dim, profile.state_dim, len(profile.cameras)) == (action, state, cameras)


BAD = {
    "a field is missing": (replaced("source: a test\n", ""), 1, "lacks the field 'source'"),
    "a nested field is missing": (
        replaced("{kind: gripper, closed: 0, open: 100}", "{kind: gripper, closed: 0}"), 13,
        "lacks the field 'open'"),
    "a field is given twice": (
        replaced("source: a test\n", "source: a test\nsource: b\n"), 3, "'source' is given twice"),
    "a field is unknown": (
        replaced("control_rate", "speed: 3\ncontrol_rate"), 3, "no field 'speed'; known fields"),
    "a nested field is unknown": (
        replaced("max_step: 0.1", "max_stp: 0.1"), 17, "no field 'max_stp'"),
    "a unit does not exist": (
        replaced("unit: deg}", "unit: degrees}"), 9, "no unit 'degrees'; units here are rad, deg"),
    "a unit does not fit": (replaced("unit: deg}", "unit: m/s}"), 9, "'m/s' does not fit here"),
    "too few names": (replaced("[a.pos, b.pos]", "[a.pos]"), 12, "1 entries for 2 number(s)"),
    "a name twice": (replaced("[a.pos, b.pos]", "[a.pos, a.pos]"), 12, "names 'a.pos' twice"),
    "two fields with one name": (
        replaced("names: [hand.pos]", "names: [a]"), 9, "names a more than once"),
    "a scale of the wrong length": (
        replaced("unit: deg}", "unit: deg, scale: [1, 2, 3]}"), 9, "3 entries for 2 number(s)"),
    "a scale of zero": (replaced("unit: deg}", "unit: deg, scale: 0}"), 9, "must not be 0"),
    "a limit that is no number": (replaced("min: -1.0", "min: .nan"), 17, "finite number, got nan"),
    "an infinite limit": (replaced("max: 1.0, max_step", "max: .inf, max_step"), 17, "finite"),
    "min above max": (replaced("min: -1.0", "min: 2.0"), 17, "min 2 not below max 1"),
    "limits of a joint that nothing commands": (
        replaced("    a: {min", "    c: {min"), 17,
        "joint 'c' has limits, but action commands a, b"),
    "a velocity of zero": (replaced("max_velocity: 1.0", "max_velocity: 0"), 15, "above 0, got 0"),
    "a gripper whose open equals closed": (
        replaced("closed: 0.0, open: 0.04", "closed: 0.04, open: 0.04"), 7,
        "same number for closed and open (0.04)"),
    "a gripper command whose open equals closed": (
        replaced("{kind: gripper, closed: 0, open: 100}", "{kind: gripper, closed: 5, open: 5}"),
        13, "same number for closed and open (5)"),
    "a threshold that is never reached": (
        replaced("closed: 0, open: 100}", "closed: 0, open: 100, threshold: 101}"), 13,
        "threshold 101 lies outside"),
    "a gripper that is not declared": (
        replaced("{kind: gripper,", "{kind: gripper, gripper: claw,"), 13,
        "'claw' is not under grippers, which has hand"),
    "a kind that does not exist": (
        replaced("kind: joint_position", "kind: joint_torque"), 12, "must be one of"),
    "a joint commanded twice": (
        replaced("  - {kind: gripper, closed: 0, open: 100}",
                 "  - {kind: joint_delta, joints: [a], unit: rad, names: [z]}"), 13,
        "joint 'a' is commanded twice"),
    "two kinds of motion": (
        replaced("  - {kind: gripper, closed: 0, open: 100}",
                 "  - {kind: end_effector_delta, representation: position, unit: m}"), 12,
        "an arm follows one of them"),
    "nothing that moves": (
        replaced("{kind: joint_position, joints: [a, b], unit: deg, names: [a.pos, b.pos]}",
                 "{kind: unused, width: 2}"), 12, "action moves no arm"),
    "a crop inside out": (
        replaced("crop: [0.1, 0.0, 0.9, 1.0]", "crop: [0.9, 0, 0.1, 1]"), 5, "left below right"),
    "a crop of three numbers": (
        replaced("crop: [0.1, 0.0, 0.9, 1.0]", "crop: [0, 0, 1]"), 5, "got 3 number(s)"),
    "an odd rotation": (replaced("rotation: 180", "rotation: 45"), 5, "0, 90, 180, 270 degrees"),
    "a camera twice": (
        replaced("  - {name: front,", "  - {name: front}\n  - {name: front,"), 6,
        "camera 'front' is given twice"),
    "another format": (replaced("format: 1", "format: 2"), 1, "this version reads format 1"),
    "no number": (replaced("control_rate: 10.0", "control_rate: fast"), 3, "must be a number"),
    "a word for a list": (replaced("joints: [finger]", "joints: finger"), 7, "must be a list"),
    "a list for a mapping": (replaced("limits:\n", "limits: []\nx:\n"), 14, "must be a mapping"),
    "a number of a million digits": (
        replaced("control_rate: 10.0", "control_rate: " + "9" * 5000), 3, "control_rate"),
    "code": (
        replaced("source: a test", "source: !!python/object/apply:os.system [ls]"), 2,
        "source must be a single value"),
    "code in a scalar": (
        replaced("source: a test", "source: !!python/name:os.system ''"), 2, "cannot be read"),
    "an alias": (
        replaced("control_rate: 10.0", "control_rate: &x 10.0\ndescription: *x"), 4, "aliases"),
    "tabs": (replaced("  - {name: front", "\t- {name: front"), 5, "this is not YAML"),
    "a bracket that never closes": (replaced("[finger]", "[finger"), 7, "this is not YAML"),
    "a URDF elsewhere": (GOOD + "urdf: ../other.urdf\n", 18, "must name a file next to"),
    "a URDF at an absolute path": (GOOD + "urdf: /etc/hostname\n", 18, "must name a file next to"),
    "a URDF that is not there": (GOOD + "urdf: arm.urdf\n", 18, "arm.urdf cannot be read"),
}  # fmt: skip


ARMS = """\
arms:
  one: {joints: [a, b], gripper: hand}
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "sentence"),
    [
        ("[a, b]", "[a, c]", 19, "arm 'one' names joint 'c', which action does not command"),
        ("[a, b]", "[a]", 19, "no arm has joint b, which action commands"),
        (", gripper: hand", "", 19, "no arm has gripper hand, which action commands"),
        ("gripper: hand", "gripper: claw", 19, "names gripper 'claw', which action does not"),
        ("[a, b], gripper: hand}", "[b], gripper: hand}\n  two: {joints: [a, b]}", 20,
         "arm 'two' names joint 'b'"),
        ("[a, b]", "[]", 19, "must name at least one joint"),
        ("[a, b]", "[a, a]", 19, "names 'a' twice"),
        ("one:", "One/:", 19, "arm 'One/' becomes part of topic names"),
        ("one:", "preview:", 19, "arm 'preview' becomes part of topic names"),
        ("gripper: hand", "gripper: hand, prefix: left_", 19, "'a' of arm 'one' has no name after"),
        ("gripper: hand", "gripper: hand, prefix: a", 19, "'a' of arm 'one' has no name after 'a'"),
        ("gripper: hand", "gripper: hand, speed: 3", 19, "no field 'speed'"),
    ],
)  # fmt: skip
def test_wrong_arms_are_refused_with_file_and_line(old, new, line, sentence, tmp_path):
    assert ARMS.count(old) == 1
    path = write(tmp_path, GOOD + ARMS.replace(old, new))
    with pytest.raises(ProfileError) as refused:
        read_profile(path)
    assert sentence in str(refused.value)
    assert str(refused.value).startswith(f"{path}:{line}: "), str(refused.value)


def test_arms_are_read_with_the_names_of_their_controllers(tmp_path):
    text = GOOD.replace("[finger]", "[left_finger]").replace("[a, b]", "[left_a, left_b]")
    text = text.replace("    a: {min", "    left_a: {min")
    arms = ARMS.replace("[a, b]", "[left_b, left_a]").replace("hand}", "hand, prefix: left_}")
    arm = read_profile(write(tmp_path, text + arms)).arms["one"]
    assert (arm.joints, arm.gripper) == (("left_b", "left_a"), "hand")
    assert [arm.controller_name(joint) for joint in arm.joints] == ["b", "a"]
    assert load_profile("aloha").arms.keys() == {"left", "right"}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_profile_is_refused_with_file_and_line(case, tmp_path):
    text, line, sentence = BAD[case]
    path = write(tmp_path, text)
    with pytest.raises(ProfileError) as refused:
        read_profile(path)
    assert sentence in str(refused.value)
    assert str(refused.value).startswith(f"{path}:{line}: "), str(refused.value)


def test_a_urdf_link_may_not_lead_out_of_the_folder(tmp_path):
    outside = tmp_path / "outside.urdf"
    outside.write_text("<robot/>")
    folder = tmp_path / "profiles"
    folder.mkdir()
    (folder / "arm.urdf").symlink_to(outside)
    with pytest.raises(ProfileError, match="next to the profile"):
        read_profile(write(folder, GOOD + "urdf: arm.urdf\n"))


def test_a_urdf_of_fifty_megabytes_is_refused_unread(tmp_path):
    with (tmp_path / "arm.urdf").open("wb") as file:
        file.truncate(50 << 20)
    assert MAX_URDF_BYTES < 50 << 20
    with pytest.raises(ProfileError, match="larger than 16 MiB"):
        read_profile(write(tmp_path, GOOD + "urdf: arm.urdf\n"))


@pytest.mark.parametrize("text", ["", "[[" * 5000, "- 1\n- 2\n", "just words", "\x00\x01"])
def test_a_file_that_is_no_profile_is_refused(text, tmp_path):
    with pytest.raises(ProfileError, match=r"robot\.yaml"):
        read_profile(write(tmp_path, text))


def test_a_file_that_is_too_large_is_refused_unread(tmp_path):
    path = tmp_path / "robot.yaml"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ProfileError, match="larger than 256 KiB"):
        read_profile(path)


def test_an_unknown_robot_is_refused_with_the_known_ones():
    with pytest.raises(ProfileError, match=r"neither a file nor .*franka_libero"):
        load_profile("no_such_robot")
