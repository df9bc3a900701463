"""Success of VLA-Pruner next to the paper's figures and next to the other methods."""

from __future__ import annotations

from collections.abc import Sequence

from vla_pruner_lab.closed_loop.records import compare
from vla_pruner_lab.common.markdown import DASH, markdown_table

OURS = "vla_pruner"
RELATIVE_GOALS = {0.25: 0.98, 0.125: 0.889}
"""Success relative to the unpruned policy, by keep ratio (arXiv 2511.16449)."""
UNLIKELY = 0.05


def goals_part(records: Sequence[dict]) -> list[str]:
    """Return Markdown lines that compare our relative success with the paper's.

    Args:
        records: records of one policy and variant, over all its tasks.

    Returns:
        Markdown lines; empty if VLA-Pruner did not run.
    """
    rows = [
        [f"{ratio:g}", f"{100 * goal:.1f} %", *_reached(found, goal)]
        for ratio, goal in RELATIVE_GOALS.items()
        for found in records
        if (found["method"], found["keep_ratio"]) == (OURS, ratio)
    ]
    if not rows:
        return []
    head = ["keep", "relative success in the paper", "here (pairs)", ""]
    return ["### VLA-Pruner against the paper's figures", "", *markdown_table(head, rows), ""]


def _reached(record: dict, goal: float) -> list[str]:
    relative = record["relative_success"]
    if relative is None:
        return [DASH, DASH]
    verdict = "reached" if relative >= goal else "missed"
    return [f"{100 * relative:.1f} % ({record['pairs']})", verdict]


def comparisons_part(episodes: Sequence[dict], records: Sequence[dict]) -> list[str]:
    """Return Markdown lines that compare VLA-Pruner with each other method, start by start.

    Every ratio that both ran gives a row.
    """
    ours = {r["keep_ratio"]: r for r in records if r["method"] == OURS}
    others = [r for r in records if r["method"] != OURS and r["keep_ratio"] in ours]
    others.sort(key=lambda record: -record["keep_ratio"])
    rows = [_comparison_row(episodes, ours[other["keep_ratio"]], other) for other in others]
    if not rows:
        return []
    return [
        "### VLA-Pruner against each method, start by start",
        "",
        "Only ours, only theirs: starts from which one succeeded and the other did not. p-value: "
        "how probable so uneven a split is if both are equally good (exact sign test, two-sided). "
        f"Above {UNLIKELY} there is no difference to speak of; of many comparisons, some fall "
        "below it by luck.",
        "",
        *markdown_table(["keep", "method", "starts", "only ours", "only theirs", "p-value"], rows),
        "",
    ]


def presets_part(episodes: Sequence[dict], records: Sequence[dict], main: str) -> list[str]:
    """Return Markdown lines that compare VLA-Pruner's main settings with its presets.

    Args:
        episodes: of the policy, and of others.
        records: records of one policy over all its tasks, of every variant.
        main: the variant that the tables show.
    """
    ours = [r for r in records if r["method"] == OURS]
    shown = {r["keep_ratio"]: r for r in ours if r["variant"] == main}
    presets = [
        r
        for r in ours
        if r["variant"].startswith("preset ")
        and r["variant"] != main
        and _is_preset(r["variant"])
        and r["keep_ratio"] in shown
    ]
    if not presets:
        return []
    presets.sort(key=lambda r: (-r["keep_ratio"], r["variant"]))
    rows = [
        _comparison_row(episodes, shown[r["keep_ratio"]], r, label=r["variant"]) for r in presets
    ]
    head = ["keep", "preset", "starts", f"only {main or 'default'}", "only this", "p-value"]
    return [
        f"### VLA-Pruner: {main or 'default'} against the presets, start by start",
        "",
        "`history_fill semantic` prunes from the first step; `preset paper` alone leaves the first "
        "steps of every episode unpruned.",
        "",
        *markdown_table(head, rows),
        "",
    ]


def _is_preset(variant: str) -> bool:
    """Return whether a variant is a preset as it is, or one that prunes from the first step."""
    return set(variant.split(", ")[1:]) <= {"history_fill semantic"}


def _comparison_row(
    episodes: Sequence[dict], ours: dict, other: dict, label: str | None = None
) -> list[str]:
    found = compare(episodes, ours, other)
    p_value = f"{found.p_value:.3f}" if found.p_value >= 0.001 else "< 0.001"
    return [
        f"{other['keep_ratio']:g}",
        label or other["method"],
        str(found.pairs),
        str(found.won),
        str(found.lost),
        f"**{p_value}**" if found.p_value < UNLIKELY else p_value,
    ]
