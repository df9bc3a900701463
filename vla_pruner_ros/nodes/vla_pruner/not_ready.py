"""The reason to wait that is no error."""

from __future__ import annotations


class NotReady(Exception):  # noqa: N818 - a reason to wait, not an error
    """Nothing can be inferred from what is there; the sentence says what is awaited."""
