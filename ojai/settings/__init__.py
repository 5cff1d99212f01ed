"""What may be said of a host: its settings, its services, and where they are read from."""

from ojai.settings.host import Channel, HostSettings, Service, SettingsError, channels, parse

__all__ = ["Channel", "HostSettings", "Service", "SettingsError", "channels", "parse"]
