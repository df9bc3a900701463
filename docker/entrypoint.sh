#!/usr/bin/env bash
# Enters ROS 2 and this package, then runs the command: an executable of the package or any other.
set -eo pipefail
. "/opt/ros/$ROS_DISTRO/setup.bash"
. /ws/install/setup.bash
export PATH=/ws/install/vla_pruner_ros/lib/vla_pruner_ros:$PATH
exec "$@"
