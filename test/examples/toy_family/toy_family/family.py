"""Toy as a family: how its checkpoints are recognised, its options, and its loading."""

from __future__ import annotations

from dataclasses import dataclass

from vla_pruner_ros.settings import check_fields, setting


@dataclass(frozen=True)
class Options:
    """Options of a toy policy."""

    colour_gain: float | None = setting(None, "Factor on all colours. auto: 1.", low=0.0, high=10.0)

    def __post_init__(self) -> None:
        check_fields(self)


def matches(directory, config) -> bool:
    """Return whether config.json is a toy's."""
    return config.get("model_type") == "toy_vla"


def load(checkpoint, options):
    """Load the policy; torch is imported here, not with this module."""
    from toy_family.policy import ToyPolicy

    gain = 1.0 if options.colour_gain is None else options.colour_gain
    return ToyPolicy(checkpoint, gain)
