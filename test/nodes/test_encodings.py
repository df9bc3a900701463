"""Every encoding reaches the model with the right colours, through the node and over DDS."""

from __future__ import annotations

import io

import numpy as np
import pytest
from node_helpers import ControlledPolicy, bench
from PIL import Image as PillowImage
from sensor_msgs.msg import CompressedImage, Image

from vla_pruner_ros.conversions.raw_pixels import LAYOUTS
from vla_pruner_ros.msg import ActionChunk

HEIGHT, WIDTH = 12, 16
LEFT, RIGHT = (200, 100, 50), (40, 90, 210)
"""The image's halves: red, green and blue all differ, and so do left and right."""

SAMPLES = {
    "rgb8": "rgb", "rgba8": "rgba", "bgr8": "bgr", "bgra8": "bgra", "8UC3": "bgr", "8UC4": "bgra",
    "rgb16": "rgb", "rgba16": "rgba", "bgr16": "bgr", "bgra16": "bgra",
}  # fmt: skip
MOSAICS = {
    f"bayer_{name}{bits}": name for name in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)
}
GREY = {"mono8": np.uint8, "8UC1": np.uint8, "mono16": np.uint16}
CHROMA_FIRST = {"uyvy": True, "yuv422": True, "yuyv": False, "yuv422_yuy2": False}


def sample_image() -> np.ndarray:
    rgb = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    rgb[:, : WIDTH // 2], rgb[:, WIDTH // 2 :] = LEFT, RIGHT
    return rgb


def encoded(encoding: str, rgb: np.ndarray) -> np.ndarray:
    """Return the samples of an image [H, W, 3] in an encoding, as a camera driver packs them."""
    if encoding in SAMPLES:
        order = ["rgba".index(letter) for letter in SAMPLES[encoding]]
        opaque = np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])[..., order]
        return opaque.astype(np.uint16) * 257 if encoding.endswith("16") else opaque
    if encoding in MOSAICS:
        mosaic = np.empty(rgb.shape[:2], np.uint8)
        for place, letter in enumerate(MOSAICS[encoding]):
            row, column = divmod(place, 2)
            mosaic[row::2, column::2] = rgb[row::2, column::2, "rgb".index(letter)]
        return mosaic.astype(np.uint16) * 257 if encoding.endswith("16") else mosaic
    if encoding in GREY:
        kind = GREY[encoding]
        return rgb.mean(axis=2).round().astype(kind) * kind(257 if kind == np.uint16 else 1)
    return yuv422(rgb, CHROMA_FIRST[encoding])


def yuv422(rgb: np.ndarray, chroma_first: bool) -> np.ndarray:
    """Pack as 4:2:2, BT.601 in limited range (the standard's equations, scaled to 16..235/240)."""
    red, green, blue = (rgb[..., i] / 255.0 for i in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    y, u, v = 16 + 219 * luma, 128 + 112 * (blue - luma) / 0.886, 128 + 112 * (red - luma) / 0.701
    chroma = np.where(np.arange(rgb.shape[1]) % 2, v, u)
    pair = (chroma, y) if chroma_first else (y, chroma)
    return np.stack(pair, axis=2).round().astype(np.uint8)


def message(encoding: str) -> Image:
    rows = encoded(encoding, sample_image()).reshape(HEIGHT, -1)
    return Image(height=HEIGHT, width=WIDTH, encoding=encoding, step=rows.nbytes // HEIGHT,
                 data=rows.tobytes())  # fmt: skip


def seen(b, policy, chunks, image, topic="image_raw") -> np.ndarray:
    """Show an image until the policy has answered it; return what the policy saw, as int."""
    sent = set()

    def answers():
        stamp = b.send_image(image, topic).header.stamp
        sent.add((stamp.sec, stamp.nanosec))
        return [c for c in chunks if (c.header.stamp.sec, c.header.stamp.nanosec) in sent]

    b.until(answers, f"an answer to {getattr(image, 'encoding', image)}")
    return policy.observations[answers()[0].sequence].images[0].astype(int)


def assert_colours(found: np.ndarray, left, right, tolerance: int, border: int = 0) -> None:
    assert found.shape == (HEIGHT, WIDTH, 3)
    middle = WIDTH // 2
    assert np.abs(found[:, : middle - border] - left).max() <= tolerance
    assert np.abs(found[:, middle + border :] - right).max() <= tolerance


def test_raw_encodings():
    policy = ControlledPolicy()
    with bench(policy, control_rate=1000.0) as b:
        chunks = b.listen(ActionChunk, "/vla_pruner/action_chunk")
        b.activate()
        assert {*SAMPLES, *MOSAICS, *GREY, *CHROMA_FIRST} == LAYOUTS.keys()
        for encoding in LAYOUTS:
            found = seen(b, policy, chunks, message(encoding))
            left, right = LEFT, RIGHT
            if encoding in GREY:
                left, right = round(np.mean(LEFT)), round(np.mean(RIGHT))
            tolerance = 2 if encoding in CHROMA_FIRST else 0
            # A mosaic knows the colour next to an edge only from across it.
            assert_colours(found, left, right, tolerance, border=encoding in MOSAICS)


@pytest.mark.parametrize(("kind", "tolerance"), [("PNG", 0), ("JPEG", 12)])
def test_compressed_images(kind, tolerance):
    buffer = io.BytesIO()
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    PillowImage.fromarray(sample_image()).save(buffer, kind, **options)
    image = CompressedImage(format=kind.lower(), data=buffer.getvalue())
    policy, topic = ControlledPolicy(), "image_raw/compressed"
    with bench(policy, image_transport="compressed", control_rate=1000.0) as b:
        chunks = b.listen(ActionChunk, "/vla_pruner/action_chunk")
        b.activate(topic)
        assert_colours(seen(b, policy, chunks, image, topic), LEFT, RIGHT, tolerance)
