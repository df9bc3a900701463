#!/usr/bin/env bash
# Builds messages and package with colcon against the virtual environment as the ROS 2 prefix.
set -euo pipefail
cd "$(dirname "$0")/.."
. .venv/bin/activate
export AMENT_PREFIX_PATH=$VIRTUAL_ENV CMAKE_PREFIX_PATH=$VIRTUAL_ENV
unset PYTHONPATH
mkdir -p log
colcon --log-base log build --base-paths . --symlink-install \
  --event-handlers console_direct- \
  --cmake-args -DCMAKE_PROJECT_TOP_LEVEL_INCLUDES="$PWD/cmake/pip_prefix.cmake" \
  -DPython3_EXECUTABLE="$VIRTUAL_ENV/bin/python3" "$@"
