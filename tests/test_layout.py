"""The shape of the project: layers, docstrings, the size of the public surface, and what reaches a wheel.

Stands before any record: an engine that cannot be installed, or an SDK that drags Kafka in, moves none.
"""

import ast
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import odradek

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("sdk/odradek", "runtime/odradek_runtime", "connectors/odradek_connectors")
SOURCES = ("sdk", "runtime", "connectors", "tests", "examples", "bench")
PUBLIC = {
    "App", "Service", "Object", "Workflow", "Topic", "Record", "State", "Name", "Context", "SharedContext",
    "ObjectContext", "WorkflowContext", "Future", "Call", "Awakeable", "Promise", "step", "current",
    "idempotency_key", "Client", "RetryPolicy", "TerminalError", "RetryableError",
}  # fmt: skip


VERBATIM = ROOT / "tests" / "typing" / "programs"  # the design's own programs: they must type-check as they stand


def modules() -> list[Path]:
    found = [path for source in SOURCES for path in (ROOT / source).rglob("*.py")]
    hidden = {path for path in found if any(part.startswith(".") for part in path.relative_to(ROOT).parts)}
    return sorted(path for path in found if path not in hidden and VERBATIM not in path.parents)


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a Python module or script with the project's own packages in front of whatever is installed."""
    roots = os.pathsep.join(str(ROOT / root) for root in ("sdk", "runtime", "connectors"))
    environment = {**os.environ, "PYTHONPATH": roots}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def build(target: str, source: Path, output: Path) -> Path:
    """Build a wheel or an sdist of the project at `source`; return the file."""
    built = run("-m", "hatchling", "build", "-t", target, "-d", str(output), cwd=source)
    assert built.returncode == 0, built.stdout + built.stderr
    (file,) = output.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return file


def test_every_module_says_what_it_owns() -> None:
    assert len(modules()) > 20
    silent = [str(path.relative_to(ROOT)) for path in modules() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_one_place_asks_a_message_for_its_headers() -> None:
    """Asked elsewhere, Kafka's client ends the process for a record with a header name that is not UTF-8."""
    runtime = ROOT / "runtime" / "odradek_runtime"
    others = [path for path in runtime.rglob("*.py") if path.name != "parts.py" and "embedded" not in path.parts]
    assert [path.name for path in others if ".headers()" in path.read_text()] == []


def test_the_layers_hold() -> None:
    linted = run("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache")
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert " 0 broken" in linted.stdout


def test_the_sdk_loads_neither_kafka_nor_the_runtime_nor_an_http_client() -> None:
    loaded = run("-c", "import sys, odradek; print(*sys.modules)")
    assert loaded.returncode == 0, loaded.stderr
    heavy = {"confluent_kafka", "rocksdict", "odradek_runtime", "starlette", "uvicorn", "typer", "httpx"}
    assert not heavy & {name.split(".")[0] for name in loaded.stdout.split()}


def test_the_public_surface_is_the_one_designed() -> None:
    assert len(odradek.__all__) <= 25
    assert len(set(odradek.__all__)) == len(odradek.__all__)
    assert set(odradek.__all__) <= PUBLIC
    assert [name for name in odradek.__all__ if not hasattr(odradek, name)] == []


@pytest.mark.parametrize("through_sdist", [False, True], ids=["from the tree", "from the sdist"])
def test_the_wheel_holds_all_packages_and_schemas(tmp_path: Path, through_sdist: bool) -> None:
    source = ROOT
    if through_sdist:
        with tarfile.open(build("sdist", ROOT, tmp_path / "sdist")) as archive:
            # Python before 3.11.4 has no filters, and pays no heed to the attribute.
            archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
            archive.extractall(tmp_path / "unpacked")  # noqa: S202 - of our own making
        (source,) = (tmp_path / "unpacked").iterdir()
        assert (source / "tests" / "test_layout.py").is_file()
    names = set(zipfile.ZipFile(build("wheel", source, tmp_path / "wheel")).namelist())
    schemas = {f"odradek/{path.relative_to(ROOT)}" for path in (ROOT / "schemas").rglob("*.avsc")}
    assert schemas, "there are no schemas"
    assert schemas <= names
    for package in (Path(package) for package in PACKAGES):
        expected = {path.relative_to(ROOT / package.parent) for path in (ROOT / package).rglob("*.py")}
        assert expected
        assert {str(path) for path in expected} <= names
        assert f"{package.name}/py.typed" in names
    assert not {name for name in names if name.startswith(("tests/", "bench/", "examples/"))}
