"""The number of visual tokens to keep: fixed, or by a deadline or the motion.

Host-side arithmetic only. The adaptive budgets move between a few fixed shares, so that graphs
captured for one budget are met again.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import fmean, median
from typing import Protocol

import numpy as np

from vla_pruner_ros.pruning.config import PruningConfig

BUDGET_RATIOS = (1.0, 0.75, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.0625)


class Budget(Protocol):
    """ratio: share of the visual tokens to keep in the next step, 0 < ratio <= 1."""

    ratio: float

    def record(self, ratio: float, latency_s: float | None, actions: np.ndarray | None) -> None:
        """Learn from a step that ran with `ratio`, took latency_s and gave actions [steps, 7]."""
        ...


def tokens_to_keep(ratio: float, num_visual: int) -> int:
    """round(ratio * M), at least 1 and at most M; halves to even, as the released code rounds."""
    return min(num_visual, max(1, round(ratio * num_visual)))


def base_ratio(config: PruningConfig, num_visual: int, num_cameras: int) -> float:
    """The configured share: token_budget per camera where set, else keep_ratio."""
    if config.token_budget:
        return min(1.0, config.token_budget * num_cameras / num_visual)
    return config.keep_ratio


def make_budget(config: PruningConfig, num_visual: int, num_cameras: int = 1) -> Budget:
    """The budget that config.budget_mode names."""
    ratio = base_ratio(config, num_visual, num_cameras)
    if config.budget_mode == "deadline":
        return DeadlineBudget(config.target_latency, ratio)
    if config.budget_mode == "motion":
        fine = max(ratio, config.fine_keep_ratio)
        return MotionBudget(ratio, fine, config.fine_motion, config.coarse_motion)
    if config.budget_mode == "motion_gate":
        return MotionGate(ratio)
    return FixedBudget(ratio)


class FixedBudget:
    """The same share at every step."""

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio

    def record(self, ratio: float, latency_s: float | None, actions: np.ndarray | None) -> None:
        """Ignore the step: a fixed share learns nothing. actions: float [steps, 7], or None."""


class DeadlineBudget:
    """The largest share of BUDGET_RATIOS whose steps are expected to meet a latency target.

    Every share that has run is remembered with its latency; when the current share's latency
    moves, all of them are scaled with it, for a busier machine slows every share down. Shares that
    have not run are reached from the nearest that has, along the slope of all of them; as long as
    they show little of it, half of an unpruned step is taken not to depend on the tokens (cf. arXiv
    2511.16449, 236 ms at all and 126 ms at 12.5 % of the tokens).

    If the median of a share's last three steps exceeds the target, a smaller share is taken. A
    larger one is taken only if HEADROOM of the target is expected to suffice, once settled if
    SETTLED_HEADROOM is. This gap, and the memory of shares that failed, keep noise from swinging
    the share between neighbours. A measurement is dropped after MEMORY steps, so that a larger
    share is tried again.

    target_s: seconds, above 0. start_ratio: where to begin, rounded down to BUDGET_RATIOS.
    """

    HEADROOM = 0.9
    SETTLED_HEADROOM = 0.85
    SETTLE_STEPS = 10  # after a move; later it counts as settled
    SAMPLES = 3
    MEMORY = 500
    PRIOR_SPREAD = 0.0005

    def __init__(self, target_s: float, start_ratio: float = 1.0) -> None:
        self.target_s = target_s
        fitting = [r for r in BUDGET_RATIOS if r <= start_ratio]
        self.ratio = fitting[0] if fitting else BUDGET_RATIOS[-1]
        self._samples: deque[float] = deque(maxlen=self.SAMPLES)
        self._known: dict[float, float] = {}  # share -> expected seconds under the current load
        self._measured_at: dict[float, int] = {}
        self._elsewhere: dict[float, deque[float]] = {}  # steps not run at self.ratio
        self._step = 0
        self._moved_at = 0

    def retarget(self, target_s: float) -> None:
        """Follow another target; what is known of the machine stays."""
        self.target_s, self._moved_at = target_s, self._step

    def record(self, ratio: float, latency_s: float | None, actions: np.ndarray | None) -> None:
        """Learn the latency of a step.

        Args:
            ratio: share of tokens that the step kept.
            latency_s: seconds; None, not finite or not positive is ignored.
            actions: float [steps, 7], not used.
        """
        if latency_s is None or not math.isfinite(latency_s) or latency_s <= 0.0:
            return
        self._step += 1
        if ratio != self.ratio:
            self._learn_elsewhere(ratio, latency_s)
            return
        self._samples.append(latency_s)
        if len(self._samples) == self.SAMPLES:
            self._learn_here(median(self._samples))
            self._move()

    def expected(self, ratio: float) -> float:
        """Seconds a step with this share should take now; needs one known share at least."""
        if ratio in self._known:
            return self._known[ratio]
        nearest = min(self._known, key=lambda known: abs(known - ratio))
        return self._known[nearest] + self._slope() * (ratio - nearest)

    def _slope(self) -> float:
        """Seconds per share: least squares over all that is known, drawn towards the assumption.

        Shares that lie close together show little of the slope next to the noise of their steps;
        PRIOR_SPREAD is the squared spread at which they count as much as the assumption.
        """
        shares, seconds = list(self._known), list(self._known.values())
        share, second = fmean(shares), fmean(seconds)
        assumed = second / (1.0 + share)
        together = sum((r - share) * (t - second) for r, t in self._known.items())
        spread = sum((r - share) ** 2 for r in shares)
        return max(0.0, (together + self.PRIOR_SPREAD * assumed) / (spread + self.PRIOR_SPREAD))

    def _learn_here(self, latency_s: float) -> None:
        previous = self._known.get(self.ratio, latency_s)
        self._known = {r: t * latency_s / previous for r, t in self._known.items()}
        self._note(self.ratio, latency_s)
        for ratio, step in list(self._measured_at.items()):
            if self._step - step > self.MEMORY:
                del self._known[ratio], self._measured_at[ratio]

    def _learn_elsewhere(self, ratio: float, latency_s: float) -> None:
        samples = self._elsewhere.setdefault(ratio, deque(maxlen=self.SAMPLES))
        samples.append(latency_s)
        self._note(ratio, median(samples))

    def _note(self, ratio: float, latency_s: float) -> None:
        self._known[ratio] = latency_s
        self._measured_at[ratio] = self._step

    def _move(self) -> None:
        is_late = self._known[self.ratio] > self.target_s
        is_settled = self._step - self._moved_at > self.SETTLE_STEPS
        headroom = self.SETTLED_HEADROOM if is_settled and not is_late else self.HEADROOM
        limit = headroom * self.target_s
        fitting = [r for r in BUDGET_RATIOS if r != self.ratio and self.expected(r) <= limit]
        best = fitting[0] if fitting else BUDGET_RATIOS[-1]
        if best > self.ratio or (is_late and best < self.ratio):
            self.ratio, self._moved_at = best, self._step
            self._samples.clear()


class MotionBudget:
    """More tokens while the end effector moves finely, fewer while it moves coarsely.

    After ADP (arXiv 2509.22093: the displacement over a window of recent actions switches between
    a sparse and a dense retention ratio) and SpecPrune-VLA (arXiv 2509.05614: end-effector speed
    classes actions as coarse or fine, fine ones being sensitive to pruning). Neither paper's
    thresholds carry over between robots and control rates; ours are metres per action.

    Motion of an action: |translation| + LEVER |rotation|, the path of a point LEVER metres from
    the tool centre; the mean over the last WINDOW actions is compared. Below fine_motion it is
    fine, above coarse_motion coarse, in between the last verdict stands; a gripper command that
    crosses one half counts as fine by itself (a grasp or a release needs precision).
    Starts fine, for nothing is known.
    """

    LEVER = 0.1  # m
    WINDOW = 4  # actions

    def __init__(
        self, coarse_ratio: float, fine_ratio: float, fine_motion: float, coarse_motion: float
    ) -> None:
        self.coarse_ratio, self.fine_ratio = coarse_ratio, fine_ratio
        self.fine_motion, self.coarse_motion = fine_motion, coarse_motion
        self.ratio = fine_ratio
        self._motions: deque[float] = deque(maxlen=self.WINDOW)
        self._is_gripper_open: bool | None = None

    def record(self, ratio: float, latency_s: float | None, actions: np.ndarray | None) -> None:
        """actions: [steps, 7] dx dy dz (m) droll dpitch dyaw (rad) gripper; rows with a value that
        is not finite are ignored."""
        actions = _finite_rows(actions)
        if len(actions) == 0:
            return
        self._motions.extend(motion_of(actions, self.LEVER))
        self._judge(has_grasped=self._gripper_moved(actions[:, 6]))

    def _gripper_moved(self, gripper: np.ndarray) -> bool:
        states = [bool(value > 0.5) for value in gripper]
        before = states[0] if self._is_gripper_open is None else self._is_gripper_open
        self._is_gripper_open = states[-1]
        return any(state != before for state in states)

    def _judge(self, has_grasped: bool) -> None:
        motion = sum(self._motions) / len(self._motions)
        if has_grasped or motion < self.fine_motion:
            self.ratio = self.fine_ratio
        elif motion > self.coarse_motion:
            self.ratio = self.coarse_ratio


class MotionGate:
    """ADP's gate (arXiv 2509.22093, as its authors' code runs it): no pruning in fine motion.

    Actions are grouped into windows, one a chunk. The displacement of a window is the distance from
    its first to its last position. The next window is pruned unless its predecessor moved less than
    each of the LOOKBACK windows before. After MOST_PRUNED pruned windows one is unpruned, and so
    are the first ones, until LOOKBACK + 1 windows have passed. (The code also has other rules; this
    is its published configuration, which keeps 0.75 of the tokens in a pruned window.)

    What differs: ADP measures the end effector, the displacement here is that of the commands. A
    policy with shorter chunks than ADP's has a window of WINDOW actions, over several inferences.

    coarse_ratio: share kept in a pruned window.
    """

    WINDOW = 8  # actions; ADP's chunk
    LOOKBACK = 2  # windows
    MOST_PRUNED = 3  # windows in a row

    def __init__(self, coarse_ratio: float) -> None:
        self.coarse_ratio = coarse_ratio
        self.ratio = 1.0
        self._path = np.zeros(3)
        self._actions = 0
        self._earlier: deque[float] = deque(maxlen=self.LOOKBACK)
        self._pruned_in_a_row = 0

    def record(self, ratio: float, latency_s: float | None, actions: np.ndarray | None) -> None:
        """Learn the motion of a step; actions: float [steps, 7], as in MotionBudget.record."""
        rows = _finite_rows(actions)
        self._path = self._path + rows[:, :3].sum(axis=0)
        self._actions += len(rows)
        if self._actions >= self.WINDOW:
            self._close_window(float(np.linalg.norm(self._path)))
            self._path, self._actions = np.zeros(3), 0

    def _close_window(self, displacement: float) -> None:
        is_known = len(self._earlier) == self.LOOKBACK
        is_coarse = is_known and displacement >= min(self._earlier)
        prunes = is_coarse and self._pruned_in_a_row < self.MOST_PRUNED
        self._pruned_in_a_row = self._pruned_in_a_row + 1 if prunes else 0
        self.ratio = self.coarse_ratio if prunes else 1.0
        self._earlier.append(displacement)


def motion_of(actions: np.ndarray, lever: float) -> np.ndarray:
    """Return the path (m) of a point `lever` metres from the tool centre, per action: [steps]."""
    translation = np.linalg.norm(actions[:, :3], axis=1)
    return translation + lever * np.linalg.norm(actions[:, 3:6], axis=1)


def _finite_rows(actions: np.ndarray | None) -> np.ndarray:
    if actions is None:
        return np.zeros((0, 7))
    actions = np.asarray(actions, dtype=np.float64)
    return actions[np.isfinite(actions).all(axis=1)]
