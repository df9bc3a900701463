"""The tool as a user runs it: results, exit status, one sentence instead of a traceback."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
import yaml
from replay_bags import PERIOD, BagMaker, MemoryPolicy, sample_image
from replay_helpers import plain, recorded

from vla_pruner_ros.bags.reader import BagReader
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.policy import CheckpointError, Observation
from vla_pruner_ros.models.untrained import write_untrained_checkpoint
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.replay import cli
from vla_pruner_ros.replay.options import make_parser


def test_recorded_settings_are_repeated_by_default(tmp_path, run):
    recorded(tmp_path)
    status, printed, summary = run("--require-parity")
    assert status == 0
    assert "24 of 24 comparable inferences equal" in printed.out
    assert summary["parity"]["holds"] is True
    assert summary["settings"] == []
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "graphs", "draft", "quantization"),
    [
        ((), True, "linear", "int8"),
        (("--draft", "off", "--no-graphs"), False, "off", "int8"),
        (("--quantization", "none"), True, "linear", "none"),
    ],
)
def test_the_model_is_run_as_recorded_unless_told(arguments, graphs, draft, quantization):
    parsed = make_parser().parse_args(["bag", "--checkpoint", "c", "--out", "o", *arguments])
    execution = cli._execution(parsed, {"draft": "linear", "quantization": "int8"})
    assert (execution.graphs, execution.draft) == (graphs, draft)
    assert execution.quantization == quantization


def test_sweep_gives_table_json_csv_report_and_bag(tmp_path, run):
    recorded(tmp_path)
    status, printed, summary = run(
        *("--keep-ratio", "1.0", "0.5", "0.25", "--method", "vla_pruner", "fastv", "--write-bag")
    )
    assert status == 0
    names = ["full", "vla_pruner 50 %", "vla_pruner 25 %", "fastv 50 %", "fastv 25 %"]
    assert [one["name"] for one in summary["settings"]] == names
    assert all(name in printed.out for name in names)
    half = summary["settings"][1]
    # The test policy moves 0.01 * (1 - keep_ratio) m farther on each axis.
    assert half["overall"]["translation"] == pytest.approx(0.005 * 3**0.5, rel=1e-4)
    assert set(half["instructions"]) == {"pick up the cup", "close the drawer"}
    assert half["pruning"]["temporal_window"] == 4
    with (tmp_path / "out" / "inferences.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24 * 6
    assert {row["reference"] for row in rows} == {"recorded", "full"}
    html = (tmp_path / "out" / "report.html").read_text()
    for title in ("Actions over time", "Error against keep ratio", "Latency", "Kept tokens",
                  "Worst frames", "Per instruction", "untrained weights"):  # fmt: skip
        assert title in html
    assert not re.search(r"(src|href)=.https?:", html)
    with BagReader(tmp_path / "out" / "replayed") as reader:
        counts = {topic.name: topic.count for topic in reader.topics.values()}
        sample = next(iter(reader.messages({"/vla_pruner/replay/fastv_25/pruning"})))
        status_message = reader.decode(sample)
    assert counts["/vla_pruner/action_chunk"] == 24
    assert counts["/vla_pruner/replay/fastv_25/action_chunk"] == 24
    assert counts["/vla_pruner/replay/recorded_settings/pruning"] == 24
    assert status_message.tokens_kept == 4


def test_presets_are_compared_in_one_replay(tmp_path, run):
    recorded(tmp_path)
    status, _, summary = run("--keep-ratio", "0.25", "--preset", "default", "paper")
    assert status == 0
    names = ["full", "vla_pruner default 25 %", "vla_pruner paper 25 %"]
    assert [one["name"] for one in summary["settings"]] == names
    assert [one["pruning"]["preset"] for one in summary["settings"][1:]] == ["default", "paper"]
    html = (tmp_path / "out" / "report.html").read_text()
    for series in ("vla_pruner default", "vla_pruner paper"):
        assert f">{series}<" in html


def test_kept_keys_and_values_are_compared_with_computing_all(tmp_path, capsys):
    plain(tmp_path)
    checkpoint = str(write_untrained_checkpoint(tmp_path / "checkpoint", "openvla"))
    command = [str(tmp_path / "bag"), "--checkpoint", checkpoint, "--out", str(tmp_path / "out")]
    options = ["--keep-ratio", "1", "--token-reuse", "static", "gated", "--threads", "1"]
    assert cli.main([*command, *options, "--no-report"]) == 0, capsys.readouterr()
    settings = json.loads((tmp_path / "out" / "summary.json").read_text())["settings"]
    assert [one["name"] for one in settings] == ["full", "full reuse static", "full reuse gated"]
    assert [one["overall"]["count"] for one in settings] == [6, 6, 6]
    assert settings[0]["overall"]["translation"] == 0.0
    assert all(one["overall"]["translation"] < 0.1 for one in settings[1:])


def test_limit(tmp_path, run):
    recorded(tmp_path)
    status, _, summary = run("--limit", "7", "--require-parity")
    assert status == 0
    assert summary["parity"]["recorded"] == summary["parity"]["kept_equal"] == 7


def test_bag_of_another_software_is_swept(tmp_path, run):
    plain(tmp_path)
    status, _, summary = run("--keep-ratio", "0.5", "--every", "2", "--no-report")
    assert status == 0
    assert summary["parity"] is None
    assert [one["overall"]["count"] for one in summary["settings"]] == [3, 3]
    assert not (tmp_path / "out" / "report.html").exists()


def test_parity_that_is_required_and_missed_shows_in_the_status(tmp_path, run, monkeypatch):
    recorded(tmp_path)

    class Other(MemoryPolicy):
        def act(self, observation):
            chunk = super().act(observation)
            chunk.actions[:, 3] += 0.01
            return chunk

    monkeypatch.setattr(cli, "load_policy", lambda *_, **__: Other())
    status, printed, summary = run("--require-parity")
    assert status == 1
    assert "0 of 24" in printed.out
    assert summary["parity"]["largest"] == pytest.approx(0.01, rel=1e-3)
    assert run("--require-parity", "--tolerance", "0.02")[0] == 0


def test_parity_cannot_be_required_of_a_bag_without_answers(tmp_path, run):
    plain(tmp_path)
    assert run("--require-parity")[0] == 1


def test_frames_that_fail_make_a_partial_report(tmp_path, run):
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("go", -PERIOD)
        for number in range(6):
            encoding = "rgb8" if number % 2 else "yuv410"
            bag.image(sample_image(number), number * PERIOD, encoding=encoding)
    status, printed, summary = run("--keep-ratio", "0.5")
    assert status == 1
    assert "problem: 3 inference(s) failed: image encoding 'yuv410' is not supported" in printed.out
    assert summary["settings"][1]["overall"]["count"] == 3


def test_interrupted_replay_writes_what_it_has(tmp_path, run, monkeypatch):
    recorded(tmp_path)

    class Interrupted(MemoryPolicy):
        def act(self, observation):
            if self.calls == 10:
                raise KeyboardInterrupt
            return super().act(observation)

    monkeypatch.setattr(cli, "load_policy", lambda *_, **__: Interrupted())
    status, _, summary = run()
    assert status == 1
    assert summary["interrupted"] is True
    assert summary["parity"]["comparable"] == 9  # one call warmed the policy up
    assert "interrupted" in (tmp_path / "out" / "report.html").read_text()


def test_checkpoint_that_cannot_be_loaded(tmp_path, run, monkeypatch):
    recorded(tmp_path)

    def refuse(*_, **__):
        raise CheckpointError("config.json is missing in none; give a checkpoint's directory")

    monkeypatch.setattr(cli, "load_policy", refuse)
    status, printed, _ = run()
    assert status == 2
    assert "config.json is missing" in printed.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--keep-ratio", "1.5"), "keep_ratio must be at most 1, got 1.5"),
        (("--set", "colour=red"), "NAME=VALUE"),
        (("--image-topic", "/nowhere"), "/nowhere is not in the bag"),
        (("--node", "/other"), "no node /other was recorded"),
    ],
)
def test_arguments_that_do_not_fit(tmp_path, run, arguments, reason):
    recorded(tmp_path)
    status, printed, _ = run(*arguments)
    assert status == 2
    assert reason in printed.err


def test_results_are_not_written_over_an_older_replayed_bag(tmp_path, run, capsys):
    recorded(tmp_path)
    assert run("--write-bag")[0] == 0
    older = [path.read_bytes() for path in sorted((tmp_path / "out" / "replayed").iterdir())]
    command = [str(tmp_path / "bag"), "--checkpoint", "none", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        cli.main([*command, "--write-bag"])
    assert "add --overwrite to replace it" in capsys.readouterr().err
    assert older == [
        path.read_bytes() for path in sorted((tmp_path / "out" / "replayed").iterdir())
    ]
    assert run("--write-bag", "--keep-ratio", "0.5")[0] == 0  # run() gives --overwrite
    with BagReader(tmp_path / "out" / "replayed") as reader:
        assert "/vla_pruner/replay/vla_pruner_50/action_chunk" in reader.topics


def test_real_model_repeats_itself(tmp_path, capsys):
    """A small checkpoint in the official layout, through the real loader, images and tokenizer."""
    checkpoint = write_untrained_checkpoint(tmp_path / "checkpoint")
    policy = load_policy(checkpoint)
    policy.pruning = PruningConfig(keep_ratio=0.25, temporal_window=2)
    with BagMaker(tmp_path / "bag") as bag:
        bag.parameters(-PERIOD, keep_ratio=0.25, temporal_window=2)
        for number in range(8):
            if number == 5:
                policy.reset()
            image = np.kron(sample_image(number), np.ones((10, 10, 1), np.uint8))
            bag.image(image, number * PERIOD)
            bag.answer(policy, [number * PERIOD], Observation([image], "close the door"))
    command = [str(tmp_path / "bag"), "--checkpoint", str(checkpoint), "--device", "cpu"]
    status = cli.main([*command, "--out", str(tmp_path / "out"), "--require-parity", "--no-report"])
    printed = capsys.readouterr()
    assert status == 0, printed.out + printed.err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["parity"]["equal"] == 8
    assert summary["parity"]["kept_equal"] == 8


def test_directory_above_a_bag_names_the_bag(tmp_path, run):
    plain(tmp_path)
    status, printed, _ = run(bag=".")
    assert status == 2
    assert "but in bag below it" in printed.err


def test_output_that_is_a_file_is_refused(tmp_path, run, capsys):
    plain(tmp_path)
    (tmp_path / "out").write_text("mine")
    with pytest.raises(SystemExit):
        run("--no-report")
    assert "is a file" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


def test_frames_far_apart_are_told_to_start_anew(tmp_path, run):
    plain(tmp_path, frames=61)
    status, printed, _ = run("--every", "30", "--keep-ratio", "0.5")
    assert status == 0
    assert "2 inferences came more than relevance_timeout (2 s) after" in printed.out


def test_instructions_on_two_topics_have_to_be_chosen(tmp_path, run):
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("go", -PERIOD, "/chatter")
        bag.instruction("stay", -PERIOD, "/texts")
        bag.image(sample_image(0), 0)
    status, printed, _ = run()
    assert status == 2
    assert "/chatter, /texts; choose one with --instruction-topic" in printed.err
    assert run("--instruction-topic", "/texts")[0] == 0


def test_replayed_answers_carry_the_stamps_of_all_they_were_computed_from(
    tmp_path, run, monkeypatch
):
    """Only the first camera's stamp was written, and neither the state's nor the period."""
    policy = MemoryPolicy(num_cameras=2, state_dim=1)
    monkeypatch.setattr(cli, "load_policy", lambda *_, **__: MemoryPolicy(2, 1))
    with BagMaker(tmp_path / "bag") as bag:
        for number in range(3):
            stamp, late, moved = (number * PERIOD + delay for delay in (0, 7_000_000, 3_000_000))
            bag.image(sample_image(number), stamp, "/left/image_raw")
            bag.image(sample_image(number + 50), late, "/right/image_raw")
            bag.joints(["elbow"], [0.1 * number], moved)
            seen = Observation(
                [sample_image(number), sample_image(number + 50)], "go", np.array([0.1 * number])
            )
            bag.answer(policy, [stamp, late], seen, state_stamp=moved)
    assert run("--require-parity", "--write-bag")[0] == 0
    fields = ("image_stamps", "state_stamp", "header", "period")
    with BagReader(tmp_path / "out" / "replayed") as reader:
        recorded, replayed = (
            [
                [getattr(reader.decode(one), field) for field in fields]
                for one in reader.messages({topic})
            ]
            for topic in (
                "/vla_pruner/action_chunk",
                "/vla_pruner/replay/recorded_settings/action_chunk",
            )
        )
    assert len(replayed) == 3
    assert replayed == recorded


def test_parameters_that_are_not_in_the_bag_come_from_a_file(tmp_path, run):
    """ros2 bag record notes changes of parameters, ros2 param dump what they were before."""
    policy = MemoryPolicy()
    policy.pruning = PruningConfig(keep_ratio=0.5, temporal_window=2)
    with BagMaker(tmp_path / "bag") as bag:
        for number in range(8):
            if number == 4:
                bag.parameters(number * PERIOD, temporal_window=5)
                policy.pruning = PruningConfig(keep_ratio=0.5, temporal_window=5)
            bag.image(sample_image(number), number * PERIOD)
            bag.answer(policy, [number * PERIOD], Observation([sample_image(number)], "go"))
    assert run("--require-parity")[0] == 1
    dump = tmp_path / "vla_pruner.yaml"
    values = {"keep_ratio": 0.5, "temporal_window": 2, "method": "vla_pruner"}
    dump.write_text(yaml.safe_dump({"/vla_pruner": {"ros__parameters": values}}))
    assert run("--require-parity", "--params", str(dump))[0] == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"a: [", "cannot be read"),
        (b"", "no parameters of vla_pruner"),
        (b"- 1", "no parameters of vla_pruner"),
        (b"/vla_pruner: 3", "no parameters of vla_pruner"),
        (b"/other: {ros__parameters: {keep_ratio: 0.5}}", "ros2 param dump /vla_pruner"),
    ],
)
def test_parameter_file_that_is_none(tmp_path, run, content, reason):
    recorded(tmp_path, 3)
    file = tmp_path / "params.yaml"
    if content is not None:
        file.write_bytes(content)
    status, printed, _ = run("--params", str(file))
    assert status == 2
    assert reason in printed.err
