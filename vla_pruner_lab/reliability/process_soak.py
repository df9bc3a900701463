"""The real process with a bundled policy, under faults from outside, judged from outside.

    python -m vla_pruner_lab.reliability.process_soak --minutes 60 --json process_soak.json

Each fault that has to end motion does so; the time from the fault to the first stop or zero twist
is the stop's latency. After each, the arm has to move again. Memory is that of the process. Three
quarters of the time belong to one life of the process, the rest to faults that end it.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from vla_pruner_lab.common.program import POSITIVE, lab_program
from vla_pruner_lab.reliability.process.faults import Fault, faults
from vla_pruner_lab.reliability.process.page import charts, page, table
from vla_pruner_lab.reliability.process.world import MAX_TRANSLATION, ProcessWorld

PROGRAM = lab_program("reliability.process_soak", __doc__, "--minutes 2 --seed 1")
FIRST_LIFE = 0.75
"""Share of the time without faults that end the process."""
REST = 0.7
"""Seconds without motion that count as rest: pauses between two actions are shorter."""
SLACK = 0.25
"""Seconds a message may be late on a busy machine."""
LONGEST_TWIST = 0.1 + 0.9
"""Seconds for which a twist that moves may stand on a busy machine, other than while the process is
frozen or the observer does not run."""


class ProcessSoak:
    """Faults in random order, and what the process did wrong.

    latencies: seconds by fault. injected: count by fault. memory: (seconds since start, MiB,
    process id). notes: sentences about twists that stood for long because the process was frozen or
    the observer late.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.latencies: dict[str, list[float]] = defaultdict(list)
        self.injected: Counter[str] = Counter()
        self.memory: list[tuple[float, float, int]] = []
        self.started = time.monotonic()
        self.world = ProcessWorld(folder)
        self.outside = self.world.outside
        self.faults = faults(self.world)
        self.notes: list[str] = []
        self._judged = 0.0

    @property
    def violations(self) -> list[str]:
        """Sentences about what must not have happened."""
        return self.world.violations

    def run(self, seconds: float, one_life: bool, note: Callable[[], None]) -> None:
        """Inject faults in random order; note: called after each."""
        self.world.start()
        end, names = self.started + seconds, []
        while (now := time.monotonic()) < end:
            if not names:
                lives = not one_life and now - self.started > FIRST_LIFE * seconds
                names = [n for n, fault in self.faults.items() if lives or not fault.ends_life]
                self.random.shuffle(names)
            self.inject(names.pop())
            self.memory.append(
                (time.monotonic() - self.started, self.world.memory(), self.world.node)
            )
            note()

    def inject(self, name: str) -> None:
        """Inject one fault while the arm moves; measure and judge."""
        fault, outside = self.faults[name], self.outside
        outside.until_moving()
        time.sleep(self.random.uniform(0.2, 0.6))
        began = time.monotonic()
        cause = fault.begin()
        began = cause if isinstance(cause, float) else began
        self.injected[name] += 1
        if fault.stops:
            self._measure(name, fault, began)
        frozen = self.world.frozen
        fault.end()
        try:
            outside.until_moving(20.0)
        except AssertionError:
            self.violations.append(f"{name}: no motion again; {outside.sentences[-1:]}")
        self._judge_actions(name, frozen)

    def _measure(self, name: str, fault: Fault, began: float) -> None:
        """Wait for the stop after a fault and keep its latency."""

        def stopped() -> float | None:
            if fault.ends_twist:
                return self._first_message(began + SLACK)
            if fault.goes_on:
                return began if self._rested(began) else self._first_stop(began)
            return self._rests(began)

        try:
            self.outside.until(lambda: stopped() is not None, f"{name}: a stop", 10.0)
        except AssertionError as error:
            self.violations.append(str(error))
            return
        at, first = stopped(), self._first_stop(began)
        self.latencies[name].append(max(0.0, (began if at is None else at) - began))
        later = [s for s in self.outside.seen if first and s.moves and s.at > first + SLACK]
        if later and not fault.goes_on:
            self.violations.append(f"{name}: {len(later)} motions after the stop")

    def _first_stop(self, began: float) -> float | None:
        """Return when the first stop came after a time, None if there was none."""
        return next((s.at for s in self.outside.stops(began)), None)

    def _rested(self, moment: float) -> bool:
        """Return whether the arm was at rest at a moment: then there is no motion to stop."""
        before = [s for s in list(self.outside.seen) if s.at <= moment]
        return bool(before) and not before[-1].moves

    def _first_message(self, since: float) -> float | None:
        """Return when the first message of any kind came after a moment."""
        return next((s.at for s in list(self.outside.seen) if s.at > since), None)

    def _rests(self, began: float) -> float | None:
        """Return when the arm came to rest for REST seconds after a time, None if it did not."""
        recent = [s for s in self.outside.seen if s.at > began - 1.0]
        moved = max((s.at for s in recent if s.moves), default=began)
        if time.monotonic() - max(began, moved) < REST or self.outside.moving_twist_stands():
            return None
        # It may have rested between two actions already, with no other to come.
        return next((s.at for s in recent if not s.moves and s.at > max(began, moved)), began)

    def _judge_actions(self, name: str, frozen: float) -> None:
        """Judge what was received since the last call; keep the newest for what comes."""
        seen = list(self.outside.seen)
        twists = [s for s in seen if s.kind == "twist"]
        for one in seen:
            if one.kind == "action" and one.moves and one.at > self._judged:
                t = one.message.translation
                if np.linalg.norm([t.x, t.y, t.z]) > MAX_TRANSLATION + 1e-9:
                    self.violations.append("an action beyond max_translation")
        for one, after in pairwise(twists):
            stood = after.at - one.at
            if not one.moves or after.at <= self._judged or stood <= LONGEST_TWIST:
                continue
            late = self.outside.late(one.at, after.at)
            sentence = (
                f"{name}: a twist stood for {stood:.2f} s, the observer was late by {late:.2f} s"
            )
            over = stood - late - frozen > LONGEST_TWIST
            (self.violations if over else self.notes).append(sentence)
        self._judged = seen[-1].at if seen else self._judged
        del self.outside.seen[: max(0, len(seen) - 500)]


def run(
    minutes: float, seed: int, one_life: bool = False, keep: Path | None = None
) -> dict[str, Any]:
    """Inject faults in random order for so many minutes; return the report.

    Args:
        minutes: wall time.
        seed: of the order.
        one_life: leave out the faults that end the process, to see its memory over time.
        keep: file that holds the report so far, all along.
    """
    with tempfile.TemporaryDirectory() as folder:
        soak = ProcessSoak(Path(folder), seed)

        def note() -> None:
            if keep:
                keep.write_text(json.dumps(_report(soak), indent=1))

        try:
            soak.run(60.0 * minutes, one_life, note)
            return _report(soak)
        except BaseException:
            print((Path(folder) / "node.log").read_text(errors="replace")[-5000:], file=sys.stderr)
            raise
        finally:
            soak.world.close()


def _report(soak: ProcessSoak) -> dict[str, Any]:
    return {
        "schema": "vla_pruner_lab.process_soak/1",
        "command": " ".join(["python -m vla_pruner_lab.reliability.process_soak", *sys.argv[1:]]),
        "wall_minutes": (time.monotonic() - soak.started) / 60.0,
        "date": date.today().isoformat(),
        "load": os.getloadavg(),
        "violations": soak.violations,
        "notes": soak.notes,
        "memory_mib": soak.memory,
        "injected": dict(soak.injected),
        "latencies": dict(soak.latencies),
    }


@PROGRAM.main
def main(arguments: list[str]) -> int:
    parser = PROGRAM.parser()
    parser.add_argument("--minutes", type=POSITIVE, default=10.0, help="of running")
    parser.add_argument("--seed", type=int, default=0, help="of the order of faults")
    parser.add_argument("--one-life", action="store_true", help="never end the process")
    parser.add_output("--json", help="where the report goes")
    parser.add_output("--markdown", help="write docs/reference/process_soak.md here")
    parser.add_argument("--report", type=Path, help="do not run: read this --json of earlier")
    options = parser.parse_args(arguments)
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if options.report:
        report = json.loads(options.report.read_text())
    else:
        report = run(options.minutes, options.seed, options.one_life, options.json)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
    if options.markdown:
        options.markdown.write_text(page(report))
        for name, chart in charts(report).items():
            options.markdown.with_name(name).write_text(chart)
    print(table(report))
    print("violations:", report["violations"] or "none")
    return 1 if report["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
