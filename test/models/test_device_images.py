"""Equality of the images that device and host make of a frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from model_helpers import observation
from PIL import Image

from vla_pruner_ros.models.execution.pinned_uploader import PinnedUploader
from vla_pruner_ros.models.images import on_device as device_images
from vla_pruner_ros.models.images.padding import ImageFitter
from vla_pruner_ros.models.images.tensorflow_resize import crop_center, resize_lanczos
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.openvla.oft_images import ImagePath
from vla_pruner_ros.models.openvla.oft_options import IMAGE_PATHS

DEVICES = ["cpu"]
if torch.cuda.is_available():
    DEVICES.append("cuda")

sides = st.integers(5, 300)
given_image = given(height=sides, width=sides, contrast=st.booleans(), seed=st.integers(0, 99))
on_every_device = pytest.mark.parametrize("device", DEVICES)


def image_of(height: int, width: int, contrast: bool, seed: int) -> np.ndarray:
    """Noise, or nothing but black and white: then the filters overshoot everywhere."""
    random = np.random.default_rng(seed)
    if contrast:
        return random.integers(0, 2, (height, width, 3), dtype=np.uint8) * 255
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


def on(device: str, image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.copy()).to(device)


@on_every_device
@settings(max_examples=40)
@given(
    height=sides,
    width=sides,
    new_height=st.integers(3, 240),
    new_width=st.integers(3, 240),
    contrast=st.booleans(),
    seed=st.integers(0, 99),
)
# Black and white shrunk this far is the same whichever dimension is mixed first; noise is not.
@example(height=24, width=211, new_height=3, new_width=3, contrast=False, seed=0)
def test_bicubic_is_pillows_to_the_pixel(
    device, height, width, new_height, new_width, contrast, seed
):
    image = image_of(height, width, contrast, seed)
    expected = Image.fromarray(image).resize((new_width, new_height), Image.Resampling.BICUBIC)
    resized = device_images.resize_bicubic(on(device, image), new_height, new_width)
    assert np.array_equal(resized.cpu().numpy(), np.asarray(expected))


@pytest.mark.parametrize("shape", [(480, 640, 3), (720, 1280, 3), (1080, 1920, 3), (640, 480, 3)])
def test_bicubic_is_pillows_for_cameras_sizes(shape):
    image = image_of(*shape[:2], True, 0)
    expected = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC))
    resized = device_images.resize_bicubic(torch.from_numpy(image), 224, 224)
    assert np.array_equal(resized.numpy(), expected)


def assert_nearly(device_image: torch.Tensor, image: np.ndarray) -> None:
    """Equal but for one level on one value in a thousand: sums in another order."""
    difference = np.abs(device_image.cpu().numpy().astype(int) - image)
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 1e-3


@on_every_device
@settings(max_examples=20)
@given_image
def test_lanczos_is_the_hosts(device, height, width, contrast, seed):
    image = image_of(height, width, contrast, seed)
    resized = device_images.resize_lanczos(on(device, image), 64)
    assert_nearly(resized, resize_lanczos(image, 64))


@on_every_device
@settings(max_examples=20)
@given(side=sides, area=st.sampled_from([0.5, 0.9, 1.0]), seed=st.integers(0, 99))
def test_the_crop_is_the_hosts(device, side, area, seed):
    image = image_of(side, side, False, seed)
    assert_nearly(device_images.crop_center(on(device, image), area), crop_center(image, area))


@on_every_device
@pytest.mark.parametrize("padding", ["center", "top_left", "bottom_right"])
@settings(max_examples=20)
@given_image
def test_padding_is_the_hosts(device, padding, height, width, contrast, seed):
    image = image_of(height, width, contrast, seed)
    fitter = ImageFitter(64, padding)
    pixels = fitter.fit_on_device(on(device, image))
    assert pixels.shape == (3, 64, 64)
    np.testing.assert_allclose(pixels.cpu(), fitter.fit(image), atol=1e-6)
    assert_nearly((pixels.permute(1, 2, 0) * 255).round().byte(), fitter.preview(image))


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("name", IMAGE_PATHS)
@pytest.mark.parametrize("shape", [(96, 128, 3), (224, 224, 3)])
def test_oft_divides_the_path_between_host_and_device(name, crop, shape):
    image, path = image_of(*shape[:2], False, 0), ImagePath(name, crop)
    frame = torch.from_numpy(path.on_host(image))
    assert_nearly(path.on_device(frame), path(image))


@pytest.mark.parametrize("family", ["openvla", "openvla_oft", "pi0", "pi05", "smolvla"])
def test_a_policy_sees_the_same_either_way(checkpoints, family):
    policy = load_policy(checkpoints(family))
    frame = observation(policy)
    images = [image_of(120, 160, False, camera) for camera in range(policy.num_cameras)]
    frame = replace(frame, images=images)
    expected = policy.act_unpruned(frame)
    seen = np.stack([policy.preview(image) for image in images])
    policy.resizes_on_device = True
    inputs = policy._prepare(frame)
    if hasattr(inputs, "pixels"):
        levels = (inputs.pixels.permute(0, 2, 3, 1) + 1.0) * 127.5
        assert_nearly(levels.round().byte(), seen)
    else:
        assert_nearly(inputs.images, seen)
    np.testing.assert_allclose(policy.act_unpruned(frame), expected, atol=5e-3)


def test_staging_hands_over_what_it_was_given():
    staging = PinnedUploader(torch.device(DEVICES[-1]))
    random = np.random.default_rng(0)
    for size in (4, 9, 2):  # growing, then a part of a buffer that is there
        image = random.integers(0, 256, (size, 5, 3), dtype=np.uint8)
        ids = random.integers(0, 32000, size)
        sent = [staging.upload("image", image[:, ::-1].copy()), staging.upload("ids", ids)]
        assert np.array_equal(sent[0].cpu().numpy(), image[:, ::-1])
        assert np.array_equal(sent[1].cpu().numpy(), ids)
        assert sent[1].dtype == torch.int64
