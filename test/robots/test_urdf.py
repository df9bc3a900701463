"""Joint limits from a URDF, and URDFs that are none."""

from __future__ import annotations

import pytest

from vla_pruner_ros.robots.profile import JointLimits
from vla_pruner_ros.robots.urdf import MAX_BYTES, UrdfError, joint_limits

ARM = """<?xml version="1.0"?>
<robot name="arm">
  <link name="base"/>
  <joint name="shoulder" type="revolute">
    <limit lower="-1.5" upper="1.5" velocity="2.0" effort="10"/>
  </joint>
  <joint name="wheel" type="continuous"><limit velocity="3.0"/></joint>
  <joint name="finger" type="prismatic"><limit upper="0.04" velocity="0"/></joint>
  <joint name="mount" type="fixed"/>
  <gazebo><joint name="shoulder"/></gazebo>
</robot>
"""


def test_limits_of_the_joints_that_move():
    assert joint_limits(ARM) == {
        "shoulder": JointLimits(-1.5, 1.5, 2.0),
        "wheel": JointLimits(max_velocity=3.0),
        "finger": JointLimits(0.0, 0.04),
    }


BOMB = """<!DOCTYPE robot [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<robot name="&b;"/>"""
FILE = '<!DOCTYPE robot [<!ENTITY x SYSTEM "file:///etc/hostname">]><robot name="&x;"/>'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not XML"),
        ("no XML at all", "not XML"),
        ("<robot><joint></robot>", "not XML"),
        (ARM + "<robot/>", "not XML"),
        ("<sdf/>", "<sdf> instead of <robot>"),
        (BOMB, "document type or entities"),
        (FILE, "document type or entities"),
        (ARM.replace('"-1.5"', '"2.0"'), "shoulder has lower 2 above upper 1.5"),
        (ARM.replace('"-1.5"', '"nan"'), "lower 'nan', which is no number"),
        (ARM.replace('"-1.5"', '"minus"'), "lower 'minus', which is no number"),
        (ARM.replace('"wheel"', '"shoulder"'), "joint shoulder twice"),
        (ARM.replace('name="wheel"', ""), "a joint without a name"),
        ("<robot>\udcff</robot>", "not XML"),
    ],
)
def test_what_is_no_urdf_is_refused_with_a_sentence(text, sentence):
    with pytest.raises(UrdfError, match=sentence):
        joint_limits(text)


def test_fifty_megabytes_are_refused_unparsed():
    with pytest.raises(UrdfError, match=r"has 50 MiB, more than 16"):
        joint_limits("<robot>" + " " * (50 << 20) + "</robot>")
    assert MAX_BYTES < 50 << 20


def test_a_description_with_large_meshes_inside_its_limits_is_read():
    assert joint_limits(ARM.replace("<link", "<!--" + "x" * (1 << 20) + "--><link"))
