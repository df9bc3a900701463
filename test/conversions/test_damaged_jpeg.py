"""JPEG images as cameras and networks leave them: damage is refused, oddities are not."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image as PillowImage

from vla_pruner_ros.conversions.images import to_rgb


def jpeg_data(seed: int = 0, **options) -> bytes:
    rng = np.random.default_rng(seed)
    image = np.kron(rng.integers(0, 256, (15, 20, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def compressed(data: bytes) -> SimpleNamespace:
    return SimpleNamespace(format="rgb8; jpeg compressed bgr8", data=data)


OPTIONS = [{}, {"quality": 95, "subsampling": 0}, {"progressive": True}, {"restart_marker_rows": 1}]


@pytest.mark.parametrize("kind", ["lost", "zero", "noise"])
@pytest.mark.parametrize("options", OPTIONS)
def test_damaged_jpeg_is_refused(options, kind):
    """As after lost packets: bytes are missing, zero or random; headers stay whole.

    JPEG has no checksum, so a few damages form another valid code and change some blocks.
    """
    pytest.importorskip("simplejpeg", reason="simplejpeg is not installed: Pillow hides damage")
    rng = np.random.default_rng(1)
    unseen = 0
    for seed in range(100):
        data = jpeg_data(seed % 5, **options)
        scan = data.index(b"\xff\xda") + 14
        place = int(rng.integers(scan, len(data) - 60))
        size = int(rng.integers(4, 400))
        end = min(place + size, len(data) - 2)
        new = {"lost": b"", "zero": bytes(end - place), "noise": rng.bytes(end - place)}
        try:
            rgb = to_rgb(compressed(data[:place] + new[kind] + data[end:]))
        except ValueError:
            continue
        off = np.abs(rgb.astype(int) - to_rgb(compressed(data))).max(axis=2) > 8
        unseen += off.mean() > 0.01
    assert unseen <= 5


@pytest.mark.parametrize("options", OPTIONS)
def test_jpeg_pixels_are_those_of_pillow(options):
    data = jpeg_data(7, **options)
    expected = np.asarray(PillowImage.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(to_rgb(compressed(data)), expected)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpeg_of_other_colours(mode):
    buffer = io.BytesIO()
    PillowImage.new("RGB", (32, 24), (200, 40, 90)).convert(mode).save(buffer, "JPEG", quality=95)
    expected = np.asarray(PillowImage.open(io.BytesIO(buffer.getvalue())).convert("RGB"))
    assert np.abs(to_rgb(compressed(buffer.getvalue())).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("padding", [b"\0", b"\0\0", b"\x12", b"\0" * 64])
@pytest.mark.parametrize("behind", [True, False])
def test_bytes_that_drivers_add_at_the_end_do_no_harm(padding, behind):
    """usb_cam reports "extraneous bytes before marker 0xd9" of cameras that work well."""
    data = jpeg_data(1)
    padded = data + padding if behind else data[:-2] + padding + data[-2:]
    assert np.array_equal(to_rgb(compressed(padded)), to_rgb(compressed(data)))


def test_mjpeg_without_its_tables_is_read():
    """Motion JPEG cameras leave the standard Huffman tables out."""
    data = jpeg_data(2)
    kept, place = data[:2], 2
    while data[place + 1] != 0xDA:
        size = 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        kept += b"" if data[place + 1] == 0xC4 else data[place : place + size]
        place += size
    assert np.array_equal(to_rgb(compressed(kept + data[place:])), to_rgb(compressed(data)))
