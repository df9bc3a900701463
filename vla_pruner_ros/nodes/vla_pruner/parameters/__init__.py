"""The node's parameters: typed settings, the values in force, and the table of the documents."""

from vla_pruner_ros.nodes.vla_pruner.parameters.live import LiveParameters
from vla_pruner_ros.nodes.vla_pruner.parameters.settings import (
    NodeSettings,
    make_settings,
    parameter_specs,
)

__all__ = ["LiveParameters", "NodeSettings", "make_settings", "parameter_specs"]
