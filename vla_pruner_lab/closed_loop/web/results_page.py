"""Interactive page of the results: one HTML file that needs no network.

The page shows each experiment's records and keeps the outcome of every start, so that a reader may
compare any two.
"""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vla_pruner_lab.closed_loop.kept_patches_page import sheet_name
from vla_pruner_lab.closed_loop.plot import success_plot
from vla_pruner_lab.closed_loop.records import ALL_TASKS, EXPERIMENT_FIELDS
from vla_pruner_lab.common.charts import dark_colour
from vla_pruner_ros import report
from vla_pruner_ros.pruning.config import METHOD_NAMES
from vla_pruner_ros.pruning.method import find_method

PAGE, SCHEMA = "results_explorer.html", "vla_pruner_lab.results_page/1"
FILM_SCHEMA = "vla_pruner_lab.episode_animation/1"
RECORD_FIELDS = ("episodes", "balanced", "latency_ms", "flops", "kept", "kept_by_camera")
CHECK_COLOUR = "#777f88"
"""Colour of agents that are no method: the expert, and one that holds still."""


def write_results_page(
    docs: Path,
    records: Sequence[dict],
    runs: Sequence[dict],
    episodes: Sequence[dict],
    main: Mapping[str, str],
    unpruned: Sequence[str],
) -> None:
    """Write results_explorer.html.

    Args:
        docs: folder to write to; films and sheets of kept tokens in it are embedded.
        records: of every experiment and task.
        runs: calls that made the episodes.
        episodes: all of them.
        main: by policy, the settings whose curves are drawn.
        unpruned: methods that have no budget.
    """
    dates = sorted(episode["date"][:10] for episode in episodes)
    content = page_content(docs, records, runs, episodes, main, unpruned)
    link = Markup("<a href='benchmarks/latency_cpu.md'>latency in turns</a>")
    html = _environment().get_template("results.html").render(content=content, latency_page=link)
    sections = [report.section("Methods", Markup(html)), _runs_section(runs)]
    subtitle = f"Simulated episodes of {dates[0]} to {dates[-1]}, equal starts for all methods"
    report.write_page(docs / PAGE, report.page("Success in closed loop", sections, subtitle))


def page_content(
    docs: Path,
    records: Sequence[dict],
    runs: Sequence[dict],
    episodes: Sequence[dict],
    main: Mapping[str, str],
    unpruned: Sequence[str],
) -> dict:
    """Return what the page embeds: experiments with records and outcomes, charts and films."""
    tasks = sorted({record["task"] for record in records} - {ALL_TASKS})
    return {
        "schema": SCHEMA,
        "all_tasks": ALL_TASKS,
        "tasks": [ALL_TASKS, *tasks],
        "policies": {
            policy: {"main": main[policy], "trained": _is_trained(policy, runs)} for policy in main
        },
        "experiments": _experiments(records, _outcomes(episodes), main, unpruned),
        "charts": {
            policy: {
                task: _chart(records, policy, task, main, unpruned) for task in (ALL_TASKS, *tasks)
            }
            for policy in main
        },
        "films": [*_films(docs), *_sheets(docs, main)],
    }


def _is_trained(policy: str, runs: Sequence[dict]) -> bool:
    return all(run["trained"] is not False for run in runs if run["policy"] == policy)


def _outcomes(episodes: Sequence[dict]) -> dict[tuple, dict[str, str]]:
    """Return by experiment and task a letter a start: 1 success, 0 failure, - not run."""
    seeds: dict[tuple[str, str], set[int]] = defaultdict(set)
    known: dict[tuple, dict[tuple[str, int], bool]] = defaultdict(dict)
    for episode in episodes:
        seeds[episode["policy"], episode["task"]].add(episode["seed"])
        experiment = tuple(episode[name] for name in EXPERIMENT_FIELDS)
        known[experiment][episode["task"], episode["seed"]] = episode["success"]
    letters = {True: "1", False: "0", None: "-"}
    return {
        experiment: {
            task: "".join(letters[own.get((task, s))] for s in sorted(seeds[experiment[0], task]))
            for task in dict.fromkeys(task for task, _ in own)
        }
        for experiment, own in known.items()
    }


def _experiments(
    records: Sequence[dict],
    outcomes: Mapping[tuple, dict[str, str]],
    main: Mapping[str, str],
    unpruned: Sequence[str],
) -> list[dict]:
    own: dict[tuple, dict[str, dict]] = defaultdict(dict)
    for record in records:
        own[tuple(record[name] for name in EXPERIMENT_FIELDS)][record["task"]] = _shown(record)
    order = [*unpruned, *(name for name in METHOD_NAMES if name not in unpruned)]
    found = []
    for key, by_task in own.items():
        policy, method, ratio, variant = key
        is_main = method in unpruned or variant == main[policy]
        found.append({
            "policy": policy, "method": method, "keep_ratio": ratio,
            "variant": "" if is_main else variant or "default", "main": is_main,
            "unpruned": method in unpruned,
            "colour": _colour(method), "dark_colour": dark_colour(_colour(method)),
            "records": by_task, "outcomes": outcomes[key],
        })  # fmt: skip
    found.sort(key=lambda one: (order.index(one["method"]), not one["main"], one["variant"]))
    return found


def _shown(record: dict) -> dict:
    rounded = {"rate": record["success_rate"], "low": record["ci_low"], "high": record["ci_high"]}
    return {
        **{name: round(value, 4) for name, value in rounded.items()},
        **{name: record.get(name) for name in RECORD_FIELDS},
    }


def _colour(method: str) -> str:
    return find_method(method).colour if method in METHOD_NAMES else CHECK_COLOUR


def _chart(
    records: Sequence[dict],
    policy: str,
    task: str,
    main: Mapping[str, str],
    unpruned: Sequence[str],
) -> str:
    own = [r for r in records if (r["policy"], r["task"]) == (policy, task)]
    plain = [r for r in own if r["method"] in unpruned or r["variant"] == main[policy]]
    return success_plot(plain) or ""


def _films(docs: Path) -> list[dict]:
    """Return the films of episodes that lie in the folder, or in films/ below it."""
    found = []
    for path in sorted([*docs.glob("*.json"), *docs.glob("films/*.json")]):
        film = json.loads(path.read_text("utf-8"))
        image = path.with_suffix(".webp")
        if film.get("schema") != FILM_SCHEMA or not image.exists():
            continue
        sides = " and ".join(
            f"{side['tokens_kept']} of {side['tokens_total']} visual tokens "
            f"({side['actions']} actions{'' if side['success'] else ', failed'})"
            for side in film["sides"]
        )
        caption = f"“{film['instruction']}” with {sides}; {film['rule']}; {film['date']}"
        found.append({
            "policy": film["checkpoint"], "task": film["task"], "caption": caption,
            "image": _embedded(image),
        })  # fmt: skip
    return found


def _sheets(docs: Path, policies: Mapping[str, str]) -> list[dict]:
    """Return the sheets of kept_patches."""
    caption = "Where each method's kept tokens lie: three episodes, halfway, first camera"
    return [
        {
            "policy": name,
            "task": "",
            "caption": caption,
            "image": _embedded(docs / sheet_name(name)),
        }
        for name in policies
        if (docs / sheet_name(name)).exists()
    ]


def _embedded(image: Path) -> str:
    return f"data:image/webp;base64,{base64.b64encode(image.read_bytes()).decode()}"


def _runs_section(runs: Sequence[dict]) -> report.Section:
    facts = {(run["policy"], run["device"], json.dumps(run["versions"])): run for run in runs}
    rows = [
        [policy, device, ", ".join(f"{k} {v}" for k, v in run["versions"].items()),
         max(other["date"][:10] for other in runs if other["policy"] == policy)]
        for (policy, device, _), run in facts.items()
    ]  # fmt: skip
    commands = dict.fromkeys(f"{run['command']}  # {run['date'][:10]}" for run in runs)
    return report.section(
        "Runs",
        report.table(["policy", "machine", "versions", "last run"], rows, wrap=True),
        report.code("\n".join(commands)),
        lead="The commands that made the episodes. Tables with all settings: results.md.",
    )


def _environment() -> Environment:
    loader = PackageLoader("vla_pruner_lab.closed_loop.web")
    return Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
