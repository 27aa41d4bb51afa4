"""`make docs`: write the settings from their table into .env.example and docs/settings.md."""

import re
from pathlib import Path

from chat.settings import all_fields

ROOT = Path(__file__).resolve().parent.parent
_FILLED_IN = ("GPT_API_KEY", "REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD", "ADMIN_KEY")
_BEGIN, _END = "<!-- settings: written by `make docs` -->\n", "<!-- end of settings -->"


def env_example() -> str:
    """What one fills in, and nothing else: `export $(cat .env | xargs)` takes no comment."""
    defaults = {field.variable: _shown(field.default) for field in all_fields()}
    return "".join(f"{name}={defaults[name]}\n" for name in _FILLED_IN)


def settings_table() -> str:
    """The settings as a table in Markdown."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for field in all_fields():
        shown = f"`{_shown(field.default)}`" if _shown(field.default) else ""
        help_text = re.sub(r"<([a-z]+)>", r"`<\1>`", field.help)
        rows.append(f"| `{field.variable}` | {shown} | {help_text} |")
    return "\n".join(rows) + "\n"


def with_settings(page: str) -> str:
    """The page with its table of settings replaced."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return before + _BEGIN + settings_table() + _END + after


def _shown(default: object) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default).removesuffix(".0")


if __name__ == "__main__":
    (ROOT / ".env.example").write_text(env_example())
    page = ROOT / "docs" / "settings.md"
    page.write_text(with_settings(page.read_text()))
