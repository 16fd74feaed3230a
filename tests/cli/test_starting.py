"""The start of a worker: SIGTERM ends it cleanly at any moment, and dev watches what the app imports, wherever it lies."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.cli.conftest import SHOP, Run
from tests.cli.workers import Serving, alive, until

SLOW = "import pathlib, time\npathlib.Path('importing').touch()\ntime.sleep(120)\n"
ENDLESS = (
    """
import asyncio, pathlib
from contextlib import asynccontextmanager
from odradek import App

@asynccontextmanager
async def lifespan(app):
    pathlib.Path("importing").touch()
    await asyncio.sleep(120)
    yield

"""
    + SHOP
).replace('App("shop")', 'App("shop", lifespan=lifespan)')


def clean(serving: Serving, code: int) -> None:
    assert code == 0, serving.said
    for word in ("Traceback", "error", "Error", "killed", "died"):
        assert word not in serving.said


@pytest.mark.parametrize("source", [SLOW, ENDLESS], ids=["import", "lifespan"])
@pytest.mark.parametrize("command", ["dev", "run"])
def test_sigterm_while_the_app_takes_long_to_start(folder: Path, source: str, command: str) -> None:
    (folder / "shop.py").write_text(source)
    with Serving(command, "shop:app") as serving:
        until((folder / "importing").exists, "the app's start")
        clean(serving, serving.stop())


@pytest.mark.parametrize("moment", ["msgspec", "pydantic_core", "a worker", "librocksdb", "worker.json"])
def test_sigterm_at_any_stage_of_the_start(folder: Path, moment: str) -> None:
    with Serving("run", "shop:app") as serving:
        process = Path(f"/proc/{serving.process.pid}")
        children = process / "task" / process.name / "children"

        def there() -> bool:
            if moment == "a worker":
                return bool(children.read_text())
            if moment == "librocksdb":
                return any("rocksdict" in Path(f"/proc/{pid}/maps").read_text() for pid in children.read_text().split())
            if moment == "worker.json":
                return (folder / ".odradek" / "worker.json").exists()
            return moment in (process / "maps").read_text()

        until(there, moment)
        clean(serving, serving.stop())


@pytest.mark.parametrize("seed", range(6))
def test_sigterm_after_any_while(folder: Path, seed: int) -> None:
    with Serving("run", "shop:app") as serving:
        time.sleep(0.02 + random.Random(seed).random() * 2)  # not to wait for anything: the moment is what is drawn
        clean(serving, serving.stop())


def test_a_starting_worker_whose_supervisor_is_killed_ends(folder: Path) -> None:
    (folder / "shop.py").write_text(SLOW)
    with Serving("run", "shop:app") as serving:
        until((folder / "importing").exists, "the import")
        process = serving.process.pid
        (worker,) = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        os.kill(process, signal.SIGKILL)
        until(lambda: not alive(int(worker)), "the end of the orphan")


def test_dev_watches_what_the_app_imports_wherever_it_lies(
    run: Run, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    library = tmp_path_factory.mktemp("library")
    (library / "prices.py").write_text("FACTOR = 1\n")
    for package in ("pack", "beside"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
    (folder / "beside" / "tax.py").write_text("ADDED = 0\n")
    late = "\n@customer.shared\nasync def lazy(ctx: SharedContext) -> int:\n    import late\n    return late.VALUE\n"
    (folder / "late.py").write_text("VALUE = 1\n")
    (folder / "pack" / "shop.py").write_text(
        f"import sys\nsys.path.append({str(library)!r})\nimport beside.tax\nimport prices\n"
        + SHOP.replace("return ctx.get(spent)", "return ctx.get(spent) * prices.FACTOR + beside.tax.ADDED")
        + late
    )

    with Serving("dev", "pack.shop:app") as serving:
        pid = serving.worker()["pid"]
        run("call", "customer/bob/pay", "5")
        (folder / "beside" / "tax.py").write_text("ADDED = 100\n")
        pid = serving.worker(other_than=pid)["pid"]
        assert run("call", "customer/bob/total").stdout == "105\n"
        (library / "prices.py").write_text("FACTOR = 2\n")
        pid = serving.worker(other_than=pid)["pid"]
        assert run("call", "customer/bob/total").stdout == "110\n"
        assert run("call", "customer/bob/lazy").stdout == "1\n"
        until(lambda: _changes(folder / "late.py", serving, pid), "a restart for what was imported late")
        pid = serving.worker(other_than=pid)["pid"]
        (folder / "beside" / "tax.py").write_text("ADDED = \n")
        serving.hears("waiting for a change")
        (folder / "beside" / "tax.py").write_text("ADDED = 7\n")
        serving.worker(other_than=pid)
        assert run("call", "customer/bob/total").stdout == "17\n"
    assert "tax.py changed: restarting" in serving.said


def _changes(file: Path, serving: Serving, pid: int) -> bool:
    """Write it again until its change is seen: when a late import has been reported, nobody can tell from outside."""
    file.write_text(file.read_text() + "\n")
    time.sleep(0.6)
    return f"{file.name} changed: restarting" in serving.said


def test_dev_waits_for_the_file_that_could_not_be_imported_at_first(folder: Path) -> None:
    for package in ("pack", "beside"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
    (folder / "beside" / "tax.py").write_text("ADDED = \n")
    (folder / "pack" / "shop.py").write_text("import beside.tax\n" + SHOP)
    with Serving("dev", "pack.shop:app") as serving:
        serving.hears("waiting for a change")
        (folder / "beside" / "tax.py").write_text("ADDED = 7\n")
        serving.worker()
