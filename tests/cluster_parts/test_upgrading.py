"""`rayfeed upgrade`, before it touches anything; the whole of it is in tests/cluster/test_front_door.py."""

from typing import Any

import pytest

from cluster.instance import InstanceError
from cluster.upgrading import _fitting


def test_an_instance_that_is_too_old_to_be_asked_is_one_line() -> None:
    def ask(method: str, *_: Any) -> Any:
        # As Ray says it of a handle.
        raise AttributeError(f"'ActorHandle' object has no attribute '{method}'")

    with pytest.raises(InstanceError, match="stop and start it: rayfeed down, rayfeed up"):
        _fitting(ask)
