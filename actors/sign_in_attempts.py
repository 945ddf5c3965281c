"""How often passwords may be tried. Pure: the time is passed in.

For one name from one address, from one address for all names, and for one name from everywhere; the last is more, or
anybody could lock out anybody. Who knows the password gets the attempt back.
"""

from typing import Final

from actors.buckets import Buckets

#: So many at once, and as many again in that many seconds.
PER_NAME_AND_CLIENT: Final = (5, 300.0)
PER_CLIENT: Final = (20, 600.0)
PER_NAME: Final = (50, 1800.0)


class Attempts:
    """What was tried of late. Times in seconds, of any clock that does not go back."""

    def __init__(self) -> None:
        self._both, self._client, self._name = (
            Buckets(*limit) for limit in (PER_NAME_AND_CLIENT, PER_CLIENT, PER_NAME)
        )

    def take(self, name: str, client: str, now: float) -> float:
        """One attempt: 0, or for how many seconds there is none."""
        for number, (buckets, key) in enumerate(self._buckets(name, client)):
            taken = buckets.take(key, now)
            if not taken.allowed:
                for others, other in self._buckets(name, client)[:number]:
                    others.give_back(other)
                return taken.retry_in_s
        return 0.0

    def give_back(self, name: str, client: str) -> None:
        """It was right."""
        for buckets, key in self._buckets(name, client):
            buckets.give_back(key)

    def _buckets(self, name: str, client: str) -> list[tuple[Buckets, str]]:
        return [(self._both, f"{client} {name}"), (self._client, client), (self._name, name)]
