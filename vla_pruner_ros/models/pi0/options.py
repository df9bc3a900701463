"""What users may set about pi0."""

from __future__ import annotations

from dataclasses import dataclass

from vla_pruner_ros.settings import check_fields, setting

MAX_CAMERAS = 3
PADDINGS = ("bottom_right", "center")


@dataclass(frozen=True)
class Options:
    """Options of a pi0 policy."""

    num_cameras: int | None = setting(
        None,
        "Images per step. auto: as LeRobot's config.json names them, else 2.",
        low=1,
        high=MAX_CAMERAS,
    )
    num_flow_steps: int | None = setting(
        None,
        "Integration steps of the flow. auto: as the checkpoint says, usually 10.",
        low=1,
        high=1000,
    )
    noise_seed: int | None = setting(
        None, "Seed of the noise that every flow starts from. auto: 0.", low=0, high=2**31 - 1
    )
    image_padding: str | None = setting(
        None,
        "Where black fills an image that is not square. auto: center for LeRobot's directories, "
        "bottom_right for transformers'.",
        choices=PADDINGS,
    )

    def __post_init__(self) -> None:
        check_fields(self)
