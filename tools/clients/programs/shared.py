"""What every Python program of the matrix has: where the gateway is, pictures, and how a case is told."""

import asyncio
import base64
import gc
import inspect
import json
import os
import re
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

URL, MODEL, KEY = os.environ["BASE_URL"], os.environ["MODEL"], os.environ["API_KEY"]
STAR, CIRCLE = os.environ["STAR"], os.environ["CIRCLE"]  # a red star and a blue circle, as data URLs
AWAY = os.environ["AWAY_URL"]  # a gateway whose engine is not there: 503
LIMITED = os.environ["LIMITED_KEY"]  # a key with one request a minute: 429 from the second on
LONG = {"ignore_eos": True}  # with it, an answer is as long as `max_tokens` lets it be
QUESTION = "What is in the image?"
ANSWER = "A red star."


def image_bytes(url: str) -> bytes:
    return base64.b64decode(url.partition(",")[2])


def part(url: str = STAR) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def asked(text: str = QUESTION, url: str = STAR) -> dict[str, Any]:
    return {"role": "user", "content": [part(url), {"type": "text", "text": text}]}


def expect(told: Any, wanted: Any) -> None:
    if told != wanted:
        raise AssertionError(f"got {told!r}; wanted {wanted!r}")


def raises(kind: type[BaseException] | tuple[type[BaseException], ...], call: Callable[[], Any]) -> None:
    """Expect `call` to raise one of `kind`."""
    try:
        call()
    except kind:
        return
    raise AssertionError(f"{kind} was not raised")


def twice(call: Callable[[], Any]) -> None:
    """Call it twice: with the key `LIMITED`, the second call is one too many."""
    call()
    call()


@contextmanager
def leaving() -> Iterator[None]:
    """Expect the gateway to see a client leave in this block, and to run nothing within 2 s of its end."""
    left = metric("gateway_clients_left_total")
    yield
    gc.collect()  # some clients have no call that closes a stream: its end is that of the last reference to it
    deadline = time.monotonic() + 2
    while not (free := metric("gateway_clients_left_total") == left + 1 and not running()):
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    gone = metric("gateway_clients_left_total") - left
    assert free, f"after 2 s the gateway saw {gone:g} clients leave; jobs in the gateway and the engine: {running():g}"


def running() -> float:
    return metric("gateway_in_flight") + metric("vllm:num_requests_running")


def metric(name: str) -> float:
    """Return the gateway's metric of that name, summed over its labels."""
    with urllib.request.urlopen(URL.removesuffix("/v1") + "/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if re.match(rf"{name}[ {{]", line))


def run(cases: dict[str, Callable[[], Any]], at_end: Callable[[], Any] = lambda: None) -> None:
    """Run each case and write one line of JSON for it; what raises has failed, and says why on stderr."""
    for name, case in cases.items():
        try:
            if inspect.iscoroutinefunction(case):
                asyncio.run(case())
            else:
                case()
        except Exception as error:
            traceback.print_exc()
            told = {"case": name, "ok": False, "why": f"{type(error).__name__}: {error}"[:300]}
        else:
            told = {"case": name, "ok": True}
        print(json.dumps(told), flush=True)
    sys.stdout.flush()
    at_end()
    os._exit(0)  # some clients leave threads behind that wait
