"""Model families: what a family's module offers, which ones there are, and how one is chosen.

A family is a module that follows the Family protocol below. Bundled families are listed in
BUNDLED. Other packages add theirs with an entry point of the group vla_pruner_ros.families.
See docs/how-to/add_a_model_family.md.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vla_pruner_ros.models.policy import CheckpointError
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.settings import AUTO, Spec, specs_of

if TYPE_CHECKING:
    import torch

    from vla_pruner_ros.models.pruned_policy import PrunedPolicy
    from vla_pruner_ros.models.tokenizer import Tokenizer

GROUP = "vla_pruner_ros.families"
"""Group of the entry points by which other packages add a family: name = module."""

BUNDLED: dict[str, str] = {
    "openvla_oft": "vla_pruner_ros.models.openvla.oft_family",
    "openvla": "vla_pruner_ros.models.openvla.openvla_family",
    "pi0": "vla_pruner_ros.models.pi0.family",
    "pi05": "vla_pruner_ros.models.pi05.family",
    "smolvla": "vla_pruner_ros.models.smolvla.family",
}
"""Family -> module, asked in this order whether it matches a checkpoint."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint to load, and how: the argument of every family's load().

    Attributes:
        directory: folder that holds config.json.
        config: content of config.json, read once.
        device: where the weights go.
        dtype: of the weights.
        unnorm_key: data set whose statistics turn actions into units; None: the only one.
        tokenizer: prompt -> ids, or a folder that holds a tokenizer; None: the checkpoint's own.
        pruning: pruning settings of the first step.
    """

    directory: Path
    config: dict[str, Any]
    device: torch.device
    dtype: torch.dtype
    unnorm_key: str | None = None
    tokenizer: Tokenizer | str | Path | None = None
    pruning: PruningConfig = field(default_factory=PruningConfig)


class Family(Protocol):
    """A family's module. It is imported to declare parameters, so it imports torch in load().

    Attributes:
        Options: frozen dataclass of fields made by settings.setting(); each default is None,
            which means: the checkpoint's value.
    """

    Options: type

    def matches(self, directory: Path, config: dict[str, Any]) -> bool:
        """Return whether the checkpoint is of this family."""
        ...

    def load(self, checkpoint: Checkpoint, options: Any) -> PrunedPolicy:
        """Load the policy.

        Raises:
            CheckpointError: the file or key that is wrong, and the remedy.
            ValueError: pruning settings that do not fit the model.
        """
        ...


@cache
def external() -> dict[str, EntryPoint]:
    """Return the families of other installed packages, by name."""
    return {
        point.name: point
        for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)
        if point.name not in BUNDLED
    }


def family_names() -> tuple[str, ...]:
    """Return the names of all families in the order in which they are asked."""
    return (*BUNDLED, *external())


def family_named(name: str) -> Family:
    """Return the module of a family.

    Raises:
        CheckpointError: no family has this name, or its package cannot be imported.
    """
    if name in BUNDLED:
        return import_module(BUNDLED[name])
    if name not in external():
        raise CheckpointError(
            f"model {name!r} is no known family: choose {AUTO} or one of "
            f"{', '.join(family_names())}, or install the package that brings it"
        )
    point = external()[name]
    try:
        module = point.load()
    except Exception as error:  # whatever another package raises on import
        raise CheckpointError(
            f"family {name} ({point.value}) cannot be imported: {error}"
        ) from error
    missing = [part for part in ("Options", "matches", "load") if not hasattr(module, part)]
    if missing:
        raise CheckpointError(f"family {name} ({point.value}) has no {', '.join(missing)}")
    return module


def choose_family(directory: Path, config: dict[str, Any], model: str = AUTO) -> tuple[str, Family]:
    """Return name and module of the named family, or of the first that matches the checkpoint.

    Raises:
        CheckpointError: an unknown name, or no family matches.
    """
    if model not in (AUTO, ""):
        return model, family_named(model)
    for name, module in usable_families().items():
        if module.matches(directory, config):
            return name, module
    raise CheckpointError(
        f"{directory} is of no known family ({', '.join(family_names())}): the model_type or type "
        f"in its config.json is {config.get('model_type') or config.get('type')!r}"
    )


def usable_families() -> dict[str, Family]:
    """Return the modules by name; log those of other packages that cannot be imported."""
    usable = {}
    for name in family_names():
        try:
            usable[name] = family_named(name)
        except CheckpointError as error:
            logging.getLogger(__name__).warning("A model family is left out: %s", error)
    return usable


def make_options(name: str, family: Family, given: dict[str, Any]) -> Any:
    """Return the family's Options from values by name; None and AUTO mean the default.

    Raises:
        CheckpointError: an option that the family does not have, or a value it does not take.
    """
    given = {key: value for key, value in given.items() if value is not None and value != AUTO}
    known = [one.name for one in fields(family.Options)]
    unknown = sorted(given.keys() - set(known))
    if unknown:
        options = ", ".join(known) or "none"
        raise CheckpointError(
            f"{name} has no option {', '.join(unknown)} (its options: {options}): leave it at "
            f"{AUTO}"
        )
    try:
        return family.Options(**given)
    except ValueError as error:
        raise CheckpointError(f"{name}: {error}") from None


def known_options(family: Family, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the values by name that are options of the family."""
    names = {one.name for one in fields(family.Options)}
    return {name: value for name, value in values.items() if name in names}


def option_specs() -> tuple[Spec, ...]:
    """Return the options of all families, each name once, as users can set them.

    num_cameras is left out: the number of camera topics decides it. If families share a name, the
    range is the widest one; the family itself checks the value again.

    Raises:
        TypeError: two families declare one name with different types.
    """
    merged: dict[str, Spec] = {}
    owners: dict[str, list[str]] = {}
    for family_name, family in usable_families().items():
        for spec in specs_of(family.Options):
            if spec.name != "num_cameras":
                merged[spec.name] = _merge(merged.get(spec.name), spec)
                owners.setdefault(spec.name, []).append(family_name)
    return tuple(_as_parameter(spec, owners[name]) for name, spec in merged.items())


def _as_parameter(spec: Spec, owners: list[str]) -> Spec:
    description = f"{', '.join(owners)}: {spec.description}"
    return replace(spec, when="configure", description=description)


def _merge(first: Spec | None, second: Spec) -> Spec:
    if first is None:
        return second
    if (first.kind, first.is_list) != (second.kind, second.is_list):
        raise TypeError(f"two families declare {first.name} with different types")
    bounded = None not in (first.low, second.low, first.high, second.high)
    return replace(
        first,
        low=min(first.low, second.low) if bounded else None,
        high=max(first.high, second.high) if bounded else None,
        choices=tuple(dict.fromkeys((*first.choices, *second.choices))),
    )
