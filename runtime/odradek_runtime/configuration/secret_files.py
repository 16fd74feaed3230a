"""Values that stand in files: `ODRADEK_KAFKA_SASL_PASSWORD_FILE=/run/secrets/kafka` names one, as Docker and Kubernetes mount it.

Stands beside the settings, which ask for what is in the file. No message shows any of it.
"""

from __future__ import annotations

from pathlib import Path

SUFFIX = "_FILE"
LARGEST_BYTES = 1024 * 1024
"""A key with its chain of certificates has a few KiB."""


class SecretFileError(Exception):
    """The file cannot be used; the message names the variable and the path, never what is in it."""


def read_secret(variable: str, path: str) -> str:
    """What is in the file, without the line ends at its end. Raises SecretFileError."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no path"
        raise SecretFileError(f"{variable}: {path!r} cannot be read: {reason}") from None
    if len(content) > LARGEST_BYTES:
        raise SecretFileError(f"{variable}: {path!r} has more than {LARGEST_BYTES:,} bytes")
    try:
        text = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise SecretFileError(f"{variable}: {path!r} is not UTF-8") from None
    if not text:
        raise SecretFileError(f"{variable}: {path!r} is empty")
    if "\0" in text:
        raise SecretFileError(f"{variable}: {path!r} has a zero byte in it")
    return text
