"""`--start-anew`: the way past a refusal to start, which names what is lost and asks first."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx

from tests.cli.conftest import Run
from tests.cli.workers import Serving


def test_a_lost_log_is_refused_and_started_anew_on_purpose(run: Run, folder: Path) -> None:
    with Serving("run", "shop:app") as serving:
        url = serving.worker()["url"]
        assert httpx.post(f"{url}/customer/bob/pay", json=5).json() == 5
        assert serving.stop() == 0
    shutil.rmtree(folder / ".odradek" / "log")

    with Serving("run", "shop:app") as refused:
        assert refused.process.wait(60) == 2
    assert "the app 'shop' has run before" in refused.said and "--start-anew" in refused.said
    asked = run("run", "shop:app", "--start-anew", ok=False, stdin="soph\n")
    assert asked.exit_code == 2
    assert "will be lost for good" in asked.output and "nothing was deleted" in asked.output
    assert (folder / ".odradek" / "store" / "shop").is_dir()

    with Serving("run", "shop:app", "--start-anew", "--yes") as anew:
        url = anew.worker()["url"]
        assert httpx.post(f"{url}/customer/bob/pay", json=7).json() == 7
        assert anew.stop() == 0
    with Serving("dev", "shop:app") as again:
        assert httpx.post(f"{again.worker()['url']}/customer/bob/pay", json=1).json() == 8, "it has one life, from then on"
