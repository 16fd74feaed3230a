"""The compose file before Docker Compose's own loader, the Dockerfile before its linter."""

from pathlib import Path

import pytest

from tests.k8s.tools import PROJECT, run

pytestmark = pytest.mark.k8s


def test_compose_loads_the_file() -> None:
    said = run("compose", str(PROJECT / "docker-compose.yml")).succeeded()
    assert said.split() == ["kafka", "prometheus", "topic-init", "worker-1", "worker-2"]


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("stop_grace_period:", "stop_grace_perod:", "stop_grace_perod"),
        ("service_healthy", "service_healty", "condition"),
        ('"worker-2:/data"', '"worker-9:/data"', "worker-9"),
        ("depends_on: [worker-1, worker-2]", "depends_on: [worker-1, worker-9]", "worker-9"),
    ],
)
def test_compose_would_refuse_a_wrong_file(tmp_path: Path, right: str, wrong: str, said: str) -> None:
    text = (PROJECT / "docker-compose.yml").read_text()
    assert right in text
    broken = tmp_path / "docker-compose.yml"
    broken.write_text(text.replace(right, wrong))
    run("compose", str(broken)).refused(said)


def test_the_linter_finds_nothing_in_the_dockerfile() -> None:
    assert run("hadolint", "--failure-threshold", "style", "Dockerfile").succeeded() == ""


def test_the_linter_would_find_something(tmp_path: Path) -> None:
    careless = tmp_path / "Dockerfile"
    careless.write_text("FROM python\nRUN cd /tmp && pip install odradek\n")
    assert "DL3006" in run("hadolint", str(careless)).out
