"""The data folder: its user's alone. Who may own it, which rights it has, and what is refused to lie there.

A worker's folder holds every record, state and result that it knows, and a token for its admin port. Its rights are what protects
them: the folder and those within it are 0700. Files are 0600 where the file system passes on rights to new ones (an ACL on the
folder: RocksDB makes its own, and a umask would be one for the files of users' steps, too).
"""

from __future__ import annotations

import logging
import os
import pwd
import re
import stat
import struct
from pathlib import Path

logger = logging.getLogger("odradek")

WORKER_FILE = "worker.json"
"""What the worker that runs there says of itself (`worker_file`)."""
FOLDER, FILE = 0o700, 0o600
OTHERS = stat.S_IRWXG | stat.S_IRWXO
OURS = re.compile(rf"log|store|\.?{re.escape(WORKER_FILE)}(\.\d+)?|worker-\d+")
"""The names of what odradek makes there."""
_OWNER, _GROUP, _OTHER, _NOBODY = 0x01, 0x04, 0x20, 0xFFFFFFFF
_ENTRIES = ((_OWNER, 7), (_GROUP, 0), (_OTHER, 0))
FOR_NEW_FILES = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, rights, _NOBODY) for tag, rights in _ENTRIES)
"""Linux's own form of an ACL (version 2): what is made in the folder is its owner's alone, whatever the umask."""


class DataFolderError(Exception):
    """The folder is not safe for data; the message says why, and the way out."""


def secure(folder: Path) -> None:
    """Make the folder, or narrow its rights. Raises DataFolderError where others could read or replace what is in it, OSError."""
    _check_link(folder)
    _check_way(folder)
    make_private(folder)
    if folder.name.startswith("worker-"):
        _narrow_if_ours(folder.parent)
    found = folder.stat()
    if found.st_uid not in (os.geteuid(), 0):
        raise DataFolderError(f"it belongs to {_user(found.st_uid)}, and this process runs as {_user(os.geteuid())}")
    others_wrote = bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)) and not found.st_mode & stat.S_ISVTX
    if not _narrow_if_ours(folder) and found.st_uid == os.geteuid() and found.st_mode & OTHERS:
        logger.warning("%s holds other things, too, and keeps its rights; log and store in it are for this user alone", folder)
    _check_writers(folder)
    for entry in folder.iterdir():
        if OURS.fullmatch(entry.name):
            _narrow_tree(entry, refuse_links=others_wrote)


def make_private(folder: Path) -> None:
    """Make a folder, with those above it that are missing, for this user alone. Raises OSError."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=FOLDER, exist_ok=True)
        _pass_on_rights(one)
    if not folder.is_dir():
        raise FileExistsError(folder)


def _check_link(folder: Path) -> None:
    """Whoever has made a symbolic link decides where the data goes."""
    if folder.is_symlink() and (owner := folder.lstat().st_uid) not in (os.geteuid(), 0):
        raise DataFolderError(f"it is a symbolic link of {_user(owner)}")


def _check_way(folder: Path) -> None:
    """Raises DataFolderError where somebody else could put another folder into its place."""
    for parent in folder.resolve().parents:
        if parent.is_dir():
            _check_writers(parent)


def _check_writers(folder: Path) -> None:
    """A mounted volume may be open to all: in a container nobody else is there."""
    mode = folder.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX and not os.path.ismount(folder):
        raise DataFolderError(f"everybody may write to {folder}: chmod o-w {folder}")


def _narrow_if_ours(folder: Path) -> bool:
    """Take all others' rights away, if it is this user's, and nothing is in it but what odradek has made."""
    found = folder.stat()
    if found.st_uid != os.geteuid() or not all(OURS.fullmatch(one.name) for one in folder.iterdir()):
        return False
    if found.st_mode & OTHERS:
        folder.chmod(stat.S_IMODE(found.st_mode) & ~OTHERS)
        logger.info("%s was open to other users (%o): it is for this one alone now", folder, stat.S_IMODE(found.st_mode))
    _pass_on_rights(folder)
    return True


def _narrow_tree(entry: Path, *, refuse_links: bool) -> None:
    """`refuse_links`: others could have put them there, for odradek to write where they point."""
    try:
        found = entry.lstat()
    except FileNotFoundError:
        return
    if refuse_links and (stat.S_ISLNK(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink > 1)):
        raise DataFolderError(f"others could write to it, and {entry} is a link: remove it if you have not made it")
    if found.st_uid not in (os.geteuid(), 0):  # where anybody may make things (a sticky folder), he was there first
        raise DataFolderError(f"{entry} belongs to {_user(found.st_uid)}: remove it if you have not made it")
    if found.st_uid != os.geteuid():
        return
    if stat.S_ISDIR(found.st_mode):
        entry.chmod(FOLDER)
        _pass_on_rights(entry)
        for inner in entry.iterdir():
            _narrow_tree(inner, refuse_links=refuse_links or bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)))
    elif stat.S_ISREG(found.st_mode) and found.st_mode & OTHERS and found.st_nlink == 1:
        entry.chmod(FILE)


def _pass_on_rights(folder: Path) -> None:
    try:
        os.setxattr(folder, "system.posix_acl_default", FOR_NEW_FILES)
    except (OSError, AttributeError):  # a file system without ACLs, or another system: the folder's own rights are enough
        return


def _user(number: int) -> str:
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user {number}"
