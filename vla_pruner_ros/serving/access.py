"""Admission of clients: an API key compared in constant time, attempts and connections limited."""

from __future__ import annotations

import base64
import binascii
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus

Clock = Callable[[], float]
Refusal = tuple[HTTPStatus, str]
MAX_ADDRESSES = 4096
"""Addresses remembered; the ones longest silent go first."""


class RateLimit:
    """A token bucket for each name: `rate` a second on average, `burst` at once."""

    def __init__(self, rate: float, burst: float, clock: Clock = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> float:
        """Take one token; return 0, or the seconds until there is one (then none is taken)."""
        tokens, now = self._tokens(name), self._clock()
        left = tokens - 1.0 if tokens >= 1.0 else tokens
        self._buckets[name] = (left, now)
        self._buckets.move_to_end(name)
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return 0.0 if tokens >= 1.0 else (1.0 - tokens) / self._rate

    def is_empty(self, name: str) -> bool:
        """Return whether the next take() would have to wait; takes nothing."""
        return self._tokens(name) < 1.0

    def _tokens(self, name: str) -> float:
        tokens, at = self._buckets.get(name, (self._burst, self._clock()))
        return min(self._burst, tokens + (self._clock() - at) * self._rate)


class Door:
    """Checks the key of a request and counts wrong ones.

    After ATTEMPTS wrong keys an address is refused, even with the right one, until the time that
    earns it another attempt (LOCKOUT s) is over. Open connections are not touched.
    """

    ATTEMPTS = 10
    LOCKOUT = 30.0

    def __init__(self, key: str | None, clock: Clock = time.monotonic) -> None:
        self._key = key.encode() if key else None
        self._wrong = RateLimit(1.0 / self.LOCKOUT, self.ATTEMPTS, clock)

    def refusal(self, address: str, authorization: str | None) -> Refusal | None:
        """Return why a request is refused, None if it is not.

        authorization: `Api-Key K`, `Bearer K`, or Basic with K as the password.
        """
        if self._key is None:
            return None
        if self._wrong.is_empty(address):
            return (
                HTTPStatus.TOO_MANY_REQUESTS,
                f"Too many wrong keys came from this address: try again in {self.LOCKOUT:.0f} s.\n",
            )
        offered = _offered_key(authorization or "")
        if offered is not None and hmac.compare_digest(offered, self._key):
            return None
        if offered is not None:
            self._wrong.take(address)
        return (
            HTTPStatus.UNAUTHORIZED,
            "This server needs its API key in the header `Authorization: Api-Key KEY`.\n",
        )


def _offered_key(authorization: str) -> bytes | None:
    scheme, _, rest = authorization.strip().partition(" ")
    scheme, rest = scheme.lower(), rest.strip()
    if scheme in ("api-key", "bearer") and rest:
        return rest.encode()
    if scheme == "basic":
        try:
            return base64.b64decode(rest, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return None
