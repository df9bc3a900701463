#!/usr/bin/env bash
# Prints the first Python from 3.10 to 3.13 on PATH: the versions that the wheels of ROS 2 are for.
for candidate in ${PYTHON:-} python3 python3.12 python3.11 python3.10 python3.13; do
  if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
    2>/dev/null; then
    command -v "$candidate"
    exit 0
  fi
done
echo "No Python 3.10, 3.11, 3.12 or 3.13 found; install one or name it: make PYTHON=/path/to/python3" >&2
exit 1
