#!/usr/bin/env bash
# Builds messages and package with colcon against a virtual environment as the ROS 2 prefix.
# ROS_WHEELS=jazzy builds build-jazzy/ and install-jazzy/ with .venv-jazzy.
set -euo pipefail
cd "$(dirname "$0")/.."
suffix=${ROS_WHEELS:+-$ROS_WHEELS}
. ".venv$suffix/bin/activate"
export AMENT_PREFIX_PATH=$VIRTUAL_ENV CMAKE_PREFIX_PATH=$VIRTUAL_ENV
unset PYTHONPATH
mkdir -p log
colcon --log-base log build --base-paths . --symlink-install \
  --build-base "build$suffix" --install-base "install$suffix" \
  --event-handlers console_direct- \
  --cmake-args -DCMAKE_PROJECT_TOP_LEVEL_INCLUDES="$PWD/cmake/pip_prefix.cmake" \
  -DPython3_EXECUTABLE="$VIRTUAL_ENV/bin/python3" "$@"
