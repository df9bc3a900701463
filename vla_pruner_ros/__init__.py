"""VLA-Pruner (arXiv 2511.16449) for ROS 2."""

from pkgutil import extend_path

# Where this folder is found before the built package, as by `python -m` in the clone's root, the
# built one still gives what only it has: the messages.
__path__ = extend_path(__path__, __name__)
