"""The Dockerfile's build stage, replayed without Docker, in folders of its own, and what comes out.

What this cannot show: the base image, and the last stage's user and folders.
"""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.k8s.tools import PROJECT

pytestmark = pytest.mark.k8s

DOCKERFILE = (PROJECT / "Dockerfile").read_text().replace("\\\n", " ")
STAGES = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that stands for the image's /, after the build stage."""
    root = tmp_path_factory.mktemp("image")
    source, environment = root / "src", {"PATH": os.environ["PATH"], "HOME": str(root)}
    source.mkdir()
    for line in STAGES[1].splitlines():
        instruction, _, rest = line.partition(" ")
        if instruction == "ENV":
            environment.update(re.findall(r"(\S+)=(\S+)", rest))
        elif instruction == "COPY":
            *names, target = rest.split()
            for name in names:
                copy(PROJECT / name, source / target)
        elif instruction == "RUN":
            command = re.sub(r"(^|&& )python ", rf"\1{sys.executable} ", rest)
            command = command.replace("/opt/", f"{root}/opt/")
            ended = subprocess.run(
                ["/bin/sh", "-c", command], cwd=source, env=environment, text=True, capture_output=True, check=False
            )
            assert ended.returncode == 0, f"{command}\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}"
    return root


def copy(what: Path, where: Path) -> None:
    """As COPY does: a folder's content into a folder, a file into it, links as links."""
    if what.is_dir():
        shutil.copytree(what, where, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    else:
        shutil.copy(what, where)


def test_the_image_has_the_command_and_all_formats(image: Path) -> None:
    program = image / "opt" / "odradek" / "bin" / "odradek"
    said = subprocess.run([str(program), "run", "--help"], text=True, capture_output=True, check=True, cwd=image)
    assert "--bootstrap-servers" in said.stdout
    (packages,) = (image / "opt" / "odradek" / "lib").glob("python3.*/site-packages")
    formats = {path.name for path in (packages / "odradek" / "schemas").glob("*.avsc")}
    assert formats == {path.name for path in (PROJECT / "schemas").glob("*.avsc")}
    assert formats


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_asks_the_admin_port(status: int, healthy: bool) -> None:
    asked: list[str] = []

    class Admin(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    (check,) = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    program, *arguments = json.loads(check)
    assert program == "python"
    with http.server.HTTPServer(("127.0.0.1", 0), Admin) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {**os.environ, "ODRADEK_ADMIN_PORT": str(server.server_port)}
        ended = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, check=False)
        server.shutdown()
    assert asked == ["/health"]
    assert (ended.returncode == 0) is healthy
