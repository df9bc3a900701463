"""Storage files of a bag, .mcap and .db3, read through rosbags or by themselves."""

from vla_pruner_ros.bags.storage.files import Storage, open_file
from vla_pruner_ros.bags.storage.metadata import Metadata, read_metadata

__all__ = ["Metadata", "Storage", "open_file", "read_metadata"]
