"""Every setting, once. A setting's environment variable is its field's name in capitals.

fields.py        the table: name, type, bounds, default and help of each setting
model_fields.py  its part about models
settings.py  what they add up to
reading.py   the environment over `.env`; says everything that is wrong at once
upstream.py  the settings of the model API and of its fallbacks
"""

from chat.settings.reading import (
    BadSettings,
    load_settings,
    parse_settings,
    read_encryption_keys,
    read_environment,
)
from chat.settings.settings import AGENT, Field, Settings, all_fields

__all__ = [
    "AGENT",
    "BadSettings",
    "Field",
    "Settings",
    "VERSION",
    "all_fields",
    "load_settings",
    "parse_settings",
    "read_encryption_keys",
    "read_environment",
]
VERSION = "0.1.0"
