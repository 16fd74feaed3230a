"""The data folder is its user's alone: rights, owners, links, and who really holds a lock."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from odradek_runtime.configuration.worker_file import WorkerFile, read_worker_file
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import LogError
from odradek_runtime.store.data_folder import DataFolderError, secure
from odradek_runtime.store.lock_file import Held, LockFileError, holder, take
from odradek_runtime.store.store import RocksStore, StoreError
from odradek_runtime.store.store_folder import StoreFolder
from tests.cli.conftest import SHOP, Run, odradek
from tests.cli.workers import Serving

STRANGER = 12_345
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
FILE = WorkerFile(name="a", app="a:b", pid=1, url="u", admin_url="v", private_url="w", token="t")  # noqa: S106


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.lstat().st_mode))


def open_to_others(folder: Path) -> list[str]:
    """What below the folder has rights for others."""
    every = [folder, *folder.rglob("*")]
    return [f"{mode(one)} {one}" for one in every if one.lstat().st_mode & 0o077 and not one.is_symlink()]


@contextmanager
def umask(rights: int) -> Iterator[None]:
    """The usual one, whatever the tests run with."""
    before = os.umask(rights)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def locking(path: Path, how: str = "fcntl.flock(f, fcntl.LOCK_EX)") -> Iterator[subprocess.Popen[str]]:
    """Another process that has a lock on the file."""
    code = f"import fcntl, sys, time; f = open(sys.argv[1], 'r+'); {how}; print('held', flush=True); time.sleep(1000)"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("log", ["embedded", "kafka"])
def test_all_that_a_worker_makes_is_its_users_alone(
    request: pytest.FixtureRequest, folder: Path, topic_prefix: str, log: str
) -> None:
    """Also what RocksDB makes while it runs, under the usual umask; what a step writes elsewhere has the usual rights."""
    app = (
        SHOP.replace('"orders"', f'"{topic_prefix}-o"')
        .replace('"invoices"', f'"{topic_prefix}-i"')
        .replace('"shop"', f'"{topic_prefix}"')
    )
    (folder / "shop.py").write_text(
        app + "from odradek import Context\n@app.handler\nasync def write(ctx: Context) -> None:\n"
        "    await ctx.run(lambda: open('made-by-a-step', 'w').close(), name='w')\n"
    )
    servers = ("-b", request.getfixturevalue("kafka"), "--create-topics") if log == "kafka" else ()
    data_dir = folder / "new" / "data"
    own = data_dir / "worker-0" if servers else data_dir
    with umask(0o022):
        with Serving("run", "shop:app", "--data-dir", str(data_dir), *servers, data_dir=own) as serving:
            serving.worker()
            assert odradek("call", f"{topic_prefix}/write", "--data-dir", str(data_dir)).returncode == 0
            assert open_to_others(folder / "new") == []
            assert serving.stop() == 0
        assert open_to_others(folder / "new") == []
        assert len(list(data_dir.rglob("*"))) > 10
    assert mode(folder / "made-by-a-step") == "0o644"


def test_a_folder_of_an_older_version_is_narrowed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with umask(0):
        for name in ("log/db", "store/app/0", "worker-0/store"):
            (data / name).mkdir(parents=True)
        for name in ("log/LOCK", "log/db/000001.sst", "store/app/0/CURRENT", "worker.json"):
            (data / name).touch()
    data.chmod(0o2755)
    secure(data)
    assert open_to_others(data) == []
    assert mode(data) == "0o2700"
    with umask(0):
        (data / "log" / "db" / "000002.sst").touch()
    assert open_to_others(data) == []


def test_a_folder_with_other_things_in_it_keeps_its_rights(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "shop.py").touch(0o644)
    (tmp_path / "logs").mkdir(0o755)
    (tmp_path / "log").mkdir(0o755)
    secure(tmp_path)
    assert [mode(tmp_path / name) for name in ("", "shop.py", "logs", "log")] == ["0o755", "0o644", "0o755", "0o700"]
    assert "holds other things, too, and keeps its rights" in caplog.text


def test_where_others_could_put_another_folder_into_its_place_it_is_refused(folder: Path) -> None:
    shared = folder / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    for data_dir in (shared / "data", shared / "far" / "below"):
        done = odradek("run", "shop:app", "--data-dir", str(data_dir))
        assert done.returncode == 2
        assert f"cannot be used: everybody may write to {shared}: chmod o-w {shared}" in done.stderr
        assert not data_dir.exists()
    shared.chmod(0o1777)
    secure(shared / "data")
    assert mode(shared / "data") == "0o700"


def test_a_mounted_volume_may_be_open_to_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Kubernetes mounts an emptyDir."""
    (tmp_path / "mixed").touch()
    tmp_path.chmod(0o777)
    with pytest.raises(DataFolderError, match="everybody may write"):
        secure(tmp_path)
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path)
    secure(tmp_path / "worker-0")
    assert mode(tmp_path / "worker-0") == "0o700"


@as_root
def test_somebody_elses_folder_is_refused(folder: Path) -> None:
    theirs = folder / "theirs"
    theirs.mkdir()
    os.chown(theirs, STRANGER, -1)
    done = odradek("run", "shop:app", "--data-dir", str(theirs))
    assert done.returncode == 2
    said = f"the data folder {theirs} cannot be used: it belongs to user {STRANGER}, and this process runs as user root"
    assert said in done.stderr
    assert list(theirs.iterdir()) == []


@as_root
@pytest.mark.parametrize("rights", [0o700, 0o1777], ids=["private now", "sticky"])
@pytest.mark.parametrize("name", ["log", "store", "store/shop/0", "worker.json"])
@pytest.mark.parametrize("link", [False, True], ids=["a folder", "a link"])
def test_what_somebody_else_has_put_there_is_refused(tmp_path: Path, rights: int, name: str, link: bool) -> None:
    """The log would be written where he reads it."""
    folder, his = tmp_path / "data", tmp_path / "his"
    entry = folder / name
    entry.parent.mkdir(parents=True)
    folder.chmod(rights)
    his.mkdir()
    if link:
        entry.symlink_to(his)
    else:
        entry.mkdir()
    os.lchown(entry, STRANGER, STRANGER)
    with pytest.raises(DataFolderError, match=f"{name} belongs to user {STRANGER}: remove it"):
        secure(folder)


@as_root
def test_somebody_elses_link_to_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "mine")
    secure(link)
    os.chown(link, STRANGER, -1, follow_symlinks=False)
    with pytest.raises(DataFolderError, match=f"a symbolic link of user {STRANGER}"):
        secure(link)


@pytest.mark.parametrize("make", [Path.symlink_to, Path.hardlink_to])
@pytest.mark.parametrize("place", ["log/db/000009.log", "worker.json", "store/shop/0/LOG"])
def test_links_that_others_could_have_put_there_are_refused(tmp_path: Path, make: Callable[[Path, Path], None], place: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    data = tmp_path / "data"
    (data / place).parent.mkdir(parents=True)
    make(data / place, precious)
    secure(data)  # nobody else could
    data.chmod(0o777)
    with pytest.raises(DataFolderError, match=f"{place} is a link: remove it"):
        secure(data)
    assert (precious.read_text(), mode(precious)) == ("precious", "0o644")


@pytest.mark.parametrize("make", [Path.symlink_to, Path.hardlink_to])
def test_what_a_link_in_place_of_a_lock_points_to_stays_as_it_is(tmp_path: Path, make: Callable[[Path, Path], None]) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    make(tmp_path / "LOCK", precious)
    if (tmp_path / "LOCK").is_symlink():
        with pytest.raises(LogError, match="LOCK cannot be opened: it is a symbolic link: remove it"):
            EmbeddedLog(tmp_path, fsync=False)
    else:
        EmbeddedLog(tmp_path, fsync=False).close()
    assert precious.read_text() == "precious"


def test_a_lock_that_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "LOCK")
    with pytest.raises(LockFileError, match="is no file"):
        take(tmp_path / "LOCK")


def test_a_probe_of_the_disk_follows_no_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    store = tmp_path / "store"
    store.mkdir()
    (store / f"probe-{os.getpid()}").symlink_to(precious)
    StoreFolder(store).check()
    assert precious.read_text() == "precious"
    assert list(store.iterdir()) == []


def test_the_holder_is_who_has_the_lock_not_whom_the_file_names(tmp_path: Path) -> None:
    """An earlier version wrote the holder into the file, whose process id is another's by now."""
    lock = tmp_path / "LOCK"
    with subprocess.Popen(["sleep", "1000"]) as innocent:
        lock.write_text(f"process {innocent.pid} (odradek run shop:app)")
        with locking(lock) as thief:
            with pytest.raises(LogError) as refused:
                EmbeddedLog(tmp_path, fsync=False)
            assert f"is open in process {thief.pid} ({sys.executable} -c " in str(refused.value)
            assert str(innocent.pid) not in str(refused.value)
        innocent.kill()
    EmbeddedLog(tmp_path, fsync=False).close()


def test_a_process_that_has_the_file_open_without_the_lock_is_not_its_holder(tmp_path: Path) -> None:
    lock = tmp_path / "LOCK"
    lock.touch()
    with locking(lock, "0") as bystander, locking(lock) as thief:
        assert bystander.pid < thief.pid
        with pytest.raises(Held, match=f"^process {thief.pid} "):
            take(lock)
    os.close(take(lock))
    assert holder(lock) == "another process"


def test_a_fork_that_outlives_the_holder_is_named(tmp_path: Path) -> None:
    lock = tmp_path / "LOCK"
    lock.touch()
    how = "fcntl.flock(f, fcntl.LOCK_EX); import os; pid = os.fork(); pid and (print(pid, flush=True), os._exit(0))"
    code = f"import fcntl, sys, time; f = open(sys.argv[1], 'r+'); {how}; time.sleep(1000)"
    made = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True)
    assert made.stdout is not None
    child = int(made.stdout.readline())
    made.wait()
    try:
        with pytest.raises(Held, match=f"^process {child} "):
            take(lock)
    finally:
        os.kill(child, signal.SIGKILL)
        made.stdout.close()


def test_the_holder_of_a_store_is_named(tmp_path: Path) -> None:
    RocksStore(tmp_path).close()
    with (
        locking(tmp_path / "LOCK", "fcntl.lockf(f, fcntl.LOCK_EX)") as thief,
        pytest.raises(StoreError, match=f"in use by process {thief.pid} "),
    ):
        RocksStore(tmp_path)


def test_the_holder_of_the_logs_database_is_named(tmp_path: Path) -> None:
    EmbeddedLog(tmp_path, fsync=False).close()
    with (
        locking(tmp_path / "db" / "LOCK", "fcntl.lockf(f, fcntl.LOCK_EX)") as thief,
        pytest.raises(LogError, match=f"is open in process {thief.pid} "),
    ):
        EmbeddedLog(tmp_path, fsync=False)


@as_root
def test_another_users_worker_file_leads_no_command_to_his_port(run: Run, folder: Path) -> None:
    file = FILE.write(folder / ".odradek")
    assert mode(file) == "0o600"
    os.chown(file, STRANGER, -1)
    assert read_worker_file(folder / ".odradek") is None
    assert f"worker.json cannot be read: it belongs to user {STRANGER}" in run("topics", ok=False).output.replace("\n", "")


def test_a_worker_file_is_read_through_no_link(run: Run, folder: Path) -> None:
    FILE.write(folder / "other")
    (folder / ".odradek").mkdir()
    (folder / ".odradek" / "worker.json").symlink_to(folder / "other" / "worker.json")
    assert "worker.json cannot be read" in run("topics", ok=False).output.replace("\n", "")
