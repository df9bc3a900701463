r"""Play a recorded bag into the running node: other budgets on recorded images, live.

ros2 launch vla_pruner_ros replay.launch.py bag:=/path/to/bag checkpoint:=/path/to/checkpoint \
    loop:=true keep_ratio:=0.25

Cameras, instruction and pruning are as recorded unless given. The bag starts once the node is
active, and drives /clock. The recorded node's outputs are played on /recorded/..., next to those of
the running one. For a comparison frame by frame use vla_pruner_replay, which needs no ROS.
"""

from collections.abc import Iterable

from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.event_handlers import OnStateTransition
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription
from vla_pruner_ros.bags.reader import BagReader
from vla_pruner_ros.bringup.parameters import is_true
from vla_pruner_ros.replay.inputs.topics import find_node
from vla_pruner_ros.replay.live import moved_aside

PACKAGE = "vla_pruner_ros"
SHARE = FindPackageShare(PACKAGE)

ARGUMENTS = (
    ("bag", None, "rosbag2 directory or file to play"),
    ("rate", "1.0", "Speed of playback; below 1, a slow model has time for every frame"),
    ("loop", "false", "Play again and again; every jump of the clock back resets the node"),
)
"""Next to these, every argument of bringup.launch.py is taken: checkpoint, recorded_node, ..."""


def play_command(
    bag: str, rate: str, loop: str, node: str, topics: Iterable[str] = (), has_clock: bool = False
) -> list[str]:
    """Return `ros2 bag play` with the recorded node's outputs out of the running one's way.

    The /clock of a simulation is played as it was recorded: the stamps follow it.
    /clock must not move: the rule would move the player's own clock as well.
    """
    remaps = [f"{name}:=/recorded{name}" for name in moved_aside(node, topics)]
    looped = ["--loop"] if is_true(loop) else []
    clock = [] if has_clock else ["--clock", "100"]
    return ["ros2", "bag", "play", bag, *clock, "--rate", rate, *looped, "-m", *remaps]


def play_once_active(context: LaunchContext) -> list[RegisterEventHandler]:
    bag, rate, loop = (LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS)
    with BagReader(bag) as reader:
        node = find_node(reader.topics, LaunchConfiguration("recorded_node").perform(context))
        topics = list(reader.topics)
        has_clock = "/clock" in reader.topics and reader.topics["/clock"].count > 0
    # handle_once: a person who deactivates and activates the node does not start a second player.
    return [
        RegisterEventHandler(
            OnStateTransition(
                goal_state="active",
                entities=[
                    ExecuteProcess(
                        cmd=play_command(bag, rate, loop, node, topics, has_clock),
                        output="screen",
                    )
                ],
                handle_once=True,
            )
        )
    ]


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, default, description in ARGUMENTS
    ]
    parameters = DeclareLaunchArgument(
        "params_file",
        default_value=PathJoinSubstitution([SHARE, "config", "replay.yaml"]),
        description="YAML file of parameters",
    )
    bringup = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(PathJoinSubstitution([SHARE, "launch", "bringup.launch.py"])),
        launch_arguments={
            "use_sim_time": "true",
            "as_recorded": LaunchConfiguration("bag"),
            "params_file": LaunchConfiguration("params_file"),
        }.items(),
    )
    node = DeclareLaunchArgument(
        "recorded_node", default_value="", description="Full name of the node that was recorded"
    )
    # The handler must be there before the node can become active.
    player = OpaqueFunction(function=play_once_active)
    return LaunchDescription([*declared, node, parameters, player, bringup])
