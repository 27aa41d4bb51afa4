"""Whether Redis is fit to keep chats."""

import logging
import threading
import time

from chat.core.errors import StoreUnavailable
from chat.store.keyspace import health_key
from chat.store.store import Store

_LOOK_AFTER_SECONDS = 1.0
_POLICY_KNOWN_SECONDS = 60.0
_KEY_MS = 1000
log = logging.getLogger("chatkeep")


class Health:
    """Redis may answer and take no writes, or take them and throw chats away when it is full."""

    def __init__(self, store: Store, *, chats_expire: bool) -> None:
        self._store = store
        # Of keys with an expiry, `volatile-` policies throw away what is not due yet.
        self._harmful = ("allkeys-", "volatile-") if chats_expire else ("allkeys-",)
        self._policy = ""
        self._look_again_at = 0.0

    def check(self) -> list[str]:
        """Write something; what else is wrong. Raises StoreUnavailable, which says why it cannot."""
        self._store.write([("SET", health_key(), 1, "PX", _KEY_MS)])
        return self._warnings()

    def look_soon(self) -> None:
        """Log what is wrong, once the first request has been served."""
        timer = threading.Timer(_LOOK_AFTER_SECONDS, self._look)
        timer.daemon = True
        timer.start()

    def _look(self) -> None:
        for warning in self._warnings():
            log.warning("redis: %s", warning)

    def _warnings(self) -> list[str]:
        policy = self._read_policy()
        if not policy.startswith(self._harmful):
            return []
        return [f"maxmemory-policy is {policy}: Redis may throw chats away; set noeviction."]

    def _read_policy(self) -> str:
        """As it is, or was within the last minute; "" where Redis does not say, as managed ones."""
        if time.monotonic() >= self._look_again_at:
            self._look_again_at = time.monotonic() + _POLICY_KNOWN_SECONDS
            try:
                self._policy = self._store.server_setting("maxmemory-policy")
            except StoreUnavailable:
                self._policy = ""
        return self._policy
