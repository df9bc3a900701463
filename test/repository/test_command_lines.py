"""Every program from its user's side: help with examples, one sentence for what is wrong."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
import sys
from importlib import import_module
from pathlib import Path

import pytest

pytest.importorskip("tabulate", reason="the laboratory's libraries are not installed")

from vla_pruner_lab.common.program import COUNT, SHARE
from vla_pruner_ros.replay.options import PROGRAM as REPLAY
from vla_pruner_ros.serving.cli import PROGRAM as SERVER
from vla_pruner_ros.settings.program import Program, sentence

ROOT = Path(__file__).resolve().parents[2]
NOT_FOR_USERS = {"vla_pruner_lab.serving.server_process"}
"""Programs that another program of the laboratory starts."""
FLOORLESS = {"rclpy", "mujoco", "metaworld", "libero", "gymnasium", "websockets", "msgpack"}


def programs() -> list[str]:
    """Modules of the laboratory that run as programs."""
    found = []
    for path in sorted((ROOT / "vla_pruner_lab").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if "__name__ ==" in path.read_text() and name not in NOT_FOR_USERS:
            found.append(name)
    return [name for name in found if f"{name.rpartition('.')[0]}.cli" not in found or
            not name.endswith("__main__")]  # fmt: skip


def module_of(name: str):
    """Import a program; demo's __main__ only starts demo.cli."""
    name = "vla_pruner_lab.demo.cli" if name == "vla_pruner_lab.demo.__main__" else name
    if name.startswith(("vla_pruner_lab.demo", "vla_pruner_lab.reliability.process_soak")):
        pytest.importorskip("rclpy", reason="ROS 2 is not installed: this program needs rclpy")
    return import_module(name)


class ParsedError(BaseException):
    """The arguments were accepted; nothing was run."""


@pytest.fixture
def parse_only(monkeypatch):
    """End every program where its arguments are parsed."""
    real = argparse.ArgumentParser.parse_args

    def parse(self, *args, **options):
        raise ParsedError(real(self, *args, **options))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)


def test_programs_were_found():
    assert len(programs()) >= 19, programs()


@pytest.mark.parametrize("name", programs())
def test_every_example_of_the_help_is_accepted(name, parse_only, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    module = module_of(name)
    program: Program = module.PROGRAM
    assert program.examples, f"{name} shows no example"
    for example in program.examples:
        with pytest.raises(ParsedError):
            module.main(shlex.split(example))


@pytest.mark.parametrize("name", programs())
def test_help_and_version_run_nothing(name, capsys):
    module = module_of(name)
    for option in ("--help", "--version"):
        with pytest.raises(SystemExit) as ended:
            module.main([option])
        assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "examples:" in printed
    assert f"  {module.PROGRAM.name}" in printed
    assert "\nvla_pruner_ros " in printed


@pytest.mark.parametrize("name", programs())
def test_an_unknown_argument_is_one_sentence(name, capsys):
    with pytest.raises(SystemExit) as ended:
        module_of(name).main(["--no-such-thing"])
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("demo.cli", ["--task", "fly"], "choose one of reach, push"),
        ("demo.cli", ["--checkpoint", "nowhere"], "nowhere"),
        ("demo.cli", ["--inferences", "0"], "must be at least 1"),
        ("closed_loop.run", ["--checkpoint", "nowhere"], "nowhere"),
        ("closed_loop.run", ["--policy", "still", "--tasks", "fly"], "choose one of reach, push"),
        ("closed_loop.run", ["--policy", "still", "--episodes", "0"], "must be at least 1"),
        ("closed_loop.run", [], "give --checkpoint, or --policy expert or still"),
        ("closed_loop.kept_patches", ["--checkpoint", "nowhere"], "nowhere"),
        ("closed_loop.episode_animation", ["--starts", "4"], "--starts must be odd"),
        ("demonstrations.collect", ["--tasks", "fly"], "choose one of reach, push"),
        ("latency.cli", ["--families", "fly"], "choose from"),
        ("latency.cli", ["--keep-ratios", "2"], "--keep-ratios must be above 0 and at most 1"),
        ("microbenchmarks.drafting", ["--keep-ratio", "0"], "must be above 0 and at most 1"),
        ("training.train", ["--family", "fly", "--out", "x", "--steps", "1"], "choose from"),
    ],
)
def test_a_wrong_argument_is_one_sentence_with_what_is_allowed(name, arguments, words, capsys):
    """demo with an unknown task and closed_loop with a bundled name ended in tracebacks."""
    module = module_of(f"vla_pruner_lab.{name}")
    try:
        status = module.main(arguments)
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in last, last


def test_a_bundled_name_is_a_checkpoint(parse_only):
    module = module_of("vla_pruner_lab.closed_loop.run")
    with pytest.raises(ParsedError) as parsed:
        module.main(["--checkpoint", "openvla_small"])
    assert (parsed.value.args[0].checkpoint / "config.json").is_file()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        (
            "closed_loop.run",
            ["--policy", "still", "--tasks", "reach", "--out", "r.jsonl", "--episodes", "1"],
        ),
        ("demonstrations.collect", ["--out", "d", "--tasks", "reach", "--episodes", "1"]),
        ("closed_loop.kept_patches", ["--checkpoint", "openvla_small", "--out", "k.jsonl"]),
        ("closed_loop.episode_animation", ["--out", "e.webp"]),
        ("libero.__main__", []),
    ],
)
def test_a_missing_simulator_is_one_sentence(name, arguments, capsys, monkeypatch, tmp_path):
    simulated = ("vla_pruner_ros.sim.", "mujoco", "vla_pruner_lab.rollout.")
    filmed = (
        "vla_pruner_lab.closed_loop.patch_measures",
        "vla_pruner_lab.closed_loop.episode_film",
    )
    for loaded in [m for m in sys.modules if m.startswith((*simulated, *filmed))]:
        folder, _, own = loaded.rpartition(".")
        monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.delattr(sys.modules.get(folder), own, raising=False)
    monkeypatch.setitem(sys.modules, "mujoco", None)
    monkeypatch.setitem(sys.modules, "libero", None)
    monkeypatch.setitem(sys.modules, "robosuite", None)
    monkeypatch.chdir(tmp_path)
    assert module_of(f"vla_pruner_lab.{name}").main(arguments) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "MuJoCo and MetaWorld" in told or "LIBERO" in told, told
    assert list(tmp_path.iterdir()) == []


def direct_imports(name: str, files: dict[str, Path]) -> set[str]:
    """Modules that a module imports when it is imported."""
    found = set()
    for node in ast.parse(files[name].read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names} & files.keys()
    return found


@pytest.mark.parametrize("name", [n for n in programs() if ".serving." not in n])
def test_a_program_starts_without_ros_and_simulator(name):
    """An import at the top would end it with a traceback before it can print its sentence."""
    if name == "vla_pruner_lab.reliability.process_soak":
        pytest.skip("every part of it talks to the node: it starts with ROS only")
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for top in ("vla_pruner_ros", "vla_pruner_lab")
        for path in (ROOT / top).rglob("*.py")
    }
    seen: dict[str, str] = {}
    waiting = [(name, "")]
    while waiting:
        module, importer = waiting.pop()
        if module not in seen:
            seen[module] = importer
            if module in files:
                waiting += [(target, module) for target in direct_imports(module, files)]
    assert len(seen) > 3
    wrong = {module: by for module, by in seen.items() if module.split(".")[0] in FLOORLESS}
    assert not wrong, f"{name} imports {wrong} at its start"


# --- The frame ------------------------------------------------------------------------------------


def make(tmp_path):
    program = Program("tool", "Does it.", ("--out out",))
    parser = program.parser()
    parser.add_output("--out", holds=("a.json", "b"), default=tmp_path / "out", help="folder")
    parser.add_output("--json", help="file")
    return parser


def test_results_are_kept_unless_overwrite_is_given(tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "other.txt").write_text("")
    assert make(tmp_path).parse_args([]).overwrite is False  # nothing of ours lies there
    (out / "b").mkdir()
    with pytest.raises(SystemExit):
        make(tmp_path).parse_args([])
    told = capsys.readouterr().err
    assert f"{out / 'b'} exists already: add --overwrite to replace it" in told
    assert make(tmp_path).parse_args(["--overwrite"]).overwrite is True
    (tmp_path / "x.json").write_text("{}")
    for given in (["--json", str(tmp_path / "x.json")], ["--json", str(tmp_path)],
                  ["--out", str(tmp_path / "x.json")]):  # fmt: skip
        with pytest.raises(SystemExit):
            make(tmp_path).parse_args(["--out", str(tmp_path / "new"), *given])


def test_every_written_page_and_chart_is_such_a_result():
    """The others add to a file, resume a run, or check by themselves."""
    flag = re.compile(
        r'\b(add|add_argument|add_output)\(\s*"(--(?:docs|page|plot|markdown|chart))"'
    )
    sources = [*(ROOT / "vla_pruner_ros").rglob("*.py"), *(ROOT / "vla_pruner_lab").rglob("*.py")]
    found = [(path.name, *match) for path in sources for match in flag.findall(path.read_text())]
    assert len(found) > 12
    kept = {("network_faults.py", "add_argument", "--markdown")}  # it replaces a section of a page
    assert {one for one in found if one[1] != "add_output"} == kept


@pytest.mark.parametrize("program", [REPLAY, SERVER], ids=["replay", "server"])
def test_tools_without_ros_show_examples(program):
    assert len(program.examples) >= 2
    assert program.parser().format_help().count(f"  {program.name} ") >= 2


def test_replay_keeps_earlier_results(tmp_path, capsys):
    from vla_pruner_ros.replay.cli import main

    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(SystemExit):
        main(["bag", "--checkpoint", "openvla_small", "--out", str(tmp_path)])
    assert "summary.json exists already: add --overwrite" in capsys.readouterr().err
    assert (tmp_path / "summary.json").read_text() == "{}"


def test_an_error_is_a_sentence_and_a_traceback_if_asked_for(monkeypatch, capsys):
    program = Program("tool", "Does it.")

    @program.main
    def main(arguments):
        raise ValueError("seed must be\n  positive")

    assert main(["x"]) == 2
    assert capsys.readouterr().err == "tool: seed must be positive\n"
    monkeypatch.setenv("VLA_PRUNER_TRACEBACK", "1")
    with pytest.raises(ValueError, match="seed"):
        main(["x"])


def test_sentences_of_errors(tmp_path):
    with pytest.raises(FileNotFoundError) as missing:
        (tmp_path / "no").read_text()
    assert sentence(missing.value) == f"{tmp_path / 'no'}: No such file or directory"
    assert sentence(ModuleNotFoundError("No module named 'av'", name="av")).startswith("av is not")
    assert sentence(KeyError()) == "KeyError"


@pytest.mark.parametrize(("reader", "text"), [(COUNT, "0"), (COUNT, "x"), (SHARE, "0"),
                                              (SHARE, "nan"), (SHARE, "1.5")])  # fmt: skip
def test_numbers_out_of_range_are_refused(reader, text):
    with pytest.raises(argparse.ArgumentTypeError, match=text):
        reader(text)


# --- Programs of the package that need ROS --------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sim:=perhaps"], "sim must be true, false or aloha, got 'perhaps'"),
        (["sim:=true", "task:=fly"], "choose one of reach, push"),
        (["sim:=true", "checkpoint:=openvla_small", "task:=fly"], "choose one of reach, push"),
        (["log_level:=loud"], "log_level must be one of debug, info, warn, error, fatal"),
        (["record:=true", "record_compression:=rar"], "record_compression must be one of none"),
        (["keep_ratio:=half"], "keep_ratio must be a number, got 'half'"),
        (["rate:=fast"], "rate must be a number, got 'fast'"),
        (["--sim"], "is not one of the arguments NAME:=VALUE"),
        (["bag:=/nowhere"], "/nowhere"),
    ],
)
def test_bringup_refuses_in_one_sentence_before_it_starts_a_node(
    arguments, words, capsys, monkeypatch
):
    """sim:=perhaps and log_level:=loud ended in tracebacks or a node that never came up."""
    pytest.importorskip("rclpy", reason="ROS 2 is not installed: bring-up needs it")
    from vla_pruner_ros.bringup import cli

    monkeypatch.setattr(cli, "Processes", lambda: pytest.fail("a node was started"))
    monkeypatch.setattr("sys.argv", ["vla_pruner_bringup", *arguments])
    assert cli.main() == 2
    told = capsys.readouterr().err
    assert words in told
    assert len(told.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("checkpoint", "expected"),
    [
        ("", {"checkpoint": "openvla_oft_small", "instruction": "open the window"}),
        ("openvla_small", {"checkpoint": "openvla_small", "instruction": "open the window"}),
    ],
)
def test_the_task_of_the_simulated_robot_gives_the_instruction(checkpoint, expected):
    """With checkpoint:=NAME, the node waited for an instruction that nobody sent."""
    from vla_pruner_ros.bringup.simulation import policy_parameters

    found = policy_parameters("window-open", checkpoint)
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("name", ["vla_pruner_node", "sim_robot_node", "vla_pruner_recorder"])
def test_a_node_does_not_ignore_stray_arguments(name, capsys, monkeypatch):
    """sim_robot_node task:=window-open ran another task and said nothing."""
    from vla_pruner_ros.bringup import executables

    monkeypatch.setattr(executables, "import_module", lambda module: pytest.fail("it was run"))
    monkeypatch.setattr("sys.argv", [name, "task:=window-open"])
    assert getattr(executables, name)() == 2
    assert "'task:=window-open' is not understood" in capsys.readouterr().err
    given = ["--ros-args", "-p", "a:=b", "--", "--ros-args", "-r", "c:=d"]
    assert executables.stray_arguments(given) == []
    assert executables.stray_arguments(["--ros-args", "-p", "a:=b", "--", "x"]) == ["x"]
