"""Comparison of the documents with the code."""

from __future__ import annotations

import configparser
import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from vla_pruner_ros.bringup import executables
from vla_pruner_ros.resources import package_version, share_directory

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\((?!https?://)([^)#]+)")
WITHOUT_ROS = {
    "vla_pruner_replay",
    "vla_pruner_server",
    "vla_pruner_doctor",
    "vla_pruner_export",
    "vla_pruner_dashboard",
}
"""Executables that run without ROS."""


def parameters():
    pytest.importorskip("rclpy", reason="ROS 2 is not installed: parameters need its messages")
    from vla_pruner_ros.nodes.vla_pruner import parameters

    return parameters


def test_parameter_table_is_the_one_the_node_declares():
    parameters()
    from vla_pruner_ros.nodes.vla_pruner.parameters.__main__ import markdown

    written = (ROOT / "docs" / "reference" / "parameters.md").read_text()
    assert written.strip() == markdown(), (
        "docs/reference/parameters.md is old; write it anew with: "
        "python -m vla_pruner_ros.nodes.vla_pruner.parameters > docs/reference/parameters.md"
    )


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda p: p.name)
def test_configuration_names_declared_parameters_with_allowed_values(path):
    known = parameters().parameter_specs()
    for node, content in yaml.safe_load(path.read_text()).items():
        if not node.endswith("vla_pruner"):
            continue
        values = dict(content["ros__parameters"])
        values.pop("use_sim_time", None)
        assert values.keys() <= known.keys()
        parameters().make_settings(values)


def test_links_between_documents_lead_somewhere():
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for document in documents:
        for target in LINK.findall(document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_every_document_is_in_the_index():
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / target).resolve() for target in LINK.findall(index.read_text())}
    pages = {path for path in index.parent.rglob("*.md") if path != index}
    assert len(pages) > 20
    missing = sorted(str(page.relative_to(ROOT)) for page in pages - linked)
    assert not missing, f"Add a line to docs/README.md for {', '.join(missing)}"


def declared_executables() -> dict[str, object]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    found = {}
    for line in parser["options.entry_points"]["console_scripts"].strip().splitlines():
        name, target = (part.strip() for part in line.split("="))
        module, function = target.split(":")
        found[name] = getattr(import_module(module), function)
    return found


def test_executables_of_pip_and_colcon_exist():
    pytest.importorskip("rclpy", reason="ROS 2 is not installed: the nodes cannot be imported")
    found = declared_executables()
    assert all(callable(function) for function in found.values())
    assert found.keys() == executables.EXECUTABLES.keys() | WITHOUT_ROS
    for program in executables.EXECUTABLES.values():
        assert callable(import_module(f"vla_pruner_ros.{program.module}").main)


@pytest.mark.parametrize(
    ("missing", "reason"), [("rclpy", "ROS 2 is not here"), ("vla_pruner_ros.msg", "colcon")]
)
def test_executables_say_that_ros_is_missing(monkeypatch, capsys, missing, reason):
    """After pip install without ROS they ended with a traceback."""
    real = executables.find_spec
    monkeypatch.setattr(
        executables, "find_spec", lambda name: None if name == missing else real(name)
    )
    for name, function in declared_executables().items():
        if name not in WITHOUT_ROS:
            assert function() == 2
            printed = capsys.readouterr().err
            assert printed.startswith(f"{name} cannot run: ")
            assert reason in printed


def test_shared_data_is_found():
    share = share_directory()
    assert (share / "msg" / "PruningStatus.msg").is_file()
    assert (share / "config" / "vla_pruner.yaml").is_file()
    assert (share / "launch" / "bringup.launch.py").is_file()


@pytest.mark.parametrize("option", ["--help", "--version"])
@pytest.mark.parametrize("name", sorted(executables.EXECUTABLES))
def test_help_and_version_start_nothing(monkeypatch, capsys, name, option):
    """vla_pruner_recorder --help recorded a bag."""
    if (name, option) == ("vla_pruner_bringup", "--help"):
        pytest.importorskip("rclpy", reason="ROS 2 is not installed: bring-up prints its own help")
    else:
        monkeypatch.setattr(executables, "import_module", lambda name: pytest.fail(f"ran {name}"))
    monkeypatch.setattr("sys.argv", [name, option])
    assert declared_executables()[name]() == 0
    printed = capsys.readouterr().out
    assert (name if option == "--help" else package_version()) in printed


@pytest.mark.parametrize("name", sorted(WITHOUT_ROS))
def test_tools_without_ros_print_their_version(monkeypatch, capsys, name):
    monkeypatch.setattr("sys.argv", [name, "--version"])
    with pytest.raises(SystemExit) as ended:
        declared_executables()[name]()
    assert ended.value.code == 0
    assert package_version() in capsys.readouterr().out
