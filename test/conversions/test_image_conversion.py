"""Image messages to RGB: colours, padding, and the ways a message can be wrong."""

from __future__ import annotations

import array
import io
import sys
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from vla_pruner_ros.conversions import images as image_conversion
from vla_pruner_ros.conversions.images import to_rgb

RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)


def raw(encoding: str, rows: np.ndarray, **changes) -> SimpleNamespace:
    """Make an Image message of bytes [H, row bytes]."""
    fields = {
        "encoding": encoding,
        "height": rows.shape[0],
        "width": rows.shape[1],
        "step": rows.shape[1],
        "is_bigendian": 0,
        "data": rows.tobytes(),
    }
    return SimpleNamespace(**{**fields, **changes})


def colour(encoding: str, pixel: tuple[int, ...], height: int = 2, width: int = 4):
    rows = np.tile(np.array(pixel, np.uint8), (height, width))
    return raw(encoding, rows, width=width, step=rows.shape[1])


@pytest.mark.parametrize(
    ("encoding", "pixel"),
    [
        ("rgb8", (10, 20, 30)),
        ("bgr8", (30, 20, 10)),
        ("rgba8", (10, 20, 30, 99)),
        ("bgra8", (30, 20, 10, 99)),
        ("8UC3", (30, 20, 10)),
        ("8UC4", (30, 20, 10, 99)),
    ],
)
def test_channel_order(encoding, pixel):
    rgb = to_rgb(colour(encoding, pixel))
    assert rgb.shape == (2, 4, 3)
    assert rgb.dtype == np.uint8
    assert (rgb == (10, 20, 30)).all()


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_is_repeated(encoding):
    assert (to_rgb(colour(encoding, (77,))) == 77).all()


@pytest.mark.parametrize(("big_endian", "order"), [(0, "<u2"), (1, ">u2")])
def test_sixteen_bits_follow_the_byte_order(big_endian, order):
    samples = np.array([[0, 257 * 9, 65535]], dtype=order)
    message = raw("mono16", samples.view(np.uint8), width=3, is_bigendian=big_endian)
    assert to_rgb(message)[0, :, 0].tolist() == [0, 9, 255]


@pytest.mark.parametrize("encoding", ["uyvy", "yuv422", "yuyv", "yuv422_yuy2"])
@pytest.mark.parametrize(
    ("yuv", "expected"),
    [
        ((81, 90, 240), RED),  # BT.601 limited range, the standard's own primaries
        ((145, 54, 34), GREEN),
        ((41, 240, 110), BLUE),
        ((126, 128, 128), GREY),
        ((235, 128, 128), (255, 255, 255)),
        ((16, 128, 128), (0, 0, 0)),
    ],
)
def test_yuv_primaries(encoding, yuv, expected):
    y, u, v = yuv
    pair = (u, y, v, y) if encoding in ("uyvy", "yuv422") else (y, u, y, v)
    rgb = to_rgb(raw(encoding, np.tile(np.array(pair, np.uint8), (2, 2)), width=4))
    assert np.abs(rgb.astype(int) - expected).max() <= 2


@pytest.mark.parametrize(
    ("encoding", "tile"),
    [
        ("bayer_rggb8", ("RG", "GB")),
        ("bayer_bggr8", ("BG", "GR")),
        ("bayer_gbrg8", ("GB", "RG")),
        ("bayer_grbg8", ("GR", "BG")),
    ],
)
def test_bayer_recovers_a_flat_colour(encoding, tile):
    value = {"R": 200, "G": 100, "B": 50}
    cell = np.array([[value[letter] for letter in row] for row in tile], np.uint8)
    rgb = to_rgb(raw(encoding, np.tile(cell, (3, 4))))
    assert (rgb == (200, 100, 50)).all()


@pytest.mark.parametrize("big_endian", [0, 1])
@pytest.mark.parametrize("name", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_of_16_bits_is_the_one_of_8_bits_scaled(name, big_endian):
    rng = np.random.default_rng(3)
    mosaic = rng.integers(0, 256, (6, 8), dtype=np.uint8)
    wide = mosaic.astype(">u2" if big_endian else "<u2") * 257
    narrow = to_rgb(raw(f"bayer_{name}8", mosaic))
    rows = np.frombuffer(wide.tobytes(), np.uint8).reshape(6, 16)
    message = raw(f"bayer_{name}16", rows, width=8, is_bigendian=big_endian)
    assert np.array_equal(to_rgb(message), narrow)


def planar(encoding: str, luma, u, v, padding: int = 0, **changes) -> SimpleNamespace:
    """Make a planar Image message of Y [H, W] and U, V [H / 2, W / 2]."""
    height, width = luma.shape
    step = width + 2 * padding
    if encoding in ("nv12", "nv21"):
        colour = np.stack([u, v] if encoding == "nv12" else [v, u], axis=-1).reshape(-1, width)
        rows = np.pad(np.vstack([luma, colour]), ((0, 0), (0, 2 * padding)))
    else:
        half = np.pad(np.vstack([u, v]), ((0, 0), (0, padding))).reshape(-1, step)
        rows = np.vstack([np.pad(luma, ((0, 0), (0, 2 * padding))), half])
    fields = {"height": height, "width": width, "step": step, **changes}
    return raw(encoding, rows, **fields)


PLANAR = ["nv12", "nv21", "i420", "yuv420"]


@pytest.mark.parametrize("encoding", PLANAR)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_planar_images_are_the_packed_ones(encoding, rows, columns, padding, seed):
    rng = np.random.default_rng(seed)
    luma = rng.integers(0, 256, (2 * rows, 2 * columns), dtype=np.uint8)
    u, v = rng.integers(0, 256, (2, rows, columns), dtype=np.uint8)
    packed = np.empty((2 * rows, 2 * columns, 2), np.uint8)
    packed[..., 0] = luma
    packed[:, 0::2, 1], packed[:, 1::2, 1] = u.repeat(2, axis=0), v.repeat(2, axis=0)
    expected = to_rgb(raw("yuyv", packed.reshape(2 * rows, -1), width=2 * columns))
    assert np.array_equal(to_rgb(planar(encoding, luma, u, v, padding)), expected)


@pytest.mark.parametrize("encoding", PLANAR)
def test_planar_height_may_count_the_rows_of_all_planes(encoding):
    rng = np.random.default_rng(0)
    luma, (u, v) = rng.integers(0, 256, (8, 6), dtype=np.uint8), rng.integers(
        0, 256, (2, 4, 3), dtype=np.uint8
    )  # fmt: skip
    usual, counted = planar(encoding, luma, u, v), planar(encoding, luma, u, v, height=12)
    assert np.array_equal(to_rgb(usual), to_rgb(counted))
    assert to_rgb(counted).shape == (8, 6, 3)


@pytest.mark.parametrize("encoding", PLANAR)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": bytes(60)}, "truncated"),
        ({"data": b""}, "truncated"),
        ({"step": 4}, "step 4 is too small"),
        ({"height": 0}, "empty"),
        ({"height": 7, "data": bytes(1000)}, "even"),
    ],
)
def test_wrong_planar_messages_are_named(encoding, changes, reason):
    luma, chroma = np.zeros((8, 6), np.uint8), np.zeros((4, 3), np.uint8)
    with pytest.raises(ValueError, match=reason):
        to_rgb(planar(encoding, luma, chroma, chroma, **changes))


def test_row_padding_is_skipped():
    rows = np.full((3, 20), 255, np.uint8)
    rows[:, :12] = np.arange(36).reshape(3, 12)
    rgb = to_rgb(raw("rgb8", rows, width=4, step=20))
    assert rgb.reshape(3, 12).tolist() == np.arange(36).reshape(3, 12).tolist()


def test_last_row_may_lack_its_padding():
    rows = np.zeros((2, 16), np.uint8)
    message = raw("rgb8", rows, width=4, step=16, data=rows.tobytes()[:-4])
    assert to_rgb(message).shape == (2, 4, 3)


def test_rgb8_is_a_view_of_the_message():
    data = array.array("B", range(24))
    rgb = to_rgb(raw("rgb8", np.zeros((2, 12), np.uint8), width=4, data=data))
    data[0] = 211
    assert rgb[0, 0, 0] == 211


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    padding=st.integers(0, 5),
    encoding=st.sampled_from(["rgb8", "bgr8", "rgba8", "bgra8"]),
    seed=st.integers(0, 2**16),
)
def test_any_size_and_step(height, width, padding, encoding, seed):
    channels = 4 if "a" in encoding else 3
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (height, width, channels), dtype=np.uint8)
    filler = random.integers(0, 256, (height, padding), dtype=np.uint8)
    rows = np.concatenate([pixels.reshape(height, -1), filler], axis=1)
    order = [0, 1, 2] if encoding.startswith("rgb") else [2, 1, 0]
    rgb = to_rgb(raw(encoding, rows, width=width))
    np.testing.assert_array_equal(rgb, pixels[..., order])


def compressed(kind: str, image: PillowImage.Image, **options) -> SimpleNamespace:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return SimpleNamespace(format=f"rgb8; {kind.lower()} compressed bgr8", data=buffer.getvalue())


def test_png_is_exact():
    pixels = np.random.default_rng(3).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(to_rgb(compressed("PNG", PillowImage.fromarray(pixels))), pixels)


@pytest.mark.parametrize("pixel", [RED, GREEN, BLUE, GREY])
def test_jpeg_keeps_the_colour(pixel):
    image = PillowImage.new("RGB", (32, 16), pixel)
    rgb = to_rgb(compressed("JPEG", image, quality=95))
    assert rgb.shape == (16, 32, 3)
    assert np.abs(rgb.astype(int) - pixel).max() <= 3


def test_sixteen_bit_grey_png():
    samples = np.array([[0, 257 * 5, 65535]], np.uint16)
    assert to_rgb(compressed("PNG", PillowImage.fromarray(samples)))[0, :, 1].tolist() == [
        0,
        5,
        255,
    ]


def test_palette_and_transparent_png():
    pixel = PillowImage.new("RGB", (2, 2), RED)
    assert (to_rgb(compressed("PNG", pixel.convert("P"))) == RED).all()
    assert (to_rgb(compressed("PNG", pixel.convert("RGBA"))) == RED).all()


GOOD = np.zeros((4, 12), np.uint8)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (raw("rgb8", GOOD, width=0), "empty"),
        (raw("rgb8", GOOD, height=0), "empty"),
        (raw("rgb8", GOOD, width=4, step=11), "step 11 is too small"),
        (raw("rgb8", GOOD, width=4, step=0), "step 0 is too small"),
        (raw("rgb8", GOOD, width=4, data=b"\0" * 47), "truncated.*needs 48 bytes, got 47"),
        (raw("rgb8", GOOD, width=4, height=2**31), "truncated"),
        (raw("yuv999", GOOD, width=4), "'yuv999' is not supported; use one of"),
        (raw("32FC1", GOOD, width=3), "holds depth"),
        (raw("16UC1", GOOD, width=6), "holds depth"),
        (raw("uyvy", GOOD, width=3), "even width"),
        (raw("bayer_rggb8", GOOD[:1], width=12), "at least 2x2"),
        (SimpleNamespace(format="jpeg", data=b""), "is empty"),
        (SimpleNamespace(format="jpeg", data=b"not an image"), "neither JPEG nor PNG"),
        (SimpleNamespace(format="16UC1; compressedDepth png", data=b"x"), "holds depth"),
        (SimpleNamespace(text="hello"), "not an image message"),
    ],
)
def test_wrong_messages_are_named(message, reason):
    with pytest.raises(ValueError, match=reason):
        to_rgb(message)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_truncated_compressed_data(kind):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    message = compressed(kind, PillowImage.fromarray(noise))
    message.data = message.data[: len(message.data) // 2]
    with pytest.raises(ValueError, match="cannot be unpacked"):
        to_rgb(message)


def test_decompression_bomb_is_refused_before_unpacking(monkeypatch):
    monkeypatch.setattr(image_conversion, "MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match="over the limit"):
        to_rgb(compressed("PNG", PillowImage.new("RGB", (40, 40))))


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["jpeg", "png"]))
def test_damaged_images_never_escape_as_another_error(noise, kind):
    message = compressed(kind.upper(), PillowImage.new("RGB", (16, 16), RED))
    damaged = bytearray(message.data)
    for place, byte in enumerate(noise):
        damaged[(place * 7 + byte) % len(damaged)] ^= byte
    try:
        rgb = to_rgb(SimpleNamespace(format=kind, data=bytes(damaged)))
    except ValueError:
        return
    assert rgb.shape[2:] == (3,)


class Bridge:
    """Stands where a robot has cv_bridge; knows one encoding more than this package."""

    asked: ClassVar[list[str]] = []

    def imgmsg_to_cv2(self, message, desired_encoding):
        Bridge.asked.append(message.encoding)
        assert desired_encoding == "rgb8"
        if message.encoding != "nv24":
            raise RuntimeError(f"Unrecognized image encoding [{message.encoding}]")
        return np.full((message.height, message.width, 3), 7, np.uint8)


@pytest.fixture
def bridge(monkeypatch):
    monkeypatch.setattr(Bridge, "asked", [])
    monkeypatch.setitem(sys.modules, "cv_bridge", SimpleNamespace(CvBridge=Bridge))
    return Bridge


def test_cv_bridge_is_asked_for_what_is_unknown_here(bridge):
    assert (to_rgb(raw("nv24", GOOD, width=4)) == 7).all()
    with pytest.raises(ValueError, match=r"'yuv999' is not supported.*Unrecognized image encoding"):
        to_rgb(raw("yuv999", GOOD, width=4))
    assert bridge.asked == ["nv24", "yuv999"]


def test_pixels_are_the_same_with_and_without_cv_bridge(bridge):
    for encoding in ("rgb8", "bgr8"):
        assert (to_rgb(colour(encoding, (10, 20, 10))) == (10, 20, 10)).all()
    with pytest.raises(ValueError, match="holds depth"):
        to_rgb(raw("32FC1", GOOD, width=3))
    assert not bridge.asked


def test_broken_cv_bridge_is_done_without(monkeypatch):
    """A distribution's cv_bridge is built against numpy 1: it fails to import under numpy 2."""

    class Broken:
        def __getattr__(self, name):
            raise AttributeError("_ARRAY_API not found")

    monkeypatch.setitem(sys.modules, "cv_bridge", Broken())
    assert (to_rgb(colour("rgb8", (1, 2, 3))) == (1, 2, 3)).all()
    with pytest.raises(ValueError, match="'nv24' is not supported; use one of"):
        to_rgb(raw("nv24", GOOD, width=4))
