"""Which release this is: `odradek --version`, and the first line that a worker says."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """The version of the installed distribution."""
    try:
        return version("odradek")
    except PackageNotFoundError:
        return "(not installed)"
