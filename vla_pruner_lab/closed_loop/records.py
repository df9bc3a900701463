"""Episodes on disk, one JSON object a line, and the rates with intervals that they amount to."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from scipy.stats import binomtest

ALL_TASKS = "all"
EXPERIMENT_FIELDS = ("policy", "method", "keep_ratio", "variant")
EPISODE_FIELDS = (*EXPERIMENT_FIELDS, "task", "seed")
"""Fields that identify an episode."""


def wilson_interval(successes: int, episodes: int) -> tuple[float, float]:
    """Return the 95 % score interval of a success rate (Wilson 1927), within 0..1.

    Raises:
        ValueError: no episodes, or more successes than episodes.
    """
    if not 0 <= successes <= episodes or episodes == 0:
        raise ValueError(f"{successes} successes of {episodes} episodes have no interval")
    interval = binomtest(successes, episodes).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


class EpisodeFile:
    """Appends episodes; a last line cut short by a crash is dropped on opening."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.episodes = read_episodes(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_text("".join(json.dumps(episode) + "\n" for episode in self.episodes))
        os.replace(part, path)

    def add(self, episode: dict) -> None:
        """Append an episode to the file."""
        self.episodes.append(episode)
        with self.path.open("a") as file:
            file.write(json.dumps(episode) + "\n")


def episode_key(line: dict) -> tuple:
    """Return the values of EPISODE_FIELDS of a line of results."""
    return tuple(line[name] for name in EPISODE_FIELDS)


def read_episodes(path: Path) -> list[dict]:
    """Read a file of episodes; a last line cut short is dropped.

    Raises:
        ValueError: a damaged line that is not the last.
    """
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    episodes = []
    for number, line in enumerate(lines, start=1):
        try:
            episodes.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise ValueError(f"{path}, line {number} is not valid JSON; remove it") from None
    return episodes


def aggregate(episodes: Iterable[dict]) -> list[dict]:
    """Return one record per experiment and task, and one per experiment over all its tasks ("all").

    Rates pool episodes. If tasks have different counts, as while a run is under way, `balanced` is
    False. Latency is the median over episodes, the rest means; None if nothing was measured.
    """
    groups: dict[tuple, list[dict]] = defaultdict(list)
    for episode in episodes:
        experiment = tuple(episode[name] for name in EXPERIMENT_FIELDS)
        groups[(*experiment, episode["task"])].append(episode)
        groups[(*experiment, ALL_TASKS)].append(episode)
    return [_record(key, members) for key, members in groups.items()]


def relative_success(episodes: Sequence[dict], record: dict) -> tuple[float, int] | None:
    """Compute success relative to the same policy's unpruned one, over the starts that both ran.

    Returns:
        The ratio and the number of pairs; None without pairs or without a success of full.
    """
    unpruned = {**record, "method": "full", "keep_ratio": 1.0, "variant": ""}
    own, full = outcomes(episodes, record), outcomes(episodes, unpruned)
    pairs = own.keys() & full.keys()
    successes = sum(full[pair] for pair in pairs)
    return (sum(own[pair] for pair in pairs) / successes, len(pairs)) if successes else None


def outcomes(episodes: Iterable[dict], record: dict) -> dict[tuple[str, int], bool]:
    """Return success by initial state (task, seed) of the episodes of a record."""
    return {
        (episode["task"], episode["seed"]): episode["success"]
        for episode in episodes
        if all(episode[name] == record[name] for name in EXPERIMENT_FIELDS)
        and record["task"] in (ALL_TASKS, episode["task"])
    }


@dataclass(frozen=True)
class PairedComparison:
    """Two experiments over the initial states that both ran.

    won: starts that only the first did; lost: that only the second did. p_value: how probable a
    split at least as uneven would be if both were equally good (exact sign test, two-sided).
    """

    pairs: int
    won: int
    lost: int

    @property
    def p_value(self) -> float:
        """Two-sided p-value of the exact sign test; 1 if no start decides."""
        decided = self.won + self.lost
        return float(binomtest(self.won, decided).pvalue) if decided else 1.0


def compare(episodes: Sequence[dict], first: dict, second: dict) -> PairedComparison:
    """Compare two records, start by start."""
    one, other = outcomes(episodes, first), outcomes(episodes, second)
    pairs = one.keys() & other.keys()
    won = sum(one[pair] and not other[pair] for pair in pairs)
    lost = sum(other[pair] and not one[pair] for pair in pairs)
    return PairedComparison(len(pairs), won, lost)


def _record(key: tuple, members: list[dict]) -> dict:
    successes, count = sum(episode["success"] for episode in members), len(members)
    low, high = wilson_interval(successes, count)
    by_task: dict[str, int] = defaultdict(int)
    for episode in members:
        by_task[episode["task"]] += 1
    return {
        **dict(zip((*EXPERIMENT_FIELDS, "task"), key, strict=True)),
        "episodes": count,
        "success_rate": successes / count,
        "ci_low": low,
        "ci_high": high,
        "balanced": len(set(by_task.values())) == 1,
        "latency_ms": _reduce(median, members, "latency_ms"),
        "flops": _reduce(mean, members, "flops"),
        "kept": _reduce(mean, members, "kept"),
        "kept_by_camera": _by_camera(members),
        "refused": sum(episode["refused"] for episode in members),
        "semantic_action_overlap": _reduce(mean, members, "semantic_action_overlap"),
        "action_overlap": _reduce(mean, members, "action_overlap"),
    }


def _reduce(reduce, members: list[dict], name: str) -> float | None:
    values = [episode[name] for episode in members if episode[name] is not None]
    return float(reduce(values)) if values else None


def _by_camera(members: list[dict]) -> list[float] | None:
    """Return the mean tokens kept of each camera; None if no episode holds them."""
    values = [found for episode in members if (found := episode.get("kept_by_camera"))]
    return [float(mean(camera)) for camera in zip(*values, strict=True)] if values else None
