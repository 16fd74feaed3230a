"""`module:app`: every way in which it can be wrong has its own message and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from odradek_runtime.cli.appref import load_app, load_topics, source_folders
from odradek_runtime.cli.errors import CommandError


def test_the_app_and_its_topics_are_found(folder: Path) -> None:
    assert load_app("shop:app").name == "shop"
    assert load_app("shop").name == "shop"
    assert set(load_topics("shop:app")) == {"orders", "invoices"}


@pytest.mark.parametrize(
    ("reference", "message", "remedy"),
    [
        ("shopp:app", "no module 'shopp'", "did you mean shop?"),
        ("shop.nothing:app", "no module 'shop.nothing'", ""),
        ("shop:ap", "module shop has no attribute 'ap'", "write shop:app"),
        ("shop:orders", "shop:orders is a Topic, not an App", "write shop:app"),
        ("empty:app", "module empty has no attribute 'app'", "define it there"),
        ("shop.py", "'shop.py' is a path", "write it as shop:app"),
        ("./sub/shop.py:shop", "is a path", "write it as sub.shop:shop"),
        ("broken:app", "ZeroDivisionError", ""),
        ("needs:app", "No module named 'absent_thing'", ""),
        ("exits:app", "SystemExit", ""),
    ],
)
def test_what_cannot_be_had_is_explained(folder: Path, reference: str, message: str, remedy: str) -> None:
    (folder / "empty.py").write_text("")
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "needs.py").write_text("import absent_thing\n")
    (folder / "exits.py").write_text("raise SystemExit(0)\n")
    with pytest.raises(CommandError) as caught:
        load_app(reference)
    assert message in caught.value.message
    assert remedy in caught.value.remedy
    assert caught.value.code == 2
    assert "appref.py" not in caught.value.message


def test_what_dev_watches(folder: Path) -> None:
    (folder / "pack").mkdir()
    (folder / "pack" / "__init__.py").write_text("")
    assert source_folders("shop:app") == [folder]
    assert source_folders("pack.inner:app") == [folder / "pack"]
