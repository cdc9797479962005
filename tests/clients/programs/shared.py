"""What every Python program of the matrix has: where the gateway is, pictures, and how a case is told."""

import asyncio
import base64
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

URL, MODEL, KEY = os.environ["BASE_URL"], os.environ["MODEL"], os.environ["API_KEY"]
STAR, CIRCLE = os.environ["STAR"], os.environ["CIRCLE"]  # a red star and a blue circle, as data URLs
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
