"""Start of the nodes without ros2 launch: the same nodes, parameters and topics.

vla_pruner_bringup sim:=true keep_ratio:=0.5
vla_pruner_bringup checkpoint:=/path/to/checkpoint image_topic:=/camera/image_raw
vla_pruner_bringup checkpoint:=/path/to/checkpoint bag:=/path/to/bag loop:=true
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from vla_pruner_ros.bags.reader import BagError
from vla_pruner_ros.bringup import simulation
from vla_pruner_ros.bringup.client import GivenUpError, PolicyClient
from vla_pruner_ros.bringup.parameters import (
    is_recording,
    is_simulated,
    is_true,
    number,
    policy_parameters,
    recorder_parameters,
    refuse_old_names,
)
from vla_pruner_ros.bringup.processes import Processes
from vla_pruner_ros.nodes.process.stop_signal import StopSignal
from vla_pruner_ros.nodes.process.terminal import OutputRelay
from vla_pruner_ros.resources import share_directory

DEFAULTS = {
    "params_file": "",
    "checkpoint": "",
    "image_topic": "",
    "instruction": "",
    "keep_ratio": "",
    "robot": "",
    "dry_run": "",
    "namespace": "",
    "use_sim_time": "false",
    "log_level": "info",
    "autostart": "true",
    "sim": "false",
    "task": "drawer-close",
    "record": "",
    "record_compression": "none",
    "as_recorded": "",
    "recorded_node": "",
}
"""The arguments of launch/bringup.launch.py, with its defaults."""
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
REPLAY_DEFAULTS = {"bag": "", "rate": "1.0", "loop": "false"}
"""The further ones of launch/replay.launch.py."""


def parse_arguments(arguments: list[str]) -> dict[str, str]:
    """Read name:=value arguments.

    Raises:
        ValueError: not of that form, or an unknown name.
    """
    given = {**DEFAULTS, **REPLAY_DEFAULTS}
    for argument in arguments:
        name, separator, value = argument.partition(":=")
        refuse_old_names([name])
        if not separator or name not in given:
            known = ", ".join(given)
            raise ValueError(f"'{argument}' is not one of the arguments NAME:=VALUE: {known}")
        given[name] = value
    if given["bag"]:
        given["as_recorded"], given["use_sim_time"] = given["bag"], "true"
    if not given["params_file"]:
        name = "replay.yaml" if given["bag"] else "vla_pruner.yaml"
        given["params_file"] = str(share_directory() / "config" / name)
    if not Path(given["params_file"]).is_file():
        raise ValueError(f"params_file {given['params_file']} does not exist")
    return given


def check_arguments(given: dict[str, str]) -> None:
    """Check what is not passed on to a node that checks it.

    Raises:
        ValueError: the sentence names the argument and what is allowed.
    """
    is_simulated(given["sim"])
    recorder_parameters(given)
    if given["log_level"].lower() not in LOG_LEVELS:
        allowed = ", ".join(LOG_LEVELS)
        raise ValueError(f"log_level must be one of {allowed}, got {given['log_level']!r}")


def parameter(name: str, value: object) -> list[str]:
    """Return the ROS arguments that set one parameter, quoted as YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n")
    return ["-p", f"{name}:={text.strip()}"]


def common_arguments(given: dict[str, str]) -> list[str]:
    """Return the ROS arguments that every started node gets.

    Args:
        given: launch argument -> value, as text.
    """
    arguments = ["--log-level", given["log_level"]]
    arguments += parameter("use_sim_time", is_true(given["use_sim_time"]))
    if given["namespace"]:
        arguments += ["-r", f"__ns:=/{given['namespace'].strip('/')}"]
    return arguments


def policy_arguments(given: dict[str, str]) -> list[str]:
    """Return the ROS arguments of vla_pruner_node for the arguments as given."""
    arguments = ["--params-file", given["params_file"]]
    for name, value in policy_parameters(given).items():
        arguments += parameter(name, value)
    return arguments


def start(processes: Processes, given: dict[str, str]) -> None:
    """Start the nodes that the arguments ask for."""
    common = common_arguments(given)
    if is_simulated(given["sim"]):
        executable, robot = simulation.robot_node(given["sim"], given["task"])
        ours = [part for name, value in robot.items() for part in parameter(name, value)]
        processes.start(executable, *common, *ours)
    if is_recording(given):
        requested = recorder_parameters(given).items()
        ours = [part for name, value in requested for part in parameter(name, value)]
        processes.start("vla_pruner_recorder", *common, *ours)
    processes.start("vla_pruner_node", *common, *policy_arguments(given))


def player_arguments(given: dict[str, str]) -> list[str]:
    """Return the ROS arguments of vla_pruner_player, which goes by this computer's clock."""
    arguments = ["--log-level", given["log_level"]]
    arguments += parameter("bag", given["bag"]) + parameter("rate", number("rate", given["rate"]))
    arguments += parameter("loop", is_true(given["loop"]))
    return arguments + parameter("recorded_node", given["recorded_node"])


def autostart(given: dict[str, str], gives_up: Callable[[], bool]) -> bool:
    """Configure and activate the node; print the reason and return False if that fails.

    Args:
        given: the arguments.
        gives_up: called repeatedly; once it is true, nothing is activated any more.
    """
    target = f"/{given['namespace'].strip('/')}/vla_pruner".replace("//", "/")
    with PolicyClient("vla_pruner_bringup", target, gives_up) as client:
        try:
            if not client.configure() or gives_up():
                return False
            if not client.wait_until_alone():
                print(f"Another node named {target} is running: end it first", file=sys.stderr)
                return False
            return not gives_up() and client.activate()
        except GivenUpError:
            return False
        except TimeoutError as error:
            print(error, file=sys.stderr)
            return False


def main() -> int:
    """Run until Ctrl-C, SIGTERM, SIGHUP or the end of one of the nodes; return the exit code."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        known = {**DEFAULTS, **REPLAY_DEFAULTS}
        print(__doc__ + "\nArguments: " + ", ".join(f"{k}:={v}" for k, v in known.items()))
        return 0
    try:
        given = parse_arguments(sys.argv[1:])
        check_arguments(given)
        policy_arguments(given), player_arguments(given)
    except (ValueError, BagError) as error:
        print(error, file=sys.stderr)
        return 2
    told_to_stop = StopSignal()
    told_to_stop.listen()
    OutputRelay().start()
    with Processes() as processes:
        start(processes, given)
        if is_true(given["autostart"]) and not autostart(
            given, lambda: told_to_stop.is_set() or bool(processes.ended())
        ):
            return 0 if told_to_stop.is_set() else _failed(processes)
        if given["bag"]:
            processes.start("vla_pruner_player", *player_arguments(given))
        while not told_to_stop.wait(0.2):
            for name in processes.ended():
                if name == "vla_pruner_recorder":  # a full disk must not disturb the arm
                    print(f"{name} ended; the others go on without a bag", file=sys.stderr)
                    processes.stop(name)
                    continue
                print(f"{name} ended; stopping the others", file=sys.stderr)
                return processes.stop(name) if name == "vla_pruner_player" else 1
    return 0


def _failed(processes: Processes) -> int:
    ended = ", ".join(processes.ended())
    what = f"{ended} ended" if ended else "vla_pruner could not be started"
    print(f"{what}; its message above gives the reason", file=sys.stderr)
    return 1
