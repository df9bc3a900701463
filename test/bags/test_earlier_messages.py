"""Bags without definitions that hold this package's messages as earlier releases wrote them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import yaml
from replay_bags import (
    NODE,
    PERIOD,
    START,
    BagMaker,
    MemoryPolicy,
    Observation,
    sample_image,
)
from rosbags.rosbag2.enums import StoragePlugin

from vla_pruner_ros.bags import definitions as types
from vla_pruner_ros.bags.earlier import earlier_stores
from vla_pruner_ros.bags.reader import BagError, BagReader
from vla_pruner_ros.replay.replayer import Replayer, ReplaySetting, Run
from vla_pruner_ros.replay.results.parity import check_parity
from vla_pruner_ros.replay.session import Choice, Session

STORAGES = [StoragePlugin.SQLITE3, StoragePlugin.MCAP]
OLDEST_VERSION = 8


def serialized(message, store, msgtype: str) -> bytes:
    """The bytes that an earlier release would have published for a message of today."""
    earlier = store.types[msgtype]
    fields = {name: getattr(message, name) for name, _ in store.fielddefs[msgtype][1]}
    return bytes(store.serialize_cdr(earlier(**fields), msgtype))


class EarlierBag(BagMaker):
    """A bag of Humble's recorder: no definitions, and ActionChunk as `age` releases ago."""

    def __init__(self, path, storage, age: int, definitions: bool = False) -> None:
        super().__init__(path, storage=storage, version=OLDEST_VERSION, definitions=definitions)
        self.stores = {}
        if age:
            self.stores[types.ACTION_CHUNK] = earlier_stores(types.ACTION_CHUNK)[age - 1]
            self.stores[types.PRUNING_STATUS] = earlier_stores(types.PRUNING_STATUS)[0]

    def add(self, topic, msgtype, time, message) -> None:
        if msgtype not in self.stores:
            super().add(topic, msgtype, time, message)
            return
        self.raw(topic, msgtype, time, serialized(message, self.stores[msgtype], msgtype))


def as_humble(path: Path) -> None:
    """Turn a bag into one of Humble's recorder: no tables and fields that came with Iron."""
    (file,) = path.glob("*.db3")
    with sqlite3.connect(file) as database:
        found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        tables = {name for (name,) in found}
        assert "message_definitions" in tables
        for table in set(tables) - {"topics", "messages"}:
            database.execute(f"DROP TABLE {table}")
        database.execute("ALTER TABLE topics DROP COLUMN type_description_hash")
    content = yaml.safe_load((path / "metadata.yaml").read_text())
    information = content["rosbag2_bagfile_information"]
    information["version"] = 5
    information.pop("ros_distro", None)
    for topic in information["topics_with_message_count"]:
        topic["topic_metadata"].pop("type_description_hash", None)
        topic["topic_metadata"]["offered_qos_profiles"] = ""
    (path / "metadata.yaml").write_text(yaml.safe_dump(content))


def record(bag: BagMaker, frames: int = 6) -> None:
    policy = MemoryPolicy()
    bag.parameters(-2 * PERIOD, **vars(policy.pruning), image_topics=["image_raw"])
    bag.instruction("pick up the cup", -PERIOD)
    for number in range(frames):
        bag.image(sample_image(number), number * PERIOD)
        observation = Observation([sample_image(number)], "pick up the cup")
        bag.answer(policy, [number * PERIOD], observation)


@pytest.mark.parametrize("age", [0, 1, 2])
@pytest.mark.parametrize("storage", [*STORAGES, "humble"])
def test_bags_of_earlier_releases_without_definitions_replay(storage, age, tmp_path):
    """Humble's sqlite3 bags hold no definitions: every recorded chunk counted as unreadable."""
    plugin = StoragePlugin.SQLITE3 if storage == "humble" else storage
    with EarlierBag(tmp_path / "bag", plugin, age) as bag:
        record(bag)
    if storage == "humble":
        as_humble(tmp_path / "bag")
    with BagReader(tmp_path / "bag") as reader:
        session = Session(reader, 1, Choice())
        assert session.exact
        assert session.skipped == []
        assert len(session.inferences) == 6
        stamps = [one.image_stamps for one in session.inferences]
        assert stamps == [(START + n * PERIOD,) for n in range(6)]
        assert [one.actions.shape for one in session.inferences] == [(2, 7)] * 6
        assert session.inferences[0].pruning is not None
        run = Run(ReplaySetting("recorded settings", None))
        list(Replayer(MemoryPolicy()).run(session.inputs(), run))
        parity = check_parity(run, session.inferences)
        assert (parity.comparable, parity.equal) == (6, 6)


def test_a_definition_in_the_bag_is_the_only_one_that_counts(tmp_path):
    """An earlier form must not hide that a message of today is cut."""
    with BagMaker(tmp_path / "bag") as bag:
        record(bag, 1)
    with BagReader(tmp_path / "bag") as reader:
        (chunk,) = reader.messages({f"{NODE}/action_chunk"})
        whole = reader.decode(chunk)
        earlier = earlier_stores(types.ACTION_CHUNK)[0]
        cut = chunk._replace(data=serialized(whole, earlier, types.ACTION_CHUNK))
        with pytest.raises(BagError, match="action_chunk is damaged"):
            reader.decode(cut)


def test_earlier_forms_differ_in_the_fields_that_were_added():
    today = {name for name, _ in types.own_types()[types.ACTION_CHUNK][1]}
    newest, oldest = (
        {name for name, _ in store.fielddefs[types.ACTION_CHUNK][1]}
        for store in earlier_stores(types.ACTION_CHUNK)
    )
    assert today - newest == {"robot", "width", "action_names", "action_units", "state",
                              "state_names"}  # fmt: skip
    assert newest - oldest == {"image_stamps", "state_stamp"}
    assert earlier_stores(types.IMAGE) == ()
