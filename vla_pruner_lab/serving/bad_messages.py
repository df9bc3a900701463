"""Malformed messages to the server, each with its stated outcome."""

from __future__ import annotations

import datetime
import io
import json
import pickle
from collections.abc import Iterator
from functools import partial
from typing import Any

import msgpack
import numpy as np
from PIL import Image

from vla_pruner_lab.serving.attack import (
    SERVED,
    SILENT,
    Attack,
    ask,
    ask_vla_eval,
    frame,
    observation,
    pack,
    pack_frame,
)


def refused(pattern: str) -> str:
    """Return the pattern of a refusal: a text frame that matches, then close 1011, as in openpi."""
    return rf"refused: [^\n]*(?:{pattern})[^\n]*; closed 1011"


def cases() -> Iterator[Attack]:
    """Yield messages that are malformed or too large."""
    yield from _structure()
    yield from _arrays()
    yield from _images()
    yield from _states_and_prompts()
    yield from _extras()
    yield from _frames()


def _openpi(area: str, name: str, data: Any, expected: str) -> Attack:
    if isinstance(data, dict):
        data = pack(data)
    return Attack(area, name, partial(ask, data=data), expected)


def _structure() -> Iterator[Attack]:
    good = pack(observation())
    make = partial(_openpi, "msgpack structure")
    for tenth in range(1, 10):
        cut = good[: len(good) * tenth // 10]
        yield make(f"cut off at {tenth}0 %", cut, refused("cut off|more than the message"))
    yield make("empty", b"", refused("cut off at byte 0"))
    yield make("unused code 0xc1", b"\xc1", refused("unused code"))
    yield make("bytes after the end", good + b"\x00", refused("follow the message's end"))
    yield make("array of four billion", b"\xdd\xff\xff\xff\xff", refused("more than the message"))
    yield make("map of four billion", b"\xdf\xff\xff\xff\xff", refused("more than the message"))
    yield make("binary of 4 GB", b"\xc6\xff\xff\xff\xff", refused("cut off"))
    yield make("string of 4 GB", b"\xdb\xff\xff\xff\xff", refused("cut off"))
    yield make("arrays nested 10,000 deep", b"\x91" * 10000 + b"\xc0", refused("nested deeper"))
    yield make("maps nested 100 deep", b"\x81\xa1a" * 100 + b"\xc0", refused("nested deeper"))
    wide = b"\xdd" + (10**6).to_bytes(4, "big") + b"\x90" * 10**6
    yield make("a million empty lists", wide, refused("more than 4000 values"))
    claims = b"\xdc\xff\xff" * 3 + b"\x90" * 200000
    yield make("headers that claim all that follows", claims, refused("more than 4000 values"))
    yield make("extension type", msgpack.packb(msgpack.ExtType(5, b"x")), refused("extension"))
    stamp = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    yield make("timestamp", msgpack.packb({"t": stamp}, datetime=True), refused("extension"))
    yield make("string that is not UTF-8", b"\x81\xa1\xff\xc0", refused("UTF-8|valid msgpack"))
    yield make("numbers as keys", msgpack.packb({1: 2}), refused("valid msgpack"))
    yield make("lists as keys", b"\x81\x91\x01\x02", refused("valid msgpack"))
    yield make("nil", b"\xc0", refused("no map"))
    yield make("a number", b"\x05", refused("no map"))
    yield make("a list", msgpack.packb([1, 2]), refused("no map"))
    yield make("text message", "hello", refused("text message"))
    yield make("JSON", json.dumps({"prompt": "x"}), refused("text message"))
    yield make("pickle", pickle.dumps({"prompt": "x"}), refused("."))
    yield make("40 MB", bytes(40 * 2**20), "closed 1009|dropped.*")
    parts = [good[start : start + 16] for start in range(0, len(good), 16)]
    yield make("good request in hundreds of fragments", parts, SERVED)


def _marked(**fields: Any) -> dict[bytes, Any]:
    base = {"__ndarray__": True, "data": bytes(32), "dtype": "<f4", "shape": [8], **fields}
    return {name.encode(): value for name, value in base.items() if value is not ...}


def _arrays() -> Iterator[Attack]:
    def make(name: str, expected: str, **fields: Any) -> Attack:
        return _openpi("arrays", name, observation(state=_marked(**fields)), expected)

    yield make("shape larger than the bytes", refused("needs 36 bytes, 32 came"), shape=[9])
    yield make("shape smaller than the bytes", refused("needs 4 bytes, 32 came"), shape=[1])
    yield make("negative shape", refused("shape must be"), shape=[-8])
    yield make("shape of floats", refused("shape must be"), shape=[8.0])
    yield make("shape of booleans", refused("shape must be"), shape=[True])
    yield make("ten dimensions", refused("shape must be"), shape=[1] * 9 + [8])
    yield make("shape that overflows", refused("needs \\d+ bytes"), shape=[2**40, 2**40])
    yield make("shape of zero times infinity", refused("needs 0 bytes"), shape=[0, 2**62])
    yield make("shape is a number", refused("shape must be"), shape=8)
    yield make("no shape", refused("shape must be"), shape=...)
    yield make("no data", refused("no binary data"), data=...)
    yield make("data is text", refused("no binary data"), data="x" * 32)
    yield make("no dtype", refused("do not go"), dtype=...)
    for dtype in ("|O", "|V4", "<c8", "<U1", "|S4", "<M8[ns]", "<f16", "f4,f4", "float64"):
        yield make(f"dtype {dtype}", refused("do not go"), dtype=dtype)
    yield make("dtype with code", refused("do not go"), dtype="__import__('os')")
    yield make("dtype is a list", refused("do not go"), dtype=[["a", "<f4"]])
    big = {"data": np.zeros(8, ">f4").tobytes(), "dtype": ">f4"}
    yield make("big-endian numbers", SERVED, **big)
    scalar = {b"__npgeneric__": True, b"data": 300, b"dtype": "|i1"}
    yield _openpi("arrays", "scalar that does not fit", observation(state=scalar), refused("fit"))
    scalar = {b"__npgeneric__": True, b"data": "x", b"dtype": "<f4"}
    yield _openpi("arrays", "scalar of text", observation(state=scalar), refused("no number"))
    whole = _openpi("arrays", "the message is an array", _marked(), refused("one array"))
    yield whole


def _png(image: Image.Image, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=form)
    return buffer.getvalue()


def _encoded(data: bytes, form: str = "png") -> dict[str, Any]:
    return {"__image__": True, "format": form, "data": data, "shape": [32, 32, 3]}


def _images() -> Iterator[Attack]:
    def make(name: str, image: Any, expected: str) -> Attack:
        return _openpi("images", name, observation(image=image), expected)

    bytes8, floats = partial(np.zeros, dtype=np.uint8), partial(np.full, dtype=np.float32)
    yield make("0 x 0 pixels", bytes8((0, 0, 3)), refused("0 x 0 pixels"))
    yield make("0 pixels wide", bytes8((224, 0, 3)), refused("224 x 0 pixels"))
    yield make("1 x 1 pixels", bytes8((1, 1, 3)), refused("1 x 1 pixels"))
    yield make("10,000 pixels high", bytes8((10000, 8, 3)), refused("10000 x 8 pixels"))
    yield make("2049 pixels wide", bytes8((8, 2049, 3)), refused("8 x 2049 pixels"))
    yield make("four channels", bytes8((32, 32, 4)), refused(r"shape \[32, 32, 4\]"))
    yield make("grey", bytes8((32, 32)), refused(r"shape \[32, 32\]"))
    yield make("a batch", bytes8((1, 32, 32, 3)), refused(r"shape \[1, 32, 32, 3\]"))
    yield make("64-bit integers", np.zeros((32, 32, 3), np.int64), refused("type int64"))
    yield make("floats up to 255", floats((32, 32, 3), 255.0), refused(r"in 0\.\.1"))
    yield make("NaN", floats((32, 32, 3), np.nan), refused(r"in 0\.\.1"))
    yield make("negative floats", floats((32, 32, 3), -0.5), refused(r"in 0\.\.1"))
    yield make("text", "an image of a bowl", refused("must be an image"))
    yield make("nothing", None, refused("must be an image"))
    yield make("lists of numbers", np.zeros((32, 32, 3)).tolist(), refused("as arrays"))
    yield make("left out", ..., refused("is missing"))
    yield make("channels first", bytes8((3, 32, 32)), SERVED)
    yield make("floats in 0..1", floats((32, 32, 3), 0.5), SERVED)
    good = Image.new("RGB", (32, 32))
    yield make("PNG", _encoded(_png(good)), SERVED)
    yield make("PNG cut off", _encoded(_png(good)[:-20]), refused("cannot be decoded"))
    yield make("PNG of zeros", _encoded(bytes(100)), refused("cannot be decoded"))
    bomb = _png(Image.new("RGB", (10000, 10000)))
    yield make("PNG of 10,000 x 10,000 pixels", _encoded(bomb), refused("at most 2048"))
    yield make("palette PNG", _encoded(_png(good.convert("P"))), refused("mode is P"))
    yield make("PNG called JPEG", _encoded(_png(good), "jpeg"), refused("cannot be decoded"))
    yield make("GIF called PNG", _encoded(_png(good, "GIF")), refused("cannot be decoded"))
    yield make("format of an image unknown", _encoded(b"", "svg"), refused("png, jpeg or raw"))
    yield make("format of an image is a list", _encoded(b"", []), refused("png, jpeg or raw"))


def _states_and_prompts() -> Iterator[Attack]:
    def state(name: str, value: Any, expected: str) -> Attack:
        return _openpi("states", name, observation(state=value), expected)

    yield state("left out", ..., refused("state observation/state is missing"))
    yield state("too short", np.zeros(7), refused("7 numbers, the policy takes 8"))
    yield state("too long", np.zeros(3000), refused("3000 numbers"))
    yield state("empty", np.zeros(0), refused("0 numbers"))
    yield state("NaN", np.full(8, np.nan), refused("not finite"))
    yield state("infinite", np.full(8, np.inf), refused("not finite"))
    yield state("two rows", np.zeros((2, 4)), refused("one row"))
    yield state("booleans", np.zeros(8, bool), refused("one row of numbers"))
    yield state("list with text", ["x"] * 8, refused("must hold numbers"))
    yield state("a map", {"x": 1.0}, refused("array of numbers"))
    yield state("list of numbers", [0.0] * 8, SERVED)

    def prompt(name: str, value: Any, expected: str) -> Attack:
        return _openpi("prompts", name, observation(prompt=value), expected)

    yield prompt("left out", ..., refused("prompt is missing"))
    yield prompt("empty", "", refused("is empty"))
    yield prompt("blanks", " \n\t ", refused("is empty"))
    yield prompt("10,000 characters", "x" * 10000, refused("10000 characters"))
    yield prompt("a number", 7, refused("must be a string"))
    yield prompt("binary", b"pick", refused("must be a string"))
    yield prompt("control characters", "pick \x1b[31m\x00 up", SERVED)


def _extras() -> Iterator[Attack]:
    def pruning(name: str, value: Any, expected: str) -> Attack:
        return _openpi("settings", name, observation(pruning=value), expected)

    yield pruning("no map", [0.5], refused("must be a map"))
    yield pruning("unknown name", {"keep": 0.5}, refused("no pruning setting keep"))
    yield pruning("keep_ratio 0", {"keep_ratio": 0.0}, refused("keep_ratio must"))
    yield pruning("keep_ratio NaN", {"keep_ratio": float("nan")}, refused("keep_ratio must"))
    yield pruning("keep_ratio text", {"keep_ratio": "all"}, refused("keep_ratio must"))
    yield pruning("keep_ratio true", {"keep_ratio": True}, refused("keep_ratio must"))
    yield pruning("a window of a billion", {"temporal_window": 10**9}, refused("temporal_window"))
    yield pruning("an array", {"keep_ratio": np.zeros(3)}, refused("keep_ratio must"))
    yield _openpi("settings", "request is text", observation(request="x"), refused("whole number"))
    yield _openpi("settings", "reset is text", observation(reset="now"), SERVED)
    for name, path, pattern in (
        ("address sets keep_ratio 9", "/?keep_ratio=9", "keep_ratio must"),
        ("address sets text", "/?keep_ratio=x", "must be a number"),
        ("address sets an unknown name", "/?a=1", "no pruning setting a"),
        ("address sets 40 names", "/?" + "&".join(f"a{n}=1" for n in range(40)), "more than 32"),
    ):
        run = partial(ask, data=b"", path=path)
        yield Attack("settings", name, run, refused(pattern))


def _frames() -> Iterator[Attack]:
    def make(name: str, data: Any, expected: str, wait: float = 10.0) -> Attack:
        data = pack_frame(data) if isinstance(data, dict) else data
        run = partial(ask_vla_eval, data=data, wait=wait)
        return Attack("vla-eval frames", name, run, expected, "vla_eval")

    def error(pattern: str) -> str:
        return rf"refused: .*{pattern}.*"

    yield make("no type", frame(type=...), error("map of type"))
    yield make("unknown type", frame("shutdown"), error("type must be one of"))
    yield make("type is a list", frame(type=["hello"]), error("type must be one of"))
    yield make("no seq", frame(seq=...), error("map of type"))
    yield make("seq is text", frame(seq="1"), error("whole number"))
    yield make("seq is negative", frame(seq=-1), error("whole number"))
    yield make("payload is a list", frame(payload=[1]), error("payload must be a map"))
    yield make("payload is an array", frame(payload=np.zeros(3)), error("one array"))
    yield make("an action from the client", frame("action"), error("the server sends them"))
    yield make("no images", frame(payload={"task_description": "x"}), error("is missing"))
    broken = {"images": {"agentview": _encoded(b"x")}, "task_description": "x"}
    yield make("a broken image", frame(payload=broken), error("cannot be decoded"))
    yield make("text message", "hello", error("text message"))
    yield make("bytes", b"\xc1\xc1", error("unused code"))
    yield make("an openpi request", pack(observation()), error("--protocol openpi"))
    yield make("hello with rubbish", frame("hello", payload={"x": [1] * 50}), "hello")
    yield make("an error from the client", frame("error"), SILENT, 0.2)
    yield make("an end without a start", frame("episode_end"), SILENT, 0.2)
    yield Attack(
        "vla-eval frames",
        "a frame to an openpi server",
        partial(ask, data=pack_frame(frame())),
        refused("--protocol vla_eval"),
    )
