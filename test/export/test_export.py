"""Exports of a bag, read back with the libraries that their users read them with."""

from __future__ import annotations

import json

import numpy as np
import pytest
from replay_bags import PERIOD, BagMaker, sample_image
from replay_helpers import plain, recorded

from vla_pruner_ros.bags.reader import BagReader
from vla_pruner_ros.export import cli
from vla_pruner_ros.export.executed import ExecutedFrame, ExecutedMotion, MotionForm
from vla_pruner_ros.export.inferences import ExportSource
from vla_pruner_ros.export.lerobot import LeRobotWriter, camera_key
from vla_pruner_ros.export.statistics import ImageStatistics, VectorStatistics
from vla_pruner_ros.export.video import side_by_side
from vla_pruner_ros.replay.session import Choice

ACTION = "vla_pruner_ros/msg/EndEffectorAction"
JOINTS = ["a", "b"]


def executed_bag(path):
    """Two instructions of five executed actions each, a camera and two joints."""
    with BagMaker(path) as bag:
        recorded_chunks(bag)
        for number in range(10):
            stamp = 10 * PERIOD + number * PERIOD
            bag.image(sample_image(number), stamp)
            bag.joints(JOINTS, [float(number), -1.0], stamp + 1)
            bag.add("/vla_pruner/action", ACTION, stamp + 2_000_000, action(bag, number, stamp))
        last = 20 * PERIOD
        bag.add("/vla_pruner/action", ACTION, last, action(bag, 0, last, stop=True))
    return path


def recorded_chunks(bag):
    """Two inferences with an instruction each, before the motion: sequences 0 and 1."""
    from replay_bags import MemoryPolicy

    from vla_pruner_ros.models.policy import Observation

    policy = MemoryPolicy()
    for sequence, words in enumerate(("open it", "close it")):
        image = sample_image(sequence)
        bag.image(image, sequence * PERIOD)
        bag.answer(policy, [sequence * PERIOD], Observation([image], words))


def action(bag, number, stamp, stop=False):
    vector = lambda *values: bag.make(
        "geometry_msgs/msg/Vector3", **dict(zip("xyz", values, strict=True))
    )
    return bag.make(
        ACTION,
        header=bag.header(stamp),
        image_stamp=bag.time(0),
        duration=bag.make("builtin_interfaces/msg/Duration", sec=0, nanosec=100_000_000),
        translation=vector(0.01 * number, 0.0, 0.0),
        rotation=vector(0.0, 0.0, 0.5),
        gripper=1.0,
        sequence=0 if number < 5 else 1,
        step=0,
        stop=stop,
    )


def source_of(path):
    return ExportSource(BagReader(path).__enter__(), Choice())


def test_inferences_carry_images_tokens_and_a_caption(tmp_path):
    recorded(tmp_path)
    found = list(source_of(tmp_path / "bag").inferences())
    assert len(found) == 24
    one = found[-1]
    assert list(one.images) == ["/image_raw"]
    kept, total = one.tokens()
    assert 0 < kept < total
    assert f"{kept}/{total} tokens" in one.caption()
    assert one.instruction in one.caption()
    assert "30 ms" in one.caption()
    assert (one.overlays()["/image_raw"] <= one.images["/image_raw"]).all()
    assert not np.array_equal(one.overlays()["/image_raw"], one.images["/image_raw"])


def test_a_bag_without_a_node_still_has_images(tmp_path):
    plain(tmp_path)
    found = list(source_of(tmp_path / "bag").inferences())
    assert len(found) == 6
    assert found[0].tokens() is None
    assert found[0].overlays() is found[0].images


def test_executed_motion_has_newest_images_joints_and_episodes(tmp_path):
    motion = ExecutedMotion(source_of(executed_bag(tmp_path / "bag")))
    assert motion.form == MotionForm(
        ["x", "y", "z", "roll", "pitch", "yaw", "gripper"], JOINTS, frames_per_second=10
    )
    frames = list(motion.frames())
    assert [frame.begins for frame in frames] == [True] + 4 * [False] + [True] + 4 * [False]
    assert [frame.instruction for frame in frames] == 5 * ["open it"] + 5 * ["close it"]
    assert [float(frame.state[0]) for frame in frames] == list(range(10))
    assert np.allclose([frame.action[0] for frame in frames], 0.01 * np.arange(10))
    assert np.allclose(frames[0].action[3:], [0, 0, 0.5, 1.0])
    for number, frame in enumerate(frames):
        assert np.array_equal(frame.images["/image_raw"], sample_image(number))


def test_without_published_actions_the_first_of_each_chunk_is_taken(tmp_path):
    recorded(tmp_path)
    motion = ExecutedMotion(source_of(tmp_path / "bag"))
    frames = list(motion.frames())
    assert len(frames) == 24
    assert frames[0].begins
    assert motion.form.action_names == ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]


def test_a_bag_without_actions_is_no_data_set(tmp_path, capsys):
    plain(tmp_path)
    assert cli.main([str(tmp_path / "bag"), "--to", "lerobot", "--quiet"]) == 2
    assert "holds no actions of a vla_pruner node" in capsys.readouterr().err


def test_the_film_shows_every_inference_at_its_time(tmp_path, capsys):
    av = pytest.importorskip("av", reason="PyAV is not installed: videos need it")
    recorded(tmp_path)
    assert cli.main([str(tmp_path / "bag"), "--to", "mp4", "--quiet"]) == 0
    printed = capsys.readouterr().out
    path = tmp_path / "bag.mp4"
    assert printed.splitlines()[-1] == f"Result: {path}"
    with av.open(str(path)) as video:
        frames = list(video.decode(video=0))
    assert len(frames) == 24
    inferences = list(source_of(tmp_path / "bag").inferences())
    seconds = [(one.stamp - inferences[0].stamp) * 1e-9 for one in inferences]
    shown = [float(frame.time) - float(frames[0].time) for frame in frames]
    close = [abs(a - b) < 2e-3 for a, b in zip(shown, seconds, strict=True) if b < 1.0]
    assert len(close) > 5
    assert all(close)
    picture = frames[5].to_ndarray(format="rgb24").astype(int)
    five = inferences[5]
    truth = side_by_side(list(five.overlays().values()), five.caption()).astype(int)
    assert np.abs(picture - truth).mean() < 15  # colours have half the resolution


def test_an_earlier_result_is_kept(tmp_path, capsys):
    recorded(tmp_path)
    out = tmp_path / "video.mp4"
    out.write_text("mine")
    command = [str(tmp_path / "bag"), "--to", "mp4", "--out", str(out)]
    with pytest.raises(SystemExit):
        cli.main(command)
    assert "add --overwrite" in capsys.readouterr().err
    assert out.read_text() == "mine"
    (tmp_path / "folder").mkdir()
    command = [str(tmp_path / "bag"), "--to", "lerobot", "--out", str(tmp_path / "folder")]
    assert cli.main([*command, "--overwrite"]) == 2
    assert "a folder of something else" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("to", "module", "words"),
    [
        ("rerun", "rerun", "pip install rerun-sdk"),
        ("mp4", "av", "pip install av"),
        ("lerobot", "pyarrow", "pip install pyarrow"),
    ],
)
def test_a_missing_library_is_one_sentence(tmp_path, capsys, monkeypatch, to, module, words):
    recorded(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, module, None)
    assert cli.main([str(tmp_path / "bag"), "--to", to, "--quiet"]) == 2
    assert words in capsys.readouterr().err


def test_lerobot_data_set_reads_back_by_its_schema(tmp_path):
    av = pytest.importorskip("av", reason="PyAV is not installed: a data set has videos")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    out = tmp_path / "set"
    bag = executed_bag(tmp_path / "bag")
    assert cli.main([str(bag), "--to", "lerobot", "--out", str(out), "--quiet"]) == 0
    info = json.loads((out / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"]) == ("v3.0", 10)
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (2, 10, 2)
    key = "observation.images.image_raw"
    assert info["features"][key]["shape"] == [24, 32, 3]
    data = parquet.read_table(
        out / info["data_path"].format(chunk_index=0, file_index=0)
    ).to_pydict()
    assert set(data) == set(info["features"]) - {key}
    assert data["index"] == list(range(10))
    assert data["frame_index"] == 2 * list(range(5))
    assert data["task_index"] == 5 * [0] + 5 * [1]
    assert np.allclose(data["timestamp"], 2 * [0, 0.1, 0.2, 0.3, 0.4])
    assert np.allclose([row[0] for row in data["action"]], 0.01 * np.arange(10))
    assert [row[0] for row in data["observation.state"]] == list(range(10))
    episodes = parquet.read_table(out / "meta/episodes/chunk-000/file-000.parquet").to_pydict()
    assert episodes["tasks"] == [["open it"], ["close it"]]
    assert episodes["dataset_from_index"] == [0, 5]
    assert episodes["dataset_to_index"] == [5, 10]
    assert episodes[f"videos/{key}/from_timestamp"] == [0.0, 0.5]
    tasks = parquet.read_table(out / "meta/tasks.parquet")
    assert tasks.to_pydict() == {"task_index": [0, 1], "task": ["open it", "close it"]}
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    video = out / info["video_path"].format(video_key=key, chunk_index=0, file_index=0)
    with av.open(str(video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 10
    for number, frame in enumerate(frames):
        assert np.abs(frame.astype(int) - sample_image(number)).mean() < 12
    statistics = json.loads((out / "meta/stats.json").read_text())
    assert statistics["action"]["max"][0] == pytest.approx(0.09)
    assert np.shape(statistics[key]["mean"]) == (3, 1, 1)


def test_another_reader_of_lerobot_s_format_accepts_the_data_set(tmp_path):
    readers = pytest.importorskip("rerun.experimental", reason="rerun-sdk is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    if not hasattr(readers, "LeRobotReader"):
        pytest.skip("this rerun-sdk has no reader of LeRobot data sets")
    bag = executed_bag(tmp_path / "bag")
    cli.main([str(bag), "--to", "lerobot", "--out", str(tmp_path / "set"), "--quiet"])
    reader = readers.LeRobotReader(tmp_path / "set")
    assert len(list(reader.episodes())) == 2
    entities = {str(chunk.entity_path) for chunk in reader.stream(1)}
    assert any("action" in entity for entity in entities), entities
    assert any("image_raw" in entity for entity in entities), entities


def test_lerobot_s_own_reader_returns_the_frames_and_actions(tmp_path, monkeypatch):
    """LeRobot needs Python 3.12; CONTRIBUTING.md tells how to run this."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    data = pytest.importorskip(
        "lerobot.datasets.lerobot_dataset", reason="lerobot is not installed"
    )
    bag, root = executed_bag(tmp_path / "bag"), tmp_path / "set"
    assert cli.main([str(bag), "--to", "lerobot", "--out", str(root), "--quiet"]) == 0
    truth = list(ExecutedMotion(source_of(bag)).frames())
    found = data.LeRobotDataset("local/set", root=root, video_backend="pyav")
    assert (len(found), found.num_episodes, found.fps) == (len(truth), 2, 10)
    for number, frame in enumerate(truth):
        item = found[number]
        assert item["task"] == frame.instruction
        assert np.array_equal(item["action"].numpy(), np.float32(frame.action))
        assert np.array_equal(item["observation.state"].numpy(), np.float32(frame.state))
        image = item["observation.images.image_raw"].numpy().transpose(1, 2, 0) * 255
        assert np.abs(image - frame.images["/image_raw"]).mean() < 12


def test_pandas_finds_the_tasks_by_their_words(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: LeRobot reads with it")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    bag = executed_bag(tmp_path / "bag")
    cli.main([str(bag), "--to", "lerobot", "--out", str(tmp_path / "set"), "--quiet"])
    tasks = pandas.read_parquet(tmp_path / "set" / "meta" / "tasks.parquet")
    assert tasks.loc["close it"].task_index == 1


def test_a_camera_that_changes_its_size_is_refused(tmp_path):
    pytest.importorskip("av", reason="PyAV is not installed: a data set has videos")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    form = MotionForm(["x"], [], 10)

    def frame(size):
        images = {"/image_raw": np.zeros((*size, 3), np.uint8)}
        return ExecutedFrame(False, 0, "go", images, np.zeros(0), np.zeros(1))

    def write():
        with LeRobotWriter(tmp_path / "set", form) as writer:
            writer.add(frame((8, 8)))
            writer.add(frame((8, 16)))

    with pytest.raises(ValueError, match="changes its size"):
        write()
    assert not (tmp_path / "set" / "meta").exists()


def test_rerun_recording_reads_back(tmp_path):
    pytest.importorskip("rerun", reason="rerun-sdk is not installed")
    recorded(tmp_path)
    out = tmp_path / "bag.rrd"
    assert cli.main([str(tmp_path / "bag"), "--to", "rerun", "--out", str(out), "--quiet"]) == 0
    [chunks] = rerun_recordings(out)
    entities = {str(chunk.entity_path) for chunk in chunks}
    wanted = {"/camera/image_raw/image", "/camera/image_raw/kept", "/tokens/kept", "/latency_ms",
              "/action/x", "/action/gripper", "/instruction"}  # fmt: skip
    assert wanted <= entities, entities


def rerun_recordings(path):
    """Return the chunks of each recording of a file, by the newest reader there is."""
    chunk = pytest.importorskip("rerun.chunk", reason="this rerun-sdk has no reader of recordings")
    reader = chunk.RrdReader(str(path))
    return [list(reader.stream(store=entry)) for entry in reader.recordings()]


@pytest.mark.parametrize(
    ("topic", "key"),
    [
        ("/image_raw", "observation.images.image_raw"),
        ("/gripper/image_raw", "observation.images.gripper"),
        ("/camera/color/image_raw/compressed", "observation.images.camera"),
    ],
)
def test_camera_names(topic, key):
    assert camera_key(topic) == key


def test_statistics_equal_numpy():
    rng = np.random.default_rng(0)
    values, images = rng.normal(size=(50, 3)), rng.integers(0, 255, (3, 6, 5, 3), np.uint8)
    vectors, pictures = VectorStatistics(), ImageStatistics()
    for value in values:
        vectors.add(value)
    for number, image in enumerate(images):
        pictures.add(image, 10 * number)
    pictures.add(np.zeros((6, 5, 3), np.uint8), 7)  # left out
    for name in ("min", "max", "mean", "std"):
        assert np.allclose(vectors.result()[name], getattr(np, name)(values, axis=0))
        truth = getattr(np, name)(images / 255.0, axis=(0, 1, 2))
        assert np.allclose(np.ravel(pictures.result()[name]), truth)
    assert pictures.result()["count"] == [3]
