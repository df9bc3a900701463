"""Reading checkpoints: configuration, weights and statistics from a directory, nothing executed.

Weights go straight to the target device and dtype, a group of tensors at a time, so that host
memory holds the weights once and never the file as well.
"""

from __future__ import annotations

import fnmatch
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vla_pruner_ros.models.cancellation import check_cancelled
from vla_pruner_ros.models.checkpoint_files import (
    check_component,
    check_config,
    check_weights,
    read_json,
)
from vla_pruner_ros.models.policy import CheckpointError
from vla_pruner_ros.models.sources.adapters import merge_check, read_adapter
from vla_pruner_ros.models.sources.folders import explain_weights, resolve

GROUP_ELEMENTS = 64 * 2**20
GROUP_SHARE = 16
"""Tensors mapped at a time: at most so many elements and such a part of the whole; a closed
group's pages are returned to the system."""
PIECE = 2**16
"""Elements looked at together when searching for NaN."""
NOTE = "vla_pruner_ros"
"""Key in config.json under which this package stores whether and how it trained the weights."""
SINGLE = "the only data set"
"""Name of statistics that a file does not nest under one."""
PROGRESS_BYTES = 2**30
"""A progress bar appears for checkpoints above this size, on a terminal."""


def read_config(directory: Path) -> dict:
    """Return config.json of a checkpoint directory; empty for openpi's folders, which have none.

    Raises:
        CheckpointError: it is missing or damaged; what the folder is instead, and the remedy.
    """
    directory = resolve(directory)
    if not (directory / "config.json").exists():
        return {}
    config = read_json(directory / "config.json")
    check_config(config, str(directory / "config.json"))
    return config


def refuse_quantized(config: dict, directory: Path) -> None:
    """Raises CheckpointError for weights that other software has quantized."""
    settings = config.get("quantization_config")
    if not settings:
        return
    method = settings.get("quant_method") if isinstance(settings, dict) else settings
    if isinstance(settings, dict) and (
        settings.get("load_in_4bit") or settings.get("load_in_8bit")
    ):
        method = "bitsandbytes"
    raise CheckpointError(
        f"the weights in {directory} are quantized by {method or 'other software'} "
        "(quantization_config in config.json), which is not read: give the original weights and "
        "set quantization to int8 or int4"
    )


def read_optional_json(path: Path) -> dict:
    """The object in path, or an empty one where there is no such file."""
    return read_json(path) if path.exists() else {}


class WeightFiles:
    """The safetensors of a directory, single or sharded with an index.

    shapes: name -> shape of every tensor, read from the file headers alone.
    rename: a tensor's name in the file -> the name it goes by here.
    """

    def __init__(self, directory: Path, rename: Callable[[str], str] = str) -> None:
        self.directory = directory
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._rename = rename
        self._file_of: dict[str, Path] = {}
        self._stored_as: dict[str, str] = {}
        for path in _weight_paths(directory):
            self._read_header(path)
        self._adapter = read_adapter(directory, rename)
        if self._adapter is not None:
            merge_check(self._adapter, set(self.shapes))

    def _read_header(self, path: Path) -> None:
        with _open(path) as tensors:
            for stored in tensors.keys():  # noqa: SIM118 - no mapping, it cannot be iterated
                name = self._rename(stored)
                if name in self.shapes:
                    raise CheckpointError(
                        f"{self.directory} holds one tensor twice, as {self._stored_as[name]} and "
                        f"as {stored}; remove the file or the copy that is not needed"
                    )
                self.shapes[name] = tuple(tensors.get_slice(stored).get_shape())
                self._file_of[name], self._stored_as[name] = path, stored

    def use_twin(self, name: str, twin: str) -> None:
        """Read `name` from `twin`, if the files hold the twin alone (tied weights)."""
        if name not in self.shapes and twin in self.shapes:
            self.shapes[name] = self.shapes[twin]
            self._file_of[name] = self._file_of[twin]
            self._stored_as[name] = self._stored_as[twin]

    def load_into(
        self,
        module: nn.Module,
        device: torch.device,
        dtype: torch.dtype,
        unused: Iterable[str] = (),
    ) -> None:
        """Fill a module built on the meta device; its parameter names are the file's.

        unused: patterns of keys that the family knows and does not run.

        Raises:
            CheckpointError: missing or unexpected keys, wrong shapes, values that are not finite.
        """
        expected = {name: tuple(p.shape) for name, p in module.state_dict().items()}
        self._check_names(expected, tuple(unused))
        for name, tensor in self._read(list(expected), device, dtype):
            check_finite(name, tensor)
            assign(module, name, tensor)

    def read(self, name: str) -> Tensor:
        """Return one small tensor (any shape) as the file holds it, on the host.

        Raises KeyError.
        """
        path = self._file_of[name]
        with _open(path) as tensors:
            return _get(tensors, path, self._stored_as[name]).clone()

    def _check_names(self, expected: dict[str, tuple[int, ...]], unused: tuple[str, ...]) -> None:
        missing = [name for name in expected if name not in self.shapes]
        if missing:
            raise CheckpointError(f"{self.directory} lacks {_listing(missing)}")
        known = lambda name: name in expected or any(fnmatch.fnmatch(name, u) for u in unused)  # noqa: E731
        unexpected = [name for name in self.shapes if not known(name)]
        if unexpected:
            raise CheckpointError(
                f"{self.directory} has {_listing(unexpected)}, which this family does not know; "
                "it may be another architecture or an unmerged adapter"
            )
        for name, shape in expected.items():
            check_shape(name, shape, self.shapes[name])

    def _read(
        self, names: list[str], device: torch.device, dtype: torch.dtype
    ) -> Iterator[tuple[str, Tensor]]:
        with _progress(sum(_elements(self.shapes[n]) for n in names)) as bar:
            for path, group in self._groups(names):
                with _open(path) as tensors:
                    for name in group:
                        check_cancelled()
                        # A copy even where nothing changes: the file's pages must not stay mapped.
                        tensor = _get(tensors, path, self._stored_as[name])
                        check_floating(f"{path.name}: {name}", tensor)
                        if self._adapter is not None:
                            tensor = self._adapter.apply(name, tensor)
                        yield name, tensor.to(device, dtype, copy=True)
                        bar.update(_elements(self.shapes[name]))

    def _groups(self, names: list[str]) -> Iterator[tuple[Path, list[str]]]:
        """Names that lie in one file, opened together."""
        total = sum(_elements(self.shapes[name]) for name in names)
        limit = min(GROUP_ELEMENTS, total // GROUP_SHARE)
        group: list[str] = []
        size = 0
        for name in sorted(names, key=lambda n: str(self._file_of[n])):
            elements = _elements(self.shapes[name])
            other_file = bool(group) and self._file_of[name] != self._file_of[group[0]]
            if other_file or (group and size + elements > limit):
                yield self._file_of[group[0]], group
                group, size = [], 0
            group.append(name)
            size += elements
        if group:
            yield self._file_of[group[0]], group


def load_component(path: Path, prefixes: tuple[str, ...] = ("module.",)) -> dict[str, Tensor]:
    """Load a .pt file of plain tensors (any shape), leading prefixes of wrappers stripped.

    Raises:
        CheckpointError: damaged, or holding anything but tensors; pickled code is never run.
    """
    check_component(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged or holds more than plain tensors and is not loaded: "
            f"{str(error).splitlines()[0]}"
        ) from None
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"{path} must hold a dictionary of tensors")
    for prefix in prefixes:
        content = {name.removeprefix(prefix): tensor for name, tensor in content.items()}
    return content


def fill_component(
    module: nn.Module, path: Path, tensors: dict[str, Tensor], device: torch.device, dtype
) -> nn.Module:
    """Fill a small module built on the meta device from a component file.

    Args:
        module: on the meta device.
        path: of the file, for messages.
        tensors: name -> tensor of the parameter's shape; any shape.
        device: where the module goes.
        dtype: of its parameters.

    Raises:
        CheckpointError: names, shapes or values that do not fit.
    """
    expected = module.state_dict()
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    if missing or unexpected:
        parts = [("lacks", missing), ("has the unknown", unexpected)]
        trouble = " and ".join(f"{kind} {_listing(names)}" for kind, names in parts if names)
        raise CheckpointError(f"{path.name} {trouble}")
    for name, tensor in tensors.items():
        check_shape(f"{path.name}: {name}", tuple(expected[name].shape), tuple(tensor.shape))
        check_finite(f"{path.name}: {name}", tensor)
        assign(module, name, tensor.to(device, dtype))
    return module


def assign(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Put a tensor (any shape) instead of a (meta) parameter given by its dotted name."""
    owner, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(owner), leaf, nn.Parameter(tensor, requires_grad=False))


def check_shape(name: str, expected: tuple[int, ...], found: tuple[int, ...]) -> None:
    """Raises CheckpointError naming both shapes."""
    if expected != found:
        raise CheckpointError(f"{name} has shape {list(found)}, expected {list(expected)}")


def check_floating(name: str, tensor: Tensor) -> None:
    """Refuse integer weights, any shape: without their scales they mean nothing.

    Raises:
        CheckpointError: the tensor is not floating-point.
    """
    if not tensor.dtype.is_floating_point:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise CheckpointError(
            f"{name} holds {kind} numbers: the checkpoint was quantized by other software, which "
            "is not read; give the original weights and set quantization to int8 or int4"
        )


def check_finite(name: str, tensor: Tensor) -> None:
    """Refuse weights, any shape, that hold NaN or infinity.

    Raises:
        CheckpointError: the tensor holds one.
    """
    # Sums of short pieces: whole-tensor operations would need as much memory again.
    sums = [piece.sum(dtype=torch.float32) for piece in tensor.flatten().split(PIECE)]
    if not torch.isfinite(torch.stack(sums)).all():
        raise CheckpointError(f"{name} has NaN or infinite values; the checkpoint is damaged")


def is_trained(config: dict) -> bool:
    """False for checkpoints that this package wrote with random weights (models/untrained.py)."""
    return training_note(config).get("trained", True)


def training_note(config: dict) -> dict:
    """Return the note of training.train on a run (tasks, steps, date); {} for others'
    checkpoints.
    """
    return config.get(NOTE, {})


def read_statistics(directory: Path, config: dict) -> dict:
    """Per data set; dataset_statistics.json replaces config.json's norm_stats where it exists.

    A fine-tuned checkpoint keeps the base model's norm_stats in config.json, which do not fit it.
    """
    own = read_optional_json(directory / "dataset_statistics.json")
    return _by_data_set(own or config.get("norm_stats") or {})


def _by_data_set(statistics: dict) -> dict:
    """Nest statistics of one data set under a name, and leave out what holds no statistics."""
    if "q01" in (statistics.get("action") or {}) or "min" in (statistics.get("action") or {}):
        return {SINGLE: statistics}
    return {
        key: value
        for key, value in statistics.items()
        if isinstance(value, dict) and isinstance(value.get("action"), dict)
    }


def choose_statistics(statistics: dict, unnorm_key: str | None, source: str) -> tuple[str, dict]:
    """The named data set's statistics, or the only one there is.

    Raises:
        CheckpointError: no statistics, an unknown key or an open choice, with the valid keys.
    """
    if not statistics:
        raise CheckpointError(
            f"{source} has no action statistics: dataset_statistics.json is missing and "
            "config.json has no norm_stats; copy dataset_statistics.json from the folder that "
            "training wrote (openvla and openvla-oft save it next to each checkpoint)"
        )
    keys = ", ".join(sorted(statistics))
    if unnorm_key is not None and list(statistics) == [SINGLE]:
        unnorm_key = SINGLE
    if unnorm_key is None and len(statistics) > 1:
        raise CheckpointError(f"set unnorm_key, {source} has several statistics: {keys}")
    key = unnorm_key if unnorm_key is not None else next(iter(statistics))
    if key not in statistics:
        raise CheckpointError(f"unnorm_key {key!r} is not in {source}; valid keys: {keys}")
    return key, statistics[key]


def _weight_paths(directory: Path) -> list[Path]:
    index = directory / "model.safetensors.index.json"
    if not index.exists():
        single = directory / "model.safetensors"
        if not single.exists():
            raise CheckpointError(explain_weights(directory))
        return [single]
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(map(_is_file_name, weight_map.values())):
        raise CheckpointError(
            f"{index} must map each tensor to the name of a file next to it; "
            "copy or download it again"
        )
    paths = [directory / name for name in sorted(set(weight_map.values()))]
    absent = [path.name for path in paths if not path.exists()]
    if absent:
        raise CheckpointError(f"{directory} lacks the shards {', '.join(absent)}")
    return paths


def _is_file_name(name: object) -> bool:
    """A path could lead out of the checkpoint's directory."""
    return isinstance(name, str) and name not in ("", ".", "..") and Path(name).name == name


def _open(path: Path):
    check_weights(path)
    try:
        return safe_open(os.fspath(path), framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from None


def _get(tensors, path: Path, name: str) -> Tensor:
    try:
        return tensors.get_tensor(name)
    except (SafetensorError, RuntimeError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} is damaged or incomplete ({error}); copy or download it again")


def _progress(elements: int):
    from tqdm import tqdm

    hidden = 2 * elements < PROGRESS_BYTES or not sys.stderr.isatty()
    return tqdm(
        total=elements, desc="loading weights", unit="param", unit_scale=True, disable=hidden
    )


def _elements(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def _listing(names: list[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
