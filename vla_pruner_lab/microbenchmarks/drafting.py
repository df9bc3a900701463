"""Benchmark of drafting: the saving if guesses hold, and the cost if none does.

    python -m vla_pruner_lab.microbenchmarks.drafting --markdown FILE

OpenVLA with random weights. Every setting takes one step in turn, so that a busy machine affects
all alike. All see one image. Still scene: the last action is guessed; it holds as long as the
method chooses the same tokens. Rejected: every guess is a text token, which no action holds. The
adaptive pause (drafting.DraftGate) has to limit that cost.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from statistics import median

import torch
from tqdm import tqdm

from vla_pruner_lab.common import machine
from vla_pruner_lab.common.markdown import markdown_table, metadata_lines, publish
from vla_pruner_lab.common.program import COUNT, SHARE, lab_program
from vla_pruner_lab.latency.model_shapes import SHAPES, SIZES
from vla_pruner_lab.latency.models import Model, build, observation
from vla_pruner_ros.models.actions import ACTION_DIM
from vla_pruner_ros.models.execution.config import ExecutionConfig
from vla_pruner_ros.models.execution.drafting import TREES, Drafter
from vla_pruner_ros.models.pruned_policy import PrunedPolicy
from vla_pruner_ros.pruning.config import PruningConfig

PROGRAM = lab_program("microbenchmarks.drafting", __doc__, "--size tiny --steps 20")
WORD = 5
"""A text token, not an action."""
WARM_UP = 3
"""Warm-up steps of the undrafted policy; policies that draft start without any."""
ACCEPTED_STEPS = 15
"""Pause of the settings in which guesses hold: every step drafts."""


class RejectedDrafter(Drafter):
    """Never right."""

    def propose(self) -> list[int] | None:
        guesses = super().propose()
        return None if guesses is None else [WORD] * len(guesses)


@dataclass
class DraftSetting:
    """One policy over the sequence. seconds, drafted, accepted: by step."""

    draft: str
    guesses: str
    policy: PrunedPolicy
    seconds: list[float] = field(default_factory=list)
    drafted: list[int] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)

    def step(self, scene) -> None:
        """Run one inference and store its time (s) and drafted tokens."""
        start = time.perf_counter()
        report = self.policy.act(scene).pruning
        self.seconds.append(time.perf_counter() - start)
        self.drafted.append(report.drafted_tokens)
        self.accepted.append(report.accepted_tokens)


def make_settings(model: Model, keep_ratio: float) -> list[DraftSetting]:
    """Return the setting without drafts, then each draft in a still scene and with rejected
    guesses.
    """
    settings = [DraftSetting("off", "none", _policy(model, keep_ratio, "off"))]
    for draft in TREES:
        settings.append(DraftSetting(draft, "still scene", _policy(model, keep_ratio, draft)))
        rejected = _policy(model, keep_ratio, draft)
        rejected.drafter = RejectedDrafter(draft, ACTION_DIM, rejected.tokens.ids)
        settings.append(DraftSetting(draft, "rejected", rejected))
    return settings


def _policy(model: Model, keep_ratio: float, draft: str) -> PrunedPolicy:
    pruning = PruningConfig(keep_ratio=keep_ratio, history_fill="semantic", temporal_window=1)
    policy = model.make_policy(pruning)
    policy.set_execution(ExecutionConfig(draft=draft))
    return policy


def measure(settings: list[DraftSetting], scene, steps: int) -> None:
    """Run the whole sequence, all settings step by step in turn."""
    for _ in range(WARM_UP):
        settings[0].policy.act(scene)
    for number in tqdm(range(steps), desc="steps"):
        for setting in settings:
            if setting.guesses != "still scene" or number < ACCEPTED_STEPS:
                setting.step(scene)


def rows(settings: list[DraftSetting]) -> list[list[str]]:
    """Return ratios to the undrafted policy's steps of the same numbers; the first step has no
    guess.
    """
    off = settings[0]
    return [_row(setting, off) for setting in settings]


def _row(setting: DraftSetting, off: DraftSetting) -> list[str]:
    pairs = list(zip(setting.seconds, off.seconds, setting.drafted, strict=False))[1:]
    drafting = [one / plain for one, plain, drafted in pairs if drafted]
    paused = [one / plain for one, plain, drafted in pairs if not drafted]
    drafts = len(drafting)
    typical_draft = median(drafting) if drafting else 1.0
    typical_pause = median(paused) if paused else 1.0
    share = drafts / len(pairs)
    return [
        setting.draft,
        setting.guesses,
        str(len(pairs)),
        str(drafts),
        f"{sum(setting.accepted) / max(drafts, 1):.1f}",
        f"{typical_draft:.3f}" if drafting else "-",
        f"{typical_pause:.3f}" if paused else "-",
        f"{share * typical_draft + (1 - share) * typical_pause:.3f}",
        f"{sum(one for one, *_ in pairs) / sum(plain for _, plain, _ in pairs):.3f}",
    ]


LEGEND = """\
Steps behind the first; drafts: steps that guessed; accepted: tokens of six, per draft. Times are
ratios to the undrafted step of the same turn. Drafting step, pausing step: medians. Sequence: both
medians weighted by how often they occurred; summed: total time over total time, which a single
disturbance moves. Rejected drafts grow rare with the length of the sequence: at most one in 65
steps in the long run."""


@PROGRAM.main
def main(arguments: list[str]) -> int:
    parser = PROGRAM.parser()
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument(
        "--keep-ratio", type=SHARE, default=0.25, help="share of visual tokens kept"
    )
    parser.add_argument("--steps", type=COUNT, default=100, help="of each setting")
    parser.add_output("--markdown", help="write the page to this file, too")
    options = parser.parse_args(arguments)
    metadata = machine.metadata("vla_pruner_lab.microbenchmarks.drafting", torch.device("cpu"))
    shape = SHAPES["openvla", options.size]
    model = build(shape, torch.device("cpu"), torch.float32)
    settings = make_settings(model, options.keep_ratio)
    print(f"Warming up, then {options.steps} steps of each setting", file=sys.stderr, flush=True)
    measure(settings, observation(shape), options.steps)
    header = (
        "draft", "guesses", "steps", "drafts", "accepted", "drafting step", "pausing step",
        "sequence", "summed",
    )  # fmt: skip
    lines = ["# Drafting", "", *metadata_lines(metadata)]
    lines.append(f"- model: OpenVLA, {options.size}, float32, keep {options.keep_ratio:g}")
    text = "\n".join([*lines, "", *markdown_table(header, rows(settings)), "", LEGEND]) + "\n"
    publish(text, options.markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
