"""Who calls: bearer keys, several of them, compared in constant time."""

import hmac
from hashlib import sha256

from .settings import ApiKey


class KeyRing:
    """Holds only the digests: hashing makes all keys equally long, so not even their length can be timed."""

    def __init__(self, keys: dict[str, ApiKey]):
        self._digests = {
            key_id: self._digest(key.secret.get_secret_value()) for key_id, key in keys.items()
        }

    @staticmethod
    def _digest(secret: str) -> bytes:
        return sha256(secret.encode()).digest()

    def key_id(self, secret: str) -> str | None:
        """The id of this key, or None. Looks at every key, so the time does not tell which one matched."""
        given = self._digest(secret)
        matches = [
            key_id for key_id, digest in self._digests.items() if hmac.compare_digest(given, digest)
        ]
        return matches[0] if matches else None
