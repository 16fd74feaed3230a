"""Each page that a user follows does what it says: every file of it is written, every command run, every output compared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import ClusterFactory
from tests.docs.page import DOCS, Command, File, PageError, acts
from tests.docs.session import Session, matches

PAGES = (
    "tutorial",
    "http",
    "client",
    "settings",
    "errors",
    "handlers",
    "asyncio",
    "topics",
    "recovery",
    "control",
    "awakeables",
    "workflows",
    "steps",
    "state",
    "calls",
    "replay",
    "concepts",
)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_does_what_it_says(name: str, tmp_path: Path, kafka_cluster: ClusterFactory) -> None:
    page = list(acts(DOCS / f"{name}.md"))
    on_kafka = any(isinstance(act, Command) and "kafka:9092" in act.text for act in page)
    with Session(tmp_path, kafka_cluster().bootstrap_servers if on_kafka else "") as session:
        for act in page:
            session.do(act)


@pytest.mark.parametrize("page", [*sorted(path.name for path in DOCS.glob("*.md")), "../README.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    here = DOCS / page
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", here.read_text()) if "://" not in link]
    lost = list[str]()
    for link in links:
        name, _, anchor = link.partition("#")
        target = here.parent / name if name else here
        if not target.exists() or (anchor and anchor not in headings(target)):
            lost.append(link)
    assert lost == []


def headings(page: Path) -> set[str]:
    """What the headings of a page are reached by."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_leads_to_every_page() -> None:
    readme = (DOCS.parent / "README.md").read_text()
    assert [name for name in PAGES if f"docs/{name}.md" not in readme] == []


def test_a_page_is_read_in_order(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n\n```python\n# a.py\nprint(1)\n```\n\n<!-- until -->\n```console\n$ python a.py \\\n    -v\n1\n$ ls\n```\n"
        "<!-- not run: it would take a year -->\n```console\n$ sleep 31536000\n```\n"
    )
    file, first, second = acts(page)

    assert file == File(4, "a.py", "# a.py\nprint(1)\n")
    assert first == Command(10, "python a.py     -v", "1", repeat=True)
    assert second == Command(10, "ls", "", repeat=True)


def test_a_block_that_cannot_be_followed_is_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1)\n```\n")
    with pytest.raises(PageError, match=r"page\.md:2"):
        list(acts(page))


@pytest.mark.parametrize(
    ("said", "wanted", "same"),
    [("a\nb", "a\nb", True), ("a\nb", "a", False), ("a 2 b", "a ... b", True), ("a\nb\nc", "a\n...\nc", True), ("a.", "ab", False)],
)
def test_output_is_compared_line_by_line(said: str, wanted: str, *, same: bool) -> None:
    assert matches(said, wanted) is same
