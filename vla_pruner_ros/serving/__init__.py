"""A policy over the network: a server for openpi and vla-eval clients, and a client. No ROS."""

from __future__ import annotations

from importlib import import_module

_HOME = {
    "PolicyServer": "server",
    "ServerSettings": "settings",
    "RemotePolicy": "client.policy",
    "is_remote": "client.address",
    "connect_policy": "client.opening",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    # On demand: websockets and msgpack are needed by those who serve or connect, not by the node.
    if name not in _HOME:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
