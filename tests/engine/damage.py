"""Damages stores on the disk: flipped bytes in a data file, files that are gone, cut short, or something else altogether."""

import shutil
from collections.abc import Callable
from pathlib import Path


def tables(store: Path) -> list[Path]:
    """The data files of a store, the largest first."""
    return sorted(store.glob("*.sst"), key=lambda path: -path.stat().st_size)


def flip(path: Path, *places: float, count: int = 3) -> None:
    """Turn over so many bytes at each of these places, from 0 (the beginning of the file) to 1 (its end)."""
    raw = bytearray(path.read_bytes())
    for place in places:
        at = int(len(raw) * place)
        raw[at : at + count] = bytes(byte ^ 0xFF for byte in raw[at : at + count])
    path.write_bytes(bytes(raw))


def flip_a_block(store: Path) -> None:
    flip(tables(store)[0], 0.3)


def lose_current(store: Path) -> None:
    (store / "CURRENT").unlink()


def lose_manifest(store: Path) -> None:
    for path in store.glob("MANIFEST-*"):
        path.unlink()


def garble_manifest(store: Path) -> None:
    for path in store.glob("MANIFEST-*"):
        path.write_bytes(b"no manifest" * 30)


def cut_a_table(store: Path) -> None:
    path = tables(store)[0]
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def lose_a_table(store: Path) -> None:
    tables(store)[0].unlink()


def put_a_file_in_its_place(store: Path) -> None:
    shutil.rmtree(store)
    store.write_bytes(b"something else")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "flipped block": flip_a_block,
    "no CURRENT": lose_current,
    "no MANIFEST": lose_manifest,
    "garbled MANIFEST": garble_manifest,
    "truncated table": cut_a_table,
    "lost table": lose_a_table,
    "a file in its place": put_a_file_in_its_place,
}
