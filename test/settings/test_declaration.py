"""Declarations of settings: what a field says, its check, and the flags made from it."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_pruner_ros.settings import Spec, check_fields, check_value, setting, specs_of
from vla_pruner_ros.settings.arguments import add_flags
from vla_pruner_ros.settings.arguments import given as given_flags
from vla_pruner_ros.settings.assignments import with_changes


@dataclass(frozen=True)
class Example:
    ratio: float = setting(0.5, "A share.", low=0.0, high=1.0)
    count: int = setting(3, "A number.", low=1, high=9)
    mode: str = setting("fast", "A way.", choices=("fast", "slow"))
    names: tuple[str, ...] = setting((), "Names.", when="configure")
    box: tuple[float, ...] = setting((), "Numbers.")
    steps: int | None = setting(None, "Steps.", low=1, high=50)
    crop: bool | None = setting(None, "Crop.")
    plain: int = 7

    def __post_init__(self) -> None:
        check_fields(self)


SPECS = {spec.name: spec for spec in specs_of(Example)}


def test_a_field_says_everything_once():
    assert list(SPECS) == ["ratio", "count", "mode", "names", "box", "steps", "crop"]
    assert SPECS["ratio"] == Spec("ratio", float, 0.5, "A share.", 0.0, 1.0)
    assert (SPECS["steps"].kind, SPECS["steps"].is_optional) == (int, True)
    assert (SPECS["box"].kind, SPECS["box"].is_list) == (float, True)
    assert SPECS["steps"].written_default == "auto"
    assert [SPECS[name].allowed for name in ("ratio", "count", "mode", "crop")] == [
        "0 to 1",
        "1 to 9",
        "fast, slow",
        "",
    ]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"ratio": 1.5}, "ratio must be at most 1, got 1.5"),
        ({"ratio": -0.1}, "ratio must be at least 0, got -0.1"),
        ({"ratio": math.nan}, "ratio must be finite"),
        ({"ratio": "0.5"}, "ratio must be a number"),
        ({"ratio": True}, "ratio must be a number"),
        ({"count": 1.0}, "count must be an integer"),
        ({"mode": "idle"}, "mode must be one of fast, slow, got 'idle'"),
        ({"names": "a"}, "names must be a list"),
        ({"names": [1]}, "names must be a list of strings"),
        ({"box": [math.inf]}, "box must be a list of finite numbers"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": "many"}, "steps must be an integer or auto"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(values, reason):
    with pytest.raises(ValueError, match=reason):
        Example(**values)


@given(st.one_of(st.integers(), st.floats(), st.text(), st.booleans(), st.none()))
def test_whatever_is_accepted_is_in_range_and_of_the_declared_type(value):
    for spec in SPECS.values():
        try:
            checked = check_value(spec, value)
        except ValueError:
            continue
        if checked is None:
            assert spec.is_optional
        elif spec.is_list:
            assert all(type(item) is spec.kind for item in checked)
        else:
            assert type(checked) is spec.kind
            assert spec.low is None or spec.low <= checked <= spec.high
        assert check_value(spec, checked) == checked


def test_values_are_kept_in_the_declared_type():
    made = Example(ratio=1, names=["a"], box=[1, 2], steps="auto")
    assert (made.ratio, made.names, made.box, made.steps) == (1.0, ("a",), (1.0, 2.0), None)
    assert type(made.ratio) is float


def parsed(*arguments: str) -> dict:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser, SPECS.values(), aliases={"count": "--number"})
    return given_flags(parser.parse_args(arguments), SPECS.values())


def test_flags_give_what_was_given_alone():
    assert parsed() == {}
    assert parsed("--ratio", "0.25", "--number", "4") == {"ratio": 0.25, "count": 4}
    assert parsed("--no-crop", "--names", "a", "b") == {"crop": False, "names": ["a", "b"]}
    assert parsed("--steps", "auto") == {"steps": "auto"}


def test_a_flag_out_of_range_is_refused():
    with pytest.raises(argparse.ArgumentError, match="ratio must be at most 1"):
        parsed("--ratio", "2")


def test_assignments_are_read_in_the_type_of_the_field():
    changed = with_changes(Example(), ["ratio=0.75", "mode=slow", "steps=5", "crop=true"])
    assert changed == Example(ratio=0.75, mode="slow", steps=5, crop=True)
    with pytest.raises(ValueError, match="'plain=1' is not NAME=VALUE"):
        with_changes(Example(), ["plain=1"])
    with pytest.raises(ValueError, match="count takes a int, got 'x'"):
        with_changes(Example(), ["count=x"])


def test_a_field_that_no_user_could_write_is_refused():
    @dataclass(frozen=True)
    class Odd:
        table: dict = setting({}.copy, "A table.")

    with pytest.raises(TypeError, match="table cannot be set by a user"):
        specs_of(Odd)
