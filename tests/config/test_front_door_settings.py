from pathlib import Path

import pytest

from config import SettingsError, load
from config.cache_settings import CacheSettings
from config.edge_settings import EdgeSettings
from config.scaling_settings import ScalingSettings


def test_the_defaults_that_are_written_down_are_those_of_the_code(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.edge == EdgeSettings()
    assert settings.cache == CacheSettings()
    assert settings.scaling == ScalingSettings()


def test_a_network_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("edge: {trusted_proxies: [proxy.example]}")
    with pytest.raises(SettingsError, match=r"edge\.trusted_proxies\.0") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
