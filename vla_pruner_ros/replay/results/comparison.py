"""Distance of one run's actions from another's, per inference and overall."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla_pruner_ros.replay.inputs.recorded import Kept
from vla_pruner_ros.replay.replayer import Run, Step
from vla_pruner_ros.replay.results.action_space import (
    END_EFFECTOR,
    ActionSpace,
    action_space,
)

STILL = 1e-9
"""Motion (m or rad) below which it has no direction, so no cosine."""

_NAN = float("nan")


@dataclass(frozen=True)
class Difference:
    """One inference against its reference, over the steps both have.

    absolute: [width] mean absolute difference of each number, as the policy gives it.
    translation: mean length of the difference of the displacements (m); rotation likewise (rad).
    joints: mean absolute difference of the joint commands (rad or m, a second for velocities), or
    of all numbers if nothing explains them. What an action does not have is NaN.
    cosine: of the two motions, all steps of the chunk as one vector; NaN if one is still.
    gripper: share of steps and grippers where one is open and the other closed.
    largest: greatest absolute difference of any number.
    """

    absolute: np.ndarray
    translation: float
    rotation: float
    joints: float
    cosine: float
    gripper: float
    largest: float


def compare_actions(
    actions: np.ndarray, reference: np.ndarray, space: ActionSpace | None = None
) -> Difference:
    """Compare two chunks [steps, width]; the longer one is cut.

    Args:
        space: of the actions; None: by their width alone.

    Raises:
        ValueError: a chunk without steps, or of different widths.
    """
    steps = min(len(actions), len(reference))
    space = space or action_space(None, actions.shape[1])
    if steps == 0 or not actions.shape[1] == reference.shape[1] == space.width:
        raise ValueError(
            f"actions {actions.shape} and {reference.shape} cannot be compared; "
            f"both must be [steps, {space.width}] with at least one step"
        )
    ours, theirs = actions[:steps].astype(np.float64), reference[:steps].astype(np.float64)
    apart = ours - theirs
    moved = apart * np.array(space.to_si)
    opened = space.are_open(ours) != space.are_open(theirs)
    return Difference(
        absolute=np.abs(apart).mean(axis=0),
        translation=_mean_length(moved[:, space.translation]),
        rotation=_mean_length(moved[:, space.rotation]),
        joints=float(np.abs(moved[:, space.joints]).mean()) if space.joints else _NAN,
        cosine=_cosine(_motion(ours, space), _motion(theirs, space)),
        gripper=float(opened.mean()) if space.grippers else _NAN,
        largest=float(np.abs(apart).max()),
    )


def _mean_length(vectors: np.ndarray) -> float:
    return float(np.linalg.norm(vectors, axis=1).mean()) if vectors.shape[1] else _NAN


def _motion(actions: np.ndarray, space: ActionSpace) -> np.ndarray:
    """Return the motion of a chunk as one vector: of targets, the way from one to the next."""
    columns = list(space.translation or space.joints)
    values = (actions * np.array(space.to_si))[:, columns]
    going = np.array([column in space.targets for column in columns], bool)
    return np.concatenate([values[:, ~going].ravel(), np.diff(values[:, going], axis=0).ravel()])


def _cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    lengths = np.linalg.norm(ours), np.linalg.norm(theirs)
    if min(lengths) < STILL:
        return _NAN
    return float(np.clip(ours @ theirs / (lengths[0] * lengths[1]), -1.0, 1.0))


def token_overlap(ours: Kept | None, theirs: Kept | None) -> float:
    """Return the share of the smaller kept set that is in the other, over all cameras.

    NaN if a set is unknown, or holds every token: then the overlap means nothing.
    """
    if ours is None or theirs is None or len(ours.indices) != len(theirs.indices):
        return _NAN
    smaller = min(ours.count, theirs.count)
    if smaller == 0 or ours.grid != theirs.grid or ours.is_whole or theirs.is_whole:
        return _NAN
    pairs = zip(ours.indices, theirs.indices, strict=True)
    return sum(np.intersect1d(a, b, assume_unique=True).size for a, b in pairs) / smaller


@dataclass(frozen=True)
class Reference:
    """Reference of a comparison: actions and kept tokens by the index of the input."""

    name: str
    actions: Mapping[int, np.ndarray]
    kept: Mapping[int, Kept]

    @property
    def prunes(self) -> bool:
        """At least once some tokens were dropped."""
        return not all(kept.is_whole for kept in self.kept.values())

    @classmethod
    def of_run(cls, run: Run) -> Reference:
        """Make a reference of a run's actions."""
        return cls(
            run.setting.name,
            {step.index: step.actions for step in run.done},
            {step.index: step.kept for step in run.done if step.kept is not None},
        )


@dataclass(frozen=True)
class Compared:
    """A step next to its reference; overlap: of the kept tokens, NaN if there are none."""

    step: Step
    difference: Difference
    overlap: float


@dataclass(frozen=True)
class Summary:
    """Means over inferences; NaN if nothing could be compared.

    absolute: [width], as in Difference. translation_p95, translation_max (m).
    latency_*: seconds of policy.act(). tokens: mean share kept.
    """

    count: int
    absolute: np.ndarray
    translation: float
    translation_p95: float
    translation_max: float
    rotation: float
    joints: float
    joints_p95: float
    joints_max: float
    cosine: float
    gripper: float
    overlap: float
    latency_median: float
    latency_p95: float
    tokens: float
    history_incomplete: float


def compare_run(
    run: Run,
    reference: Reference,
    overlap_with: Reference | None = None,
    space: ActionSpace | None = None,
) -> list[Compared]:
    """Compare every step that both have with as many numbers; kept tokens with another reference
    if one is given."""
    kept = (overlap_with or reference).kept
    return [
        Compared(
            step,
            compare_actions(step.actions, reference.actions[step.index], space),
            token_overlap(step.kept, kept.get(step.index)),
        )
        for step in run.done
        if step.index in reference.actions
        and step.actions.shape[1] == reference.actions[step.index].shape[1]
    ]


def summarise(compared: Sequence[Compared], space: ActionSpace = END_EFFECTOR) -> Summary:
    """Average over inferences."""
    differences = [one.difference for one in compared]
    steps = [one.step for one in compared]
    shift = np.array([d.translation for d in differences])
    joints = np.array([d.joints for d in differences])
    seconds = np.array([step.seconds for step in steps])
    return Summary(
        count=len(compared),
        absolute=np.mean([d.absolute for d in differences], axis=0)
        if differences
        else np.full(space.width, _NAN),
        translation=_mean(shift),
        translation_p95=_of(shift, lambda v: np.percentile(v, 95)),
        translation_max=_of(shift, np.max),
        rotation=_mean([d.rotation for d in differences]),
        joints=_mean(joints),
        joints_p95=_of(joints, lambda v: np.percentile(v, 95)),
        joints_max=_of(joints, np.max),
        cosine=_mean([d.cosine for d in differences]),
        gripper=_mean([d.gripper for d in differences]),
        overlap=_mean([one.overlap for one in compared]),
        latency_median=_of(seconds, np.median),
        latency_p95=_of(seconds, lambda v: np.percentile(v, 95)),
        tokens=_mean([s.tokens[0] / s.tokens[1] for s in steps if s.tokens[1]]),
        history_incomplete=_mean([float(s.history_incomplete) for s in steps]),
    )


def by_instruction(
    compared: Sequence[Compared], space: ActionSpace = END_EFFECTOR
) -> dict[str, Summary]:
    """Summarise each instruction by itself, in the order they were given."""
    groups: dict[str, list[Compared]] = {}
    for one in compared:
        groups.setdefault(one.step.instruction, []).append(one)
    return {instruction: summarise(group, space) for instruction, group in groups.items()}


def _mean(values: Sequence[float] | np.ndarray) -> float:
    return _of(np.asarray(values, dtype=np.float64), np.mean)


def _of(values: np.ndarray, reduce: Callable[[np.ndarray], np.floating]) -> float:
    finite = values[np.isfinite(values)]
    return float(reduce(finite)) if finite.size else _NAN
