"""The overlay: what the model saw, with captions, raw and compressed, only while subscribed."""

from __future__ import annotations

import io

import numpy as np
import pytest
from node_helpers import ControlledPolicy, bench
from PIL import Image as PillowImage
from sensor_msgs.msg import CompressedImage, Image

from vla_pruner_ros.conversions.overlay import LINE, add_captions

pytestmark = pytest.mark.realtime


def test_captions_are_appended_below_and_cut():
    image = np.full((20, 120, 3), 90, np.uint8)
    drawn = add_captions(image, ["open the drawer " * 10, "vla_pruner, 64 of 256 tokens, 12 ms"])
    assert drawn.shape == (20 + 2 * LINE, 120, 3)
    assert np.array_equal(drawn[:20], image)
    assert (drawn[20 : 20 + LINE] > 200).any()
    assert not (drawn[20:, -3:] > 200).any()


def test_raw_and_compressed_show_the_same_with_captions():
    with bench(ControlledPolicy(), instruction="open the door") as b:
        raw = b.listen(Image, "vla_pruner/overlay", 1)
        compressed = b.listen(CompressedImage, "vla_pruner/overlay/compressed", 1)
        b.activate()
        b.show_until(lambda: raw and compressed, "both overlays")
    shown = np.frombuffer(raw[-1].data, np.uint8).reshape(raw[-1].height, raw[-1].width, 3)
    strip = shown[-2 * LINE :]
    assert (strip[:LINE] > 200).any(), "the instruction is missing"
    assert (strip[LINE:] > 200).any(), "method, tokens and latency are missing"
    assert compressed[-1].format == "jpeg"
    decoded = np.asarray(PillowImage.open(io.BytesIO(bytes(compressed[-1].data))))
    assert decoded.shape == shown.shape
