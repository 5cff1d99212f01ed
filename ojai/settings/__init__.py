"""The settings of a host and its services, and where they are read from."""

from ojai.settings.host import Channel, HostSettings, SettingsError, channels, parse
from ojai.settings.service import ServiceSettings

__all__ = ["Channel", "HostSettings", "ServiceSettings", "SettingsError", "channels", "parse"]
