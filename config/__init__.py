"""Typed settings and their YAML defaults."""

from config.settings import ExchangeSettings, Settings, SettingsError, load

__all__ = ["ExchangeSettings", "Settings", "SettingsError", "load"]
