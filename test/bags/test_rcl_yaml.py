"""Parameter files are read as rcl reads them."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vla_pruner_ros.bags.parameter_file import parameters_of_file
from vla_pruner_ros.bags.rcl_yaml import RclLoader, rcl_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-1", 0.5), ("5E-1", 0.5), ("1e3", 1000.0), ("+.5", 0.5), ("-2.", -2.0),
        ("1.5e+2", 150.0),
        ("0.25", 0.25), (".inf", math.inf), ("-.inf", -math.inf), ("inf", math.inf),
        ("16", 16), ("-3", -3), ("0", 0), ("0x10", 16), ("017", 15), ("+7", 7),
        ("yes", True), ("On", True), ("y", True), ("FALSE", False), ("off", False), ("n", False),
        ("vla_pruner", "vla_pruner"), ("1.2.3", "1.2.3"), ("5e", "5e"), ("e5", "e5"), ("08", 8.0),
        ("1_000", "1_000"), ("12:30:45", "12:30:45"), ("2026-11-27", "2026-11-27"), ("~", None),
    ],
)  # fmt: skip
def test_plain_scalars(text, value):
    found = yaml.load(f"a: {text}", RclLoader)["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["5e-1", "true", "16", "yes", ".nan", ""])
@pytest.mark.parametrize("quote", ["'", '"'])
def test_quoted_scalars_are_words(text, quote):
    assert yaml.load(f"a: {quote}{text}{quote}", RclLoader)["a"] == text


@given(st.floats(allow_nan=False))
def test_every_number_survives(number):
    assert rcl_value(repr(number)) == number
    assert rcl_value(f"{number:e}") == float(f"{number:e}")


def test_parameters_of_a_file(tmp_path):
    path = tmp_path / "vla_pruner.yaml"
    path.write_text(
        "/vla_pruner:\n  ros__parameters:\n    keep_ratio: 5e-1\n    image_topics: [a, b]\n"
        "    workspace: [-3e-1, 0, 1, 1, 1, 2]\n    instruction: 'yes'\n"
    )
    assert parameters_of_file(path, "vla_pruner") == {
        "keep_ratio": 0.5,
        "image_topics": ["a", "b"],
        "workspace": [-0.3, 0, 1, 1, 1, 2],
        "instruction": "yes",
    }


def test_lists_as_launch_ros_writes_them(tmp_path):
    """Nothing of such a file was used, and configure was refused."""
    written = yaml.dump({"/**": {"ros__parameters": {"image_topics": ("a", "b")}}})
    assert "!!python/tuple" in written
    path = tmp_path / "launch_params"
    path.write_text(written)
    assert parameters_of_file(path, "vla_pruner") == {"image_topics": ["a", "b"]}
