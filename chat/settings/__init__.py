"""Every setting, once. A setting's environment variable is its field's name in capitals.

fields.py   the table: name, type, bounds, default and help of each setting
reading.py  the environment over `.env`; says everything that is wrong at once
upstream.py the settings of the model API and its fallbacks
"""

from chat.settings.fields import AGENT, Field, Settings, all_fields
from chat.settings.reading import (
    BadSettings,
    parse_settings,
    read_encryption_keys,
    read_environment,
)

__all__ = [
    "AGENT",
    "BadSettings",
    "Field",
    "Settings",
    "VERSION",
    "all_fields",
    "parse_settings",
    "read_encryption_keys",
    "read_environment",
]
VERSION = "0.1.0"
