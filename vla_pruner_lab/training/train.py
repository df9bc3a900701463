"""Train a small OpenVLA or OpenVLA-OFT on demonstrations: python -m vla_pruner_lab.training.train.

Leaves <out>/checkpoint in the official layout, loaded by the code that loads the 7B models,
<out>/metrics.jsonl, and <out>/state, from which --resume goes on. A resumed run equals an
uninterrupted one.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

import torch
from tqdm import tqdm

from vla_pruner_lab.common.program import lab_program
from vla_pruner_lab.demonstrations.dataset import Demonstrations
from vla_pruner_lab.training import layout, sharing
from vla_pruner_lab.training.augmentation import change_colours
from vla_pruner_lab.training.batches import CAMERAS, Batch, BatchSource
from vla_pruner_lab.training.images import remove_images
from vla_pruner_lab.training.initial_weights import initialise, take_weights
from vla_pruner_lab.training.network import TrainingNetwork
from vla_pruner_lab.training.precision import Float32Attention
from vla_pruner_lab.training.progress import (
    Metrics,
    MovingAverage,
    SavedState,
    learning_rate,
    make_optimizer,
)
from vla_pruner_lab.training.settings import (
    PRECISIONS,
    Limits,
    TrainingSettings,
    parse_arguments,
    settings_of,
)
from vla_pruner_ros.models.actions import ActionTokens
from vla_pruner_ros.models.checkpoints import read_config, read_json, training_note
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.tokenizer import load_tokenizer
from vla_pruner_ros.models.untrained import UNNORM_KEY, VOCABULARY

PROGRAM = lab_program("training.train", __doc__, "--family openvla_oft --out out/oft --steps 2000")
SETTINGS_FILE = "settings.json"


class Training:
    """One run in the folder `out`; run() does the steps that are missing."""

    def __init__(
        self,
        settings: TrainingSettings,
        data_folder: Path,
        out: Path,
        device: torch.device,
        resume: bool,
    ) -> None:
        """Open or resume a run.

        Raises:
            FileExistsError: the folder holds a run and resume is False.
            ValueError: the run has other settings or another number of frames.
        """
        if settings.token_loss < 0 or (settings.token_loss and settings.family != "openvla_oft"):
            raise ValueError("token_loss is a weight above 0, and for openvla_oft only")
        self.settings, self.out, self.device = settings, out, device
        self.start, self.checkpoint = out / "start", out / "checkpoint"
        self.saved = SavedState(out)
        data = Demonstrations(data_folder, settings.tasks or None, CAMERAS[settings.family])
        resumes = self._check_folder(resume, len(data))
        self.origin = _origin(settings.initial)
        if not resumes and sharing.rank() == 0:
            statistics = _statistics(settings.initial, data)
            layout.write_start(
                self.start, settings.family, settings.size, statistics, settings.seed
            )
            described = json.dumps(_described(settings, len(data)), indent=2)
            (out / SETTINGS_FILE).write_text(described + "\n")
        sharing.wait_for_all()
        self.source = self._source(data)
        self.network = TrainingNetwork.load(self.start, device)
        initialise(self.network, settings.size.layers, settings.seed)
        if settings.initial and not resumes:
            take_weights(self.network, self.start, Path(settings.initial))
        self.average = MovingAverage(self.network, settings.ema_decay)
        self.optimizer = make_optimizer(self.network, settings.learning_rate, settings.weight_decay)
        self.step = 0
        if resumes:
            self.step = self.saved.load(self.network, self.average, self.optimizer, device)

    def run(self, limits: Limits) -> bool:
        """Train until the steps or the minutes are over, save and export; True if all is done."""
        metrics = Metrics(self.out / "metrics.jsonl", self.step) if sharing.rank() == 0 else None
        began = saved = logged = time.monotonic()
        bar = tqdm(
            total=self.settings.steps, initial=self.step, unit="step", smoothing=0.05,
            disable=sharing.rank() != 0,
        )  # fmt: skip
        with bar:
            for batch in self._loader(limits.workers):
                loss, norm = self.train_step(batch.to(self.device))
                bar.update()
                now = time.monotonic()
                if self.step % limits.log_every == 0 or self.step == self.settings.steps:
                    rate = limits.log_every * self.settings.batch_size / (now - logged)
                    self._log(metrics, bar, loss, norm, rate)
                    logged = now
                if now - saved > limits.save_minutes * 60:
                    self.save()
                    saved = time.monotonic()
                late = limits.minutes is not None and now - began > limits.minutes * 60
                if sharing.any_wants(late, self.device):
                    break
        self.save()
        done = self.step == self.settings.steps
        if done:
            remove_images(self.out)
        return done

    def train_step(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Do one update; return loss and gradient norm, each a scalar on the device."""
        settings = self.settings
        rate = learning_rate(
            self.step, settings.steps, settings.learning_rate, settings.warmup_steps
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with self._autocast():
            loss = self.network.loss(batch, self._patches(batch), settings.token_loss)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        loss = sharing.average_gradients(self.network.parameters(), loss)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip_norm)
        self.optimizer.step()
        self.average.update(self.network, self.step)
        self.step += 1
        return loss, norm

    def save(self) -> None:
        """Save the state to resume from, and the moving average as a checkpoint to evaluate."""
        if sharing.rank() != 0:
            return
        self.saved.save(self.network, self.average, self.optimizer, self.step)
        note = {
            "steps": self.step,
            "steps_planned": self.settings.steps,
            "batch_size": self.settings.batch_size,
            "visual_tokens_per_image": self.settings.visual_tokens,
            "all_visual_tokens_from_step": self.source.full_from,
            "seed": self.settings.seed,
            "frames": len(self.source.data),
            "tasks": sorted(set(self.source.data.tasks)),
            "task_weights": self.settings.task_weights,
            "token_loss": self.settings.token_loss,
            **self.origin,
            "date": datetime.now(timezone.utc).date().isoformat(),
        }
        layout.export(self.start, self.checkpoint, self.average.weights, note)

    def _check_folder(self, resume: bool, frames: int) -> bool:
        if not self.saved.exists():
            return False
        if not resume:
            raise FileExistsError(f"{self.out} holds a run; give --resume or another --out")
        # A run from before a setting existed used its present default.
        defaults = asdict(TrainingSettings(self.settings.family, self.settings.steps))
        found = {**defaults, **read_json(self.out / SETTINGS_FILE)}
        if _as_json(found) != _described(self.settings, frames):
            raise ValueError(f"{self.out} was begun with {found}; give the same, or another --out")
        return True

    def _source(self, data: Demonstrations) -> BatchSource:
        statistics = read_json(self.start / "dataset_statistics.json")[UNNORM_KEY]
        return BatchSource(
            self.out,
            data,
            self.settings.family,
            load_tokenizer(self.start),
            ActionTokens(VOCABULARY),
            statistics,
            self.settings.batch_size,
            self.settings.seed,
            self.settings.visual_tokens,
            round(self.settings.full_from * self.settings.steps),
            self.settings.augment,
            self.settings.task_weights,
        )

    def _loader(self, workers: int) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(
            self.source,
            batch_size=None,  # an item is a batch already
            sampler=range(self.step, self.settings.steps),
            num_workers=workers,
        )

    def _patches(self, batch: Batch) -> torch.Tensor:
        if not self.settings.augment:
            return batch.patches
        seed = (self.settings.seed * 2**32 + self.step) * sharing.count() + sharing.rank()
        generator = torch.Generator().manual_seed(seed)
        return change_colours(batch.patches, generator)

    def _autocast(self):
        dtype = PRECISIONS[self.settings.precision]
        stack = contextlib.ExitStack()
        if dtype is not None:
            stack.enter_context(torch.autocast(self.device.type, dtype))
            if self.device.type == "cpu":
                stack.enter_context(Float32Attention())
        return stack

    def _log(self, metrics: Metrics | None, bar, loss, norm, rate: float) -> None:
        if metrics is None:
            return
        values = {"loss": float(loss), "gradient_norm": float(norm), "samples_per_second": rate}
        lr = self.optimizer.param_groups[0]["lr"]
        metrics.add(step=self.step, learning_rate=lr, **values)
        bar.set_postfix(loss=f"{values['loss']:.4f}", lr=f"{lr:.1e}")


def _statistics(initial: str, data: Demonstrations) -> dict:
    """Return the initial checkpoint's statistics, to keep its outputs' meaning; else
    measure them.
    """
    if not initial:
        return layout.measure_statistics(data)
    found = read_json(Path(initial) / "dataset_statistics.json")
    if UNNORM_KEY not in found:
        raise ValueError(f"{initial} has no statistics named {UNNORM_KEY}; start from another one")
    return found[UNNORM_KEY]


def _origin(initial: str) -> dict:
    """Describe the checkpoint that a run starts from, by its own note."""
    if not initial:
        return {}
    note = training_note(read_config(Path(initial)))
    return {"started_from": {"name": Path(initial).name, **note}}


def _described(settings: TrainingSettings, frames: int) -> dict:
    return _as_json({**asdict(settings), "frames": frames})


def _as_json(values: dict) -> dict:
    """Return values as they read back from JSON, where tuples are lists."""
    return json.loads(json.dumps(values))


@PROGRAM.main
def main(argv: list[str]) -> int:
    given = parse_arguments(PROGRAM.parser(), argv)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # loading processes are forked
    torch.backends.cuda.matmul.allow_tf32 = True
    device = torch.device(given.device)
    sharing.join()
    training = Training(settings_of(given), given.data, given.out, device, given.resume)
    limits = Limits(given.save_minutes, given.minutes, given.log_every, given.workers)
    done = training.run(limits)
    if sharing.rank() != 0:
        return 0
    policy = load_policy(training.checkpoint)
    size = layout.directory_bytes(training.checkpoint) / 1e6
    print(f"{training.checkpoint}: {policy.family}, {size:.1f} MB, step {training.step}")
    if not done:
        print("not finished; go on with the same command and --resume")
    return 0


if __name__ == "__main__":
    code = main()
    sharing.leave()
    raise SystemExit(code)
