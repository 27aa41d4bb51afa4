"""`make docs`: write the settings from their table into .env.example and README.md."""

import re
import textwrap
from pathlib import Path

from chat.settings import all_fields

ROOT = Path(__file__).resolve().parent.parent
_BEGIN, _END = "<!-- settings: written by `make docs` -->\n", "<!-- end of settings -->"


def env_example() -> str:
    """Every setting with its help, commented out unless one must fill it in."""
    parts = [
        "# Copy to .env and fill in the first lines. Environment variables take precedence over this file.\n"
    ]
    for field in all_fields():
        name = field.variable
        help_lines = textwrap.wrap(field.help, 98)
        mark = "" if name in ("GPT_API_KEY", "REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD") else "# "
        parts.append(
            "".join(f"# {line}\n" for line in help_lines)
            + f"{mark}{name}={_shown(field.default)}\n"
        )
    return "\n".join(parts)


def settings_table() -> str:
    """The settings as a table in Markdown."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for field in all_fields():
        shown = f"`{_shown(field.default)}`" if _shown(field.default) else ""
        help_text = re.sub(r"<([a-z]+)>", r"`<\1>`", field.help)
        rows.append(f"| `{field.variable}` | {shown} | {help_text} |")
    return "\n".join(rows) + "\n"


def with_settings(readme: str) -> str:
    """The README with its table of settings replaced."""
    before, _, rest = readme.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return before + _BEGIN + settings_table() + _END + after


def _shown(default: object) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default).removesuffix(".0")


if __name__ == "__main__":
    (ROOT / ".env.example").write_text(env_example())
    readme = ROOT / "README.md"
    readme.write_text(with_settings(readme.read_text()))
