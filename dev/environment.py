"""Make a virtual environment with what requirements files pin, or say in one line why not.

    python3 -m dev.environment FOLDER REQUIREMENTS... [--wheels REQUIREMENTS] [--small]

`--wheels` names packages to do without where they have no wheel, instead of compiling them.
`--small` compiles no bytecode, of which most would never be imported, and removes pip afterwards:
half of the bytes and of the time. Needs nothing but Python, of any version that can read this file.
"""

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path


def find_problem() -> str:
    """Why there can be no environment with this Python; "" if there can."""
    is_too_old = sys.version_info < (3, 11)
    if sys.platform == "win32":
        return "Chatkeep needs Linux or macOS; on Windows use WSL (wsl --install)."
    if is_too_old:
        return "Chatkeep needs Python 3.11 or newer; try make PYTHON=python3.12 ..."
    if not importlib.util.find_spec("ensurepip"):  # Debian keeps it in a package of its own
        return "Python's venv is missing; on Debian and Ubuntu: sudo apt install python3-venv"
    return ""


def main() -> str:
    """Make it; what is in the way, or ""."""
    options = _options()
    problem = find_problem()
    if problem:
        return problem
    folder = Path(options.folder)
    print(f"Installing into {folder}/ (once) ...", flush=True)
    clear = ["--clear"] if options.small else []  # its pip is gone, so nothing can be replaced
    subprocess.run([sys.executable, "-m", "venv", *clear, str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-q"]
    install = [*pip, "install", "--require-hashes", "--no-deps"]
    if options.small:
        install.append("--no-compile")
    for file in options.requirements:
        if subprocess.run([*install, "-r", file]).returncode:
            return f"Installing {file} failed; see above."
    if options.wheels:
        _install_wheels([*install, "--only-binary", ":all:", "-r", options.wheels])
    if options.small:
        subprocess.run([*pip, "-q", "uninstall", "--yes", "setuptools", "pip"], check=True)
    (folder / "installed").touch()
    return ""


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser()
    options.add_argument("folder")
    options.add_argument("requirements", nargs="+")
    options.add_argument("--wheels")
    options.add_argument("--small", action="store_true")
    return options.parse_args()


def _install_wheels(command: list) -> None:  # type: ignore[type-arg]  # Python 3.8 reads this too
    done = subprocess.run(command, stderr=subprocess.PIPE)
    if done.returncode and b"No matching distribution" not in done.stderr:
        sys.exit(done.stderr.decode())


if __name__ == "__main__":
    sys.exit(main() or 0)
