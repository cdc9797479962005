"""How a request ended, as its client saw it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
import orjson

from tools.bench import figures
from tools.bench.connection import Exchange

ANSWERED = "answered"  # whole, and right
REFUSED = "refused"  # 429 or 503 that says when to come back
FAILED = "failed"  # another error, as OpenAI's object or as an error event
WRONG = "wrong"  # whole, and not the right answer
LOST = "lost"  # closed without a byte, or an answer that is not the API's
RESET = "reset"  # the connection broke before an answer began
CUT = "cut"  # the answer broke off
HUNG = "hung"  # nothing for longer than a client waits
NEVER = (WRONG, LOST, RESET, CUT, HUNG)
TOLD = (ANSWERED, REFUSED, FAILED)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request's body; what its answer begins with, and how many tokens it has, where that is known."""

    body: bytes
    answer: str | None = None
    tokens: int | None = None
    path: str = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Ended:
    """An outcome; when the request was sent and ended (s, the loop's clock), and what to say of it."""

    outcome: str
    sent: float
    ended: float
    retry_after: float = 0.0
    said: str = ""


async def ask(session: aiohttp.ClientSession, asked: Ask, within: float) -> Ended:
    """Send `asked` and see how it ends; what takes longer than `within` seconds hangs."""
    now = asyncio.get_running_loop().time
    sent, begun = now(), False
    try:
        async with asyncio.timeout(within), session.post(asked.path, data=asked.body) as response:
            begun = True
            body = await response.read()
    except TimeoutError:
        return Ended(HUNG, sent, now())
    except aiohttp.ServerDisconnectedError as error:
        return Ended(LOST, sent, now(), said=repr(error))
    except (aiohttp.ClientError, OSError) as error:
        return Ended(CUT if begun else RESET, sent, now(), said=repr(error))
    outcome = judge(response.status, response.headers, body, asked)
    retry_after = float(response.headers.get("retry-after", 0))
    said = "" if outcome == ANSWERED else f"{response.status} {body[-300:]!r}"
    return Ended(outcome, sent, now(), retry_after, said)


def judge(status: int, headers: Mapping[str, str], body: bytes, asked: Ask) -> str:
    """Return the outcome of an answer that came to its end."""
    if status != 200:
        if not _is_error(body):
            return LOST
        return REFUSED if status in {429, 503} and "retry-after" in headers else FAILED
    if headers.get("content-type", "").startswith("text/event-stream"):
        *_, last = body.removesuffix(b"\n\n").rpartition(b"data: ")
        if last != b"[DONE]":
            return FAILED if _is_error(last) else CUT
    if asked.tokens is None:
        return ANSWERED
    try:
        answer = figures.read(Exchange(0.0, 0.0, status, [(0.0, body)]))
    except (ValueError, LookupError):
        return WRONG
    right = answer.completion_tokens == asked.tokens and answer.text.strip().startswith(asked.answer or "")
    return ANSWERED if right else WRONG


def _is_error(body: bytes) -> bool:
    try:
        content = orjson.loads(body)
        return {"message", "type", "param", "code"} <= set(content["error"])
    except (ValueError, LookupError, TypeError):
        return False
