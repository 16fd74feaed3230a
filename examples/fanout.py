"""Fan out and collect: many pages fetched, twenty at a time, and one report; what fails is a line of it, not its end.

    odradek dev examples.fanout:app
    curl -s -X POST localhost:8080/pages/survey -d '["http://localhost:8080/odradek/health", "http://localhost:8080/none"]'

Each fetch is a step: kill the worker in the middle of a thousand, and only those are fetched again that had not come back. Plain
asyncio does the rest. `/survey/send` with an idempotency-key has it done in the background; `/survey/attach` gives the report.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from odradek import App, Context, RetryPolicy, TerminalError, step

AT_ONCE = 20
AT_MOST = 1_000


@dataclass
class Page:
    url: str
    size: int


@dataclass
class Report:
    pages: list[Page] = field(default_factory=list[Page])
    size: int = 0
    failed: dict[str, str] = field(default_factory=dict[str, str])


@asynccontextmanager
async def lifespan(_: App) -> AsyncGenerator[None]:
    """One client, and its connections, for all steps of a worker."""
    global http
    async with httpx.AsyncClient(timeout=20, follow_redirects=True) as http:
        yield


http: httpx.AsyncClient
app = App("pages", lifespan=lifespan)


@step(idempotent=True, retry=RetryPolicy(max_attempts=4, initial=0.2))  # a GET: once too often does no harm
async def fetch(url: str) -> Page:
    try:
        reply = await http.get(url)
    except httpx.UnsupportedProtocol as error:
        raise TerminalError(f"no URL: {error}") from error
    if 400 <= reply.status_code < 500 and reply.status_code != 429:
        raise TerminalError(f"{reply.status_code} {reply.reason_phrase}")  # no use in asking again
    reply.raise_for_status()
    return Page(url, len(reply.content))


@app.handler
async def survey(ctx: Context, urls: list[str]) -> Report:
    if len(urls) > AT_MOST:
        raise TerminalError(f"{len(urls):,} pages are more than {AT_MOST:,}", code=422)
    report, at_once = Report(), asyncio.Semaphore(AT_ONCE)

    async def one(url: str) -> None:
        async with at_once:
            try:
                page = await fetch(url)
            except TerminalError as error:
                report.failed[url] = error.message
            else:
                report.pages.append(page)
                report.size += page.size

    async with asyncio.TaskGroup() as group:
        for url in dict.fromkeys(urls):  # each once, in their order
            group.create_task(one(url))
    ctx.logger.info("%d pages, %d failed", len(report.pages), len(report.failed))
    return report
