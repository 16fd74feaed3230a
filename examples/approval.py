"""An approval over days: a workflow that asks, reminds every day, and ends when somebody decides or nobody does.

    odradek dev examples.approval:app
    curl -s -X POST localhost:8080/approval/r1/run/send -d '{"who": "bob@hr", "amount": 10, "approver": "eve@hr"}'

Then `curl -X POST localhost:8080/approval/r1/decide -d '{"granted": true, "by": "eve"}'`, within seven days, and
`curl localhost:8080/odradek/workflows/approval/r1/attach` for the outcome. Kill the worker as often as you like: the days go on,
and no mail is sent again but one that was on its way just then, with the same Message-ID. Mails are in the folder `mails`.
APPROVAL_DAY_S=5 makes days of five seconds.
"""

import asyncio
import mailbox
import os
from dataclasses import dataclass
from email.message import EmailMessage

from odradek import App, Name, RetryPolicy, SharedContext, State, TerminalError, WorkflowContext, idempotency_key, step

DAY_S = float(os.environ.get("APPROVAL_DAY_S", "86400"))
DAYS = 7


@dataclass
class Request:
    who: str
    amount: int
    approver: str


@dataclass
class Decision:
    granted: bool
    by: str


@dataclass
class Status:
    reminders: int
    decision: Decision | None


app = App("hr")
approval = app.workflow("approval", retention=30 * 86_400)
decision = Name("decision", Decision)
reminders = State("reminders", int, default=0)


@step(retry=RetryPolicy(max_attempts=10, max_delay=60))
async def mail(to: str, subject: str) -> None:
    """Put it into a Maildir, where mail programs find it; talk to your mail server here."""
    message = EmailMessage()
    message["To"], message["Subject"] = to, subject
    message["Message-ID"] = f"<{idempotency_key()}@hr>"  # should this run twice, it is the same mail
    mailbox.Maildir("mails").add(message)


@approval.run
async def approve(ctx: WorkflowContext, request: Request) -> str:
    if request.amount <= 0:
        raise TerminalError("amount must be positive", code=422)
    await mail(request.approver, f"{request.who} wants {request.amount}: please decide")
    for day in range(1, DAYS + 1):
        try:
            async with asyncio.timeout(DAY_S):  # durable: the next worker goes on with what is left of the day
                made = await ctx.promise(decision)
        except TimeoutError:
            ctx.set(reminders, day)
            await mail(request.approver, f"reminder {day} of {DAYS}: {request.who} wants {request.amount}")
            continue
        outcome = f"{'granted' if made.granted else 'refused'} by {made.by}"
        await mail(request.who, f"your {request.amount}: {outcome}")
        return outcome
    await mail(request.who, f"your {request.amount}: nobody has decided")
    return "expired"


@approval.shared
async def decide(ctx: SharedContext, made: Decision) -> None:
    promise = ctx.promise(decision)
    if not promise.resolve(made):
        raise TerminalError(f"it was decided before: {promise.peek()}", code=409)


@approval.shared
async def status(ctx: SharedContext) -> Status:
    return Status(ctx.get(reminders), ctx.promise(decision).peek())
