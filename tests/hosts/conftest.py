"""Tests with several hosts run where hosts can be made, and say what is missing elsewhere."""

import os

import pytest

from tests.hosts.machines import missing, refused


@pytest.fixture(autouse=True)
def hosts_can_be_made() -> None:
    """Root is not for everybody; packages `make debian` installs for root."""
    if said := missing():
        (pytest.skip if os.getuid() else pytest.fail)(said)
    if said := refused():
        pytest.skip(f"this kernel makes no hosts: {said}")
