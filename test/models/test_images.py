"""Images on their way to the model."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vla_pruner_ros.models.images.libero_jpeg import jpeg_round_trip
from vla_pruner_ros.models.images.preprocessing import Normalization, resize_bicubic
from vla_pruner_ros.models.images.tensorflow_resize import (
    crop_center,
    lanczos_weights,
    resize_lanczos,
)
from vla_pruner_ros.models.openvla.oft_images import ImagePath
from vla_pruner_ros.models.policy import CheckpointError

sides = st.integers(17, 130)


def smooth_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Large coloured spots, as a photograph more than as noise."""
    random = np.random.default_rng(seed)
    small = random.integers(64, 192, (6, 6, 3)).astype(np.uint8)
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def pillow_jpeg(image: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95, subsampling="4:2:0")
    return np.array(Image.open(buffer))


@settings(deadline=None, max_examples=15)
@given(height=sides, width=sides, seed=st.integers(0, 9))
def test_the_fast_inverse_dct_is_off_by_little(height, width, seed):
    image = smooth_image(height, width, seed)
    difference = np.abs(jpeg_round_trip(image).astype(int) - pillow_jpeg(image))
    assert 0.0 < difference.mean() < 3.0
    assert difference.max() <= 16


def test_without_the_fast_decoder_the_image_path_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    with pytest.raises(CheckpointError, match="image_path libero needs simplejpeg: pip install"):
        ImagePath("libero")
    assert ImagePath("camera").name == "camera"


def test_jpeg_keeps_a_flat_image():
    flat = np.full((40, 24, 3), 130, np.uint8)
    assert np.abs(jpeg_round_trip(flat).astype(int) - 130).max() <= 1


@given(old=st.integers(3, 700), new=st.integers(3, 300))
@settings(deadline=None, max_examples=40)
def test_lanczos_weights_are_means(old, new):
    weights = lanczos_weights(old, new)
    assert weights.shape == (new, old)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=2e-3)  # no side is preferred


@settings(deadline=None, max_examples=20)
@given(height=sides, width=sides)
def test_lanczos_is_close_to_pillows(height, width):
    image = smooth_image(height, width)
    pillows = Image.fromarray(image).resize((224, 224), Image.Resampling.LANCZOS)
    difference = np.abs(resize_lanczos(image, 224).astype(int) - np.array(pillows))
    assert difference.max() <= 2  # Pillow rounds between its two passes


def test_crop_keeps_the_middle_and_the_size():
    image = smooth_image(224, 224)
    cropped = crop_center(image, 0.9)
    assert cropped.shape == image.shape
    scaled = Image.fromarray(image).resize(
        (224, 224), Image.Resampling.BILINEAR, box=(5.7, 5.7, 218.3, 218.3)
    )
    assert np.abs(cropped.astype(int) - np.array(scaled)).max() <= 4
    assert np.array_equal(crop_center(image, 1.0), image)


def test_libero_turns_the_image_around():
    image = smooth_image(224, 224)
    turned, upright = (ImagePath(name, center_crop=False) for name in ("libero", "camera"))
    assert np.array_equal(turned(image), upright(image)[::-1, ::-1])


def test_an_image_of_the_right_size_is_only_cropped():
    image = smooth_image(224, 224)
    for name in ("camera", "libero_upright"):
        assert np.array_equal(ImagePath(name, center_crop=False)(image), image)
        assert np.array_equal(ImagePath(name)(image), crop_center(image, 0.9))


@pytest.mark.parametrize("transform", [resize_bicubic, ImagePath("camera"), ImagePath("libero")])
@pytest.mark.parametrize("shape", [(480, 640), (37, 1000), (1, 1), (1080, 1920)])
def test_any_size_becomes_the_models(transform, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    resized = transform(image)
    assert resized.shape == (224, 224, 3)
    assert resized.dtype == np.uint8
    assert np.array_equal(resized, transform(np.asfortranarray(image)))


def test_normalisation_is_torchvisions():
    mean, std = torch.rand(2, 2, 3, 1, 1).add(0.1)
    images = torch.randint(0, 256, (2, 4, 4, 3), dtype=torch.uint8)
    pixels = Normalization(mean, std)(images, torch.float32)
    assert pixels.shape == (2, 6, 4, 4)
    camera, tower, channel, row, column = 1, 1, 2, 3, 0
    value = images[camera, row, column, channel].float() / 255.0
    expected = (value - mean[tower, channel, 0, 0]) / std[tower, channel, 0, 0]
    assert pixels[camera, 3 * tower + channel, row, column] == expected
