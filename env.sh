# Enter this clone's environment:  . ./env.sh   (bash, zsh or dash; from the clone's root in dash)
# ROS_WHEELS=jazzy enters the second one, which `make test-jazzy` sets up.
# The simulated robot, the nodes and the tests talk over loopback only.

if [ -n "${BASH_SOURCE:-}" ]; then
  _root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
elif [ -n "${ZSH_VERSION:-}" ]; then
  _root=$(cd "$(dirname "$(eval 'echo ${(%):-%x}')")" && pwd)
else
  _root=$(pwd)
fi

_suffix="${ROS_WHEELS:+-$ROS_WHEELS}"
_install="$_root/install$_suffix"
if [ ! -f "$_root/.venv$_suffix/bin/activate" ]; then
  echo "env.sh: no .venv$_suffix in $_root yet; run 'make setup${_suffix}' there first" >&2
else
  . "$_root/.venv$_suffix/bin/activate"
  export AMENT_PREFIX_PATH="$_install/vla_pruner_ros:$VIRTUAL_ENV"
  export PATH="$_install/vla_pruner_ros/lib/vla_pruner_ros:$PATH"
  _site=$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib", vars={"base": ""}).lstrip("/"))')
  # The install comes first: only it holds the built messages. The root adds vla_pruner_lab.
  export PYTHONPATH="$_install/vla_pruner_ros/$_site:$_root"
  # Libraries of another ROS 2, of /opt/ros or of another clone, would be mixed with these: the
  # process then ends within a call, at a symbol that is missing, without a traceback.
  _others=$(python3 -c 'import glob, os; print(":".join(path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path and not glob.glob(glob.escape(path) + "/lib*rosidl*")))')
  export LD_LIBRARY_PATH="$_install/vla_pruner_ros/lib${_others:+:$_others}"
  export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST
  export ROS_DOMAIN_ID="${ROS_DOMAIN_ID:-77}"
  export RCUTILS_COLORIZED_OUTPUT="${RCUTILS_COLORIZED_OUTPUT:-0}"
  export MUJOCO_GL="${MUJOCO_GL:-osmesa}"
fi
unset _root _site _suffix _install _others
