"""Bags that other software recorded: what is a camera, an instruction, a video."""

from __future__ import annotations

import numpy as np
import pytest
from mcap_file import McapFile
from replay_bags import PERIOD, START, BagMaker, sample_image
from replay_helpers import inputs_of
from rosbags.typesys import get_types_from_msg

from vla_pruner_ros.bags.definitions import standard_store
from vla_pruner_ros.bags.reader import BagError, BagReader
from vla_pruner_ros.conversions.images import to_rgb
from vla_pruner_ros.replay.inputs import video
from vla_pruner_ros.replay.inputs.topics import TopicSelection
from vla_pruner_ros.replay.session import Choice, Session

DEFINITIONS = {
    "ffmpeg_image_transport_msgs/msg/FFMPEGPacket": (
        "std_msgs/Header header\nint32 width\nint32 height\nstring encoding\nuint64 pts\n"
        "uint8 flags\nbool is_bigendian\nuint8[] data\n"
    ),
    "foxglove_msgs/msg/CompressedVideo": (
        "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n"
    ),
    "theora_image_transport/msg/Packet": (
        "std_msgs/Header header\nuint8[] data\nint32 b_o_s\nint32 e_o_s\nint64 granulepos\n"
        "int64 packetno\n"
    ),
    "foxglove_msgs/msg/RawImage": (
        "builtin_interfaces/Time timestamp\nstring frame_id\nuint32 width\nuint32 height\n"
        "string encoding\nuint32 step\nuint8[] data\n"
    ),
    "foxglove_msgs/msg/CompressedImage": (
        "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n"
    ),
}
FFMPEG, FOXGLOVE, THEORA = list(DEFINITIONS)[:3]


def bag_of(path, **options) -> BagMaker:
    store = standard_store()
    for name, definition in DEFINITIONS.items():
        store.register(get_types_from_msg(definition, name))
    return BagMaker(path, store=store, **options)


def session(path, **choice) -> Session:
    with BagReader(path) as reader:
        return Session(reader, 1, Choice(**choice))


# --- Instructions ---------------------------------------------------------------------------------

STRINGS = ["/robot_description", "/chatter", "/rosout_text", "/arm/status", "/task"]


@pytest.mark.parametrize("topic", STRINGS)
def test_a_string_of_another_name_is_no_instruction(tmp_path, topic):
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("<robot name='arm'/>", -PERIOD, topic=topic)
        for number in range(3):
            bag.image(sample_image(number), number * PERIOD)
    assert [m.instruction for m in inputs_of(tmp_path / "bag", instruction="go")] == ["go"] * 3
    assert inputs_of(tmp_path / "bag") == []
    assert (
        f"it could be: {topic}; choose one with --instruction-topic"
        in session(tmp_path / "bag").remarks[0]
    )
    asked = inputs_of(tmp_path / "bag", selection=TopicSelection(instruction=topic))
    assert [m.instruction for m in asked] == ["<robot name='arm'/>"] * 3


@pytest.mark.parametrize("topic", ["/instruction", "/arm_1/instruction"])
def test_an_instruction_by_name_gives_way_to_the_flag(tmp_path, topic):
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("close the drawer", PERIOD - 1, topic=topic)
        for number in range(3):
            bag.image(sample_image(number), number * PERIOD)
    path = tmp_path / "bag"
    assert [m.instruction for m in inputs_of(path)] == ["close the drawer"] * 2
    assert [m.instruction for m in inputs_of(path, instruction="go")] == ["go"] * 3
    both = inputs_of(path, instruction="go", selection=TopicSelection(instruction=topic))
    assert [m.instruction for m in both] == ["go", "close the drawer", "close the drawer"]


# --- Images -------------------------------------------------------------------------------------


def h264(count: int, codec: str = "libx264") -> list[bytes]:
    """Encode the images 0.. as a robot does: no frame waits for a later one."""
    av = pytest.importorskip("av", reason="PyAV is not installed: no video")
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = 64, 48, "yuv420p"
    encoder.framerate = 10
    encoder.options = {"tune": "zerolatency", "preset": "ultrafast", "crf": "5"}
    packets = []
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(sample_image(number, (48, 64)), format="rgb24")
        frame.pts = number
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets + [bytes(packet) for packet in encoder.encode(None)]


def add_video(bag: BagMaker, msgtype: str, packets: list[bytes], name: str = "") -> None:
    for number, packet in enumerate(packets):
        data = np.frombuffer(packet, np.uint8)
        if msgtype == FOXGLOVE:
            stamp = bag.time(START + number * PERIOD)
            fields = {"timestamp": stamp, "frame_id": "camera", "format": name or "h264"}
        elif msgtype == FFMPEG:
            fields = {
                "header": bag.header(number * PERIOD), "width": 64, "height": 48,
                "encoding": name or "libx264", "pts": number, "flags": int(number == 0),
                "is_bigendian": False,
            }  # fmt: skip
        else:
            fields = {
                "header": bag.header(number * PERIOD), "b_o_s": 0, "e_o_s": 0, "granulepos": 0,
                "packetno": number,
            }  # fmt: skip
        message = bag.make(msgtype, data=data, **fields)
        bag.add("/camera/video", msgtype, number * PERIOD + 1000, message)


@pytest.mark.parametrize(
    ("msgtype", "name"),
    [
        (FFMPEG, "libx264"),
        (FFMPEG, "h264_nvenc"),
        (FFMPEG, "h264;yuv420p;bgr8"),
        (FOXGLOVE, "h264"),
    ],
)
def test_video_is_decoded_frame_by_frame(tmp_path, msgtype, name):
    with bag_of(tmp_path / "bag") as bag:
        add_video(bag, msgtype, h264(8), name)
    found = inputs_of(tmp_path / "bag", instruction="go")
    assert [m.stamp - START for m in found] == [number * PERIOD for number in range(8)]
    for number, replay_input in enumerate(found):
        off = np.abs(to_rgb(replay_input.images[0]).astype(int) - sample_image(number, (48, 64)))
        assert off.mean() < 8, number


def test_video_that_begins_without_a_key_frame_is_told(tmp_path):
    with bag_of(tmp_path / "bag") as bag:
        add_video(bag, FFMPEG, h264(16)[3:])
    with BagReader(tmp_path / "bag") as reader:
        found = Session(reader, 1, Choice(instruction="go"))
        assert list(found.inputs()) == []
        assert "/camera/video" in found.skipped[0]


@pytest.mark.parametrize(
    ("msgtype", "reason"),
    [
        (FFMPEG, "video of ffmpeg_image_transport (ffmpeg_image_transport_msgs/msg/FFMPEGPacket); "
                 "to decode it, install PyAV"),
        (FOXGLOVE, "video of Foxglove (foxglove_msgs/msg/CompressedVideo); to decode it, install"),
        (THEORA, "theora video (theora_image_transport/msg/Packet), which is not read"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("asked", [True, False])
def test_video_that_cannot_be_decoded_is_named(tmp_path, monkeypatch, msgtype, reason, asked):
    monkeypatch.setattr(video, "av", None)
    with bag_of(tmp_path / "bag") as bag:
        add_video(bag, msgtype, [b"\0\0\1"] * 3)
    selection = TopicSelection(images=("/camera/video",) if asked else ())
    with pytest.raises(BagError) as refused:
        session(tmp_path / "bag", instruction="go", selection=selection)
    assert reason in str(refused.value)


@pytest.mark.parametrize("name", ["mjpeg2000", "vp6", ""])
def test_unknown_codec_is_named(tmp_path, name):
    pytest.importorskip("av", reason="PyAV is not installed: no video")
    with bag_of(tmp_path / "bag") as bag:
        add_video(bag, FOXGLOVE, [b"\0\0\1"] * 2, name or "none")
    with BagReader(tmp_path / "bag") as reader:
        found = Session(reader, 1, Choice(instruction="go"))
        assert list(found.inputs()) == []
        assert f"is '{name or 'none'}'; H.264" in found.skipped[0]


def test_images_of_foxglove_are_read(tmp_path):
    with bag_of(tmp_path / "bag") as bag:
        for number in range(4):
            message = bag.make(
                "foxglove_msgs/msg/RawImage", timestamp=bag.time(START + number * PERIOD),
                frame_id="camera", width=32, height=24, encoding="rgb8", step=96,
                data=sample_image(number).reshape(-1),
            )  # fmt: skip
            bag.add("/camera", "foxglove_msgs/msg/RawImage", number * PERIOD, message)
    found = inputs_of(tmp_path / "bag", instruction="go")
    assert [m.stamp - START for m in found] == [number * PERIOD for number in range(4)]
    assert np.array_equal(to_rgb(found[2].images[0]), sample_image(2))


def test_bag_without_images_lists_its_topics_with_their_types(tmp_path):
    file = McapFile(profile="")
    topic = file.topic("/camera/depth_cloud", "sensor_msgs/msg/PointCloud2", "uint8 x\n")
    file.message(topic, START, b"\0\1\0\0\0")
    file.write(tmp_path / "bag.mcap")
    with pytest.raises(BagError, match=r"/camera/depth_cloud \(sensor_msgs/msg/PointCloud2\)"):
        session(tmp_path / "bag.mcap", instruction="go")
