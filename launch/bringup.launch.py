r"""Bring up the pruned policy: start the node, configure and activate it.

ros2 launch vla_pruner_ros bringup.launch.py checkpoint:=/path/to/checkpoint \
    image_topic:=/camera/image_raw
ros2 launch vla_pruner_ros bringup.launch.py sim:=true
"""

import os

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition

from launch import LaunchContext, LaunchDescription
from vla_pruner_ros.bringup import simulation
from vla_pruner_ros.bringup.parameters import (
    is_recording,
    is_simulated,
    is_true,
    policy_parameters,
    recorder_parameters,
    refuse_old_names,
)
from vla_pruner_ros.nodes.process.parent import VARIABLE as END_WITH

PACKAGE = "vla_pruner_ros"

# Empty values leave a parameter to params_file, or to its default in the node.
ARGUMENTS = (
    ("params_file", PathJoinSubstitution([FindPackageShare(PACKAGE), "config", "vla_pruner.yaml"]),
     "YAML file of parameters"),
    ("checkpoint", "", "Directory of the checkpoint; with sim:=true empty means the package's own"),
    ("image_topic", "", "Image topic of a single camera; several go into params_file"),
    ("instruction", "", "The task, a sentence"),
    ("keep_ratio", "", "Share of visual tokens kept, 0 < r <= 1"),
    ("namespace", "", "Namespace of all nodes"),
    ("use_sim_time", "false", "Follow /clock"),
    ("log_level", "info", "debug, info, warn, error or fatal"),
    ("autostart", "true", "Configure and activate the node"),
    ("robot", "", "Robot profile: a bundled name or a file; empty: the one the checkpoint names"),
    ("dry_run", "", "true: publish commands under ~/preview/ alone, nothing moves"),
    ("sim", "false", "Start a simulated robot too: true (MetaWorld) or aloha"),
    ("task", "drawer-close", "Task of the simulated robot"),
    ("record", "", "Directory of a bag to record for replay; true picks a name"),
    ("record_compression", "none", "Of the recorded bag: none, png or jpeg (images), zstd (all)"),
    ("as_recorded", "", "Bag whose cameras, instruction and pruning are used unless given"),
    ("recorded_node", "", "Full name of the node that was recorded; empty if there is one"),
)  # fmt: skip


def make_nodes(context: LaunchContext) -> list:
    """Return the actions for the arguments as given."""
    refuse_old_names(context.launch_configurations)
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    common = {
        "namespace": given["namespace"],
        "output": "screen",
        "ros_arguments": ["--log-level", given["log_level"]],
        # If this process is killed, the nodes stop the arm and end: launch alone leaves them.
        "additional_env": {END_WITH: str(os.getpid())},
    }
    use_sim_time = {"use_sim_time": is_true(given["use_sim_time"])}
    policy = LifecycleNode(
        package=PACKAGE,
        executable="vla_pruner_node",
        name="vla_pruner",
        parameters=[given["params_file"], {**policy_parameters(given), **use_sim_time}],
        **common,
    )
    actions = [policy]
    if is_simulated(given["sim"]):
        actions.append(sim_robot(given, common))
    if is_recording(given):
        actions.append(recorder(given, common, use_sim_time))
    if is_true(given["autostart"]):
        actions += autostart(policy)
    return actions


def sim_robot(given: dict, common: dict) -> Node:
    executable, parameters = simulation.robot_node(given["sim"], given["task"])
    return Node(
        package=PACKAGE,
        executable=executable,
        name=executable.removesuffix("_node"),
        parameters=[parameters],
        **common,
    )


def recorder(given: dict, common: dict, use_sim_time: dict) -> Node:
    return Node(
        package=PACKAGE,
        executable="vla_pruner_recorder",
        name="vla_pruner_recorder",
        parameters=[{**recorder_parameters(given), **use_sim_time}],
        **common,
    )


def autostart(policy: LifecycleNode) -> list:
    """Configure the node now, activate it once it is configured, explain if that fails.

    Only the way from configuring to inactive activates: a node that a person deactivates stays so.
    """
    configure, activate = (
        EmitEvent(
            event=ChangeState(lifecycle_node_matcher=matches_action(policy), transition_id=id_)
        )
        for id_ in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
    )

    def on_transition(start_state: str, goal_state: str, entity) -> RegisterEventHandler:
        return RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=policy,
                start_state=start_state,
                goal_state=goal_state,
                entities=[entity],
            )
        )

    failed = LogInfo(
        msg="vla_pruner could not be configured; its message above gives the reason. Fix that, "
        "then: ros2 lifecycle set /vla_pruner configure"
    )
    return [
        on_transition("configuring", "inactive", activate),
        on_transition("configuring", "unconfigured", failed),
        configure,
    ]


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, default, description in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=make_nodes)])
