"""Options of OpenVLA-OFT, and the names of its component files."""

from __future__ import annotations

from dataclasses import dataclass

from vla_pruner_ros.settings import check_fields, setting

HEAD_FILES = "action_head--*.pt"
PROPRIO_FILES = "proprio_projector--*.pt"
FILM_FILES = "vision_backbone--*.pt"
REFUSED_FILES = {
    "noisy_action_projector--*.pt": "the diffusion head of OpenVLA-OFT",
}
IMAGE_PATHS = ("camera", "libero", "libero_upright")


@dataclass(frozen=True)
class Options:
    """Options of an OpenVLA-OFT policy. No file of the checkpoint holds them."""

    num_cameras: int | None = setting(
        None,
        "Images per step. auto: 2, as for LIBERO; 3 for ALOHA's 14 action numbers.",
        low=1,
        high=8,
    )
    chunk_size: int | None = setting(
        None,
        "Actions per inference. auto: 8, as for LIBERO; 25 for ALOHA's 14 action numbers.",
        low=1,
        high=256,
    )
    center_crop: bool | None = setting(
        None,
        "Cut out the middle of the image, as for a checkpoint trained with image augmentation. "
        "auto: true.",
    )
    image_path: str | None = setting(
        None,
        "How images are prepared. camera: resize; libero: rotate by 180 degrees and pass "
        "through JPEG first, as LIBERO's training data; libero_upright: JPEG alone. auto: camera.",
        choices=IMAGE_PATHS,
    )

    action_range: str | None = setting(
        None,
        "Statistics that the model's -1 and 1 stand for, of action and state. auto: q01_q99; "
        "min_max for ALOHA's 14 action numbers.",
        choices=("q01_q99", "min_max"),
    )

    def __post_init__(self) -> None:
        check_fields(self)
