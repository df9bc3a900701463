"""Declarations of settings: each one's type, default, description, range and choices stand once."""

from vla_pruner_ros.settings.declaration import (
    AUTO,
    Spec,
    check_fields,
    check_value,
    setting,
    specs_of,
)

__all__ = ["AUTO", "Spec", "check_fields", "check_value", "setting", "specs_of"]
