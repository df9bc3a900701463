"""Bad checkpoints and bags, written to a directory and opened through the package's own
functions.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vla_pruner_lab.reliability.case import BadInput
from vla_pruner_ros.bags.reader import BagReader
from vla_pruner_ros.models.checkpoints import load_component
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.untrained import write_untrained_checkpoint

SMALL = {"hidden": 32, "layers": 5, "heads": 4, "mlp": 64, "vision_width": 32, "vision_heads": 2}
INDEX, WEIGHTS = "model.safetensors.index.json", "model.safetensors"
MARKER = "code_was_run"


def cases() -> Iterator[BadInput]:
    """Yield damaged and hostile checkpoints and bags."""
    yield from broken_weights()
    yield from broken_configs()
    yield from hostile_checkpoints()
    yield from bags()


class _Checkpoints:
    """One small checkpoint, written on first use and copied for every case."""

    def __init__(self) -> None:
        self._pristine: Path | None = None

    def copy(self, directory: Path) -> Path:
        if self._pristine is None or not self._pristine.exists():
            self._pristine = write_untrained_checkpoint(directory / "pristine", **SMALL)
        return Path(shutil.copytree(self._pristine, directory / "checkpoint"))


_checkpoints = _Checkpoints()


def _case(name: str, text: str, change: Callable[[Path], Any], **how: Any) -> BadInput:
    def attempt(directory: Path) -> Any:
        checkpoint = _checkpoints.copy(directory)
        change(checkpoint)
        policy = load_policy(checkpoint)
        return policy.family, (checkpoint / MARKER).exists()

    return BadInput("checkpoints", f"checkpoint {name}", attempt, text, **how)


def broken_weights() -> Iterator[BadInput]:
    """Yield checkpoints whose weights are cut, damaged or missing."""

    def cut(keep: int) -> Callable[[Path], Any]:
        return lambda d: (d / WEIGHTS).write_bytes((d / WEIGHTS).read_bytes()[:keep])

    for keep in (0, 4, 8, 100, 5000, -1):
        yield _case(f"with weights cut to {keep} bytes", "damaged", cut(keep))
    for name, content in (
        ("of zeros", bytes(1000)),
        ("with a header of 4 exabytes", b"\xff" * 7 + b"\x3f{}"),
        ("with a header that is no JSON", b"\x08" + bytes(7) + b"notjson!"),
        ("of a pickle", pickle.dumps({"weights": [1, 2, 3]})),
    ):
        yield _case(f"with weights {name}", "damaged", _writes(WEIGHTS, content))
    yield _case("without weights", "neither", lambda d: (d / WEIGHTS).unlink())
    for name, content in (
        ("that leads out", {"weight_map": {"a": "../outside.safetensors"}}),
        ("with an absolute path", {"weight_map": {"a": "/etc/passwd"}}),
        ("with a folder", {"weight_map": {"a": "sub/model.safetensors"}}),
        ("of numbers", {"weight_map": {"a": 7}}),
        ("of a list", {"weight_map": ["a"]}),
        ("without a map", {}),
    ):
        yield _case(f"with an index {name}", "file next to it", _writes(INDEX, json.dumps(content)))
    yield _case("with an index that is no JSON", "JSON", _writes(INDEX, "{"))
    absent = json.dumps({"weight_map": {"a": "b.safetensors"}})
    yield _case("with a shard missing", "lacks the shards", _writes(INDEX, absent))


def broken_configs() -> Iterator[BadInput]:
    """Yield checkpoints whose JSON files are cut, of another kind or missing."""
    for name, content, text in (
        ("empty", "", "JSON"),
        ("cut", '{"model_type": "open', "JSON"),
        ("a list", "[]", "JSON object"),
        ("a number", "7", "JSON object"),
        ("null", "null", "JSON object"),
        ("an empty object", "{}", "no known family"),
        ("of another model", '{"model_type": "bert"}', "no known family"),
        ("in UTF-16", '{"model_type": "openvla"}'.encode("utf-16"), "UTF-8"),
        ("nested too deep", "[" * 100_000, "JSON"),
    ):
        yield _case(f"with config.json {name}", text, _writes("config.json", content))
    yield _case(
        "without config.json", "config.json is missing", lambda d: (d / "config.json").unlink()
    )
    yield _case("with a tokenizer of text", "tokenizer", _writes("tokenizer.json", "hello"))
    yield _case("with statistics cut", "JSON", _writes("dataset_statistics.json", '{"a":'))


def hostile_checkpoints() -> Iterator[BadInput]:
    """Yield checkpoints that try to run code, to block or to fill the memory."""

    def add_code(directory: Path) -> None:
        config = json.loads((directory / "config.json").read_text())
        config["auto_map"] = {"AutoModelForVision2Seq": "evil.Model", "AutoConfig": "evil.Config"}
        (directory / "config.json").write_text(json.dumps(config))
        marker = directory / MARKER
        (directory / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")

    untouched = lambda result: result == ("openvla", False)  # noqa: E731
    yield _case("with code named in auto_map", "", add_code, check=untouched)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield BadInput(
            "checkpoints",
            f"component that runs code, pickle protocol {protocol}",
            lambda directory, protocol=protocol: _load_bomb(directory, protocol),
            "not loaded",
        )


class _Bomb:
    """Unpickling it creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return Path.touch, (self.marker,)


def _load_bomb(directory: Path, protocol: int) -> None:
    path, marker = directory / "action_head--checkpoint.pt", directory / MARKER
    path.write_bytes(pickle.dumps(_Bomb(marker), protocol=protocol))
    try:
        load_component(path)
    finally:
        if marker.exists():
            raise AssertionError("code in the file was run")


def bags() -> Iterator[BadInput]:
    """Yield damaged bags."""

    def case(name: str, text: str, files: dict[str, bytes]) -> BadInput:
        def attempt(directory: Path) -> Any:
            bag = directory / "bag"
            bag.mkdir()
            for file, content in files.items():
                (bag / file).write_bytes(content)
            with BagReader(bag) as reader:
                return reader.topics

        return BadInput("bags", f"bag {name}", attempt, text)

    yield case("without files", "", {})
    yield case("of one empty MCAP file", "", {"a.mcap": b""})
    yield case("of random bytes as MCAP", "", {"a.mcap": bytes(range(256)) * 10})
    yield case("of an empty SQLite file", "", {"a.db3": b""})
    yield case("of text as SQLite", "", {"a.db3": b"SELECT * FROM messages" * 50})
    yield case("with half an SQLite header", "", {"a.db3": b"SQLite format 3\x00" + bytes(20)})
    yield case("with metadata that is no YAML", "", {"metadata.yaml": b"\t: ["})
    hostile = b"!!python/object/apply:os.system ['true']\n"
    yield case("with metadata that calls Python", "", {"metadata.yaml": hostile})
    yield case("of a broken zstd file", "", {"a.mcap.zstd": b"\x28\xb5\x2f\xfd" + bytes(9)})


def _writes(name: str, content: bytes | str) -> Callable[[Path], Any]:
    data = content.encode() if isinstance(content, str) else content
    return lambda directory: (directory / name).write_bytes(data)
