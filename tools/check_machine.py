"""What the machine must have before anything is installed; standard library only.

Says what is missing and the command that installs it, and exits with 1.
"""

import ctypes
import importlib.util
import sys

OLDEST, NEWEST = (3, 11), (3, 13)


def problem() -> str | None:
    """The first thing that is missing, or None."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        return (
            f"Python 3.11 to 3.13 is needed, this is {sys.version.split()[0]}. "
            "Name another one: make run PYTHON=python3.12"
        )
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libgomp.so.1")
        except OSError:
            return (
                "libgomp1, which LightGBM links, is missing. "
                "Install it: sudo apt-get install -y libgomp1"
            )
    if importlib.util.find_spec("ensurepip") is None:
        return "Python's venv is missing. Install it: sudo apt-get install -y python3-venv"
    return None


if __name__ == "__main__":
    sys.exit(problem())
