"""Options of the flow-matching families: pi0, pi0.5 and SmolVLA."""

from __future__ import annotations

from dataclasses import dataclass

from vla_pruner_ros.settings import check_fields, setting

PADDINGS = ("center", "top_left", "bottom_right", "center_antialias")


@dataclass(frozen=True)
class Options:
    """Options of a flow-matching policy."""

    num_cameras: int | None = setting(
        None,
        "Images per step. auto: as the checkpoint names them; pi0 without names: 2.",
        low=1,
        high=8,
    )
    num_flow_steps: int | None = setting(
        None,
        "Integration steps of the flow. auto: the checkpoint's value, usually 10.",
        low=1,
        high=1000,
    )
    noise_seed: int | None = setting(
        None, "Seed of the noise that every flow starts from. auto: 0.", low=0, high=2**31 - 1
    )
    image_padding: str | None = setting(
        None,
        "Where black fills an image that is not square, and the filter. center: LeRobot's pi0 and "
        "pi0.5; top_left: SmolVLA; bottom_right: transformers' PI0; center_antialias: openpi. "
        "auto: as the checkpoint's own software does.",
        choices=PADDINGS,
    )

    def __post_init__(self) -> None:
        check_fields(self)
