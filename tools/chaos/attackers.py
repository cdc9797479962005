"""Callers who mean harm, all with one API key that is not the honest callers'."""

import asyncio
import io
import random
from collections.abc import Awaitable, Callable, Iterable

import orjson
import pybase64
from PIL import Image

from gateway.generation.sampling import MOST_LOGPROBS
from tests.api.asking import MODEL, chat, image, saying
from tests.api.wire import CHAT, Connection, connected, head, post
from tests.engine.test_leaving import small_window
from tests.servers import Gateway
from tools.chaos.load import PATIENCE, Tally, session
from tools.chaos.origin import KINDS
from tools.chaos.outcomes import CUT, FAILED, HUNG, Ask, Ended, ask
from tools.chaos.poison.poison_plugin import SEED

POISON = orjson.dumps(chat(seed=SEED, temperature=1, max_tokens=8))


async def flood(url: str, key: str, bodies: Iterable[bytes], tally: Tally, path: str = CHAT) -> None:
    """Send all bodies at once."""
    async with session(url, key) as client:
        sent = [asyncio.create_task(ask(client, Ask(body, path=path), PATIENCE)) for body in bodies]
        for ended in asyncio.as_completed(sent):
            tally.add(await ended)


def texts(count: int) -> list[bytes]:
    """Return texts of 64 tokens each."""
    return [
        orjson.dumps(
            chat(messages=[{"role": "user", "content": f"Overload {n}"}], max_tokens=64, ignore_eos=True)
        )
        for n in range(count)
    ]


def fetches(origin: str, count: int) -> list[bytes]:
    return [
        orjson.dumps(chat(messages=saying(image(f"{origin}/{KINDS[n % len(KINDS)]}")))) for n in range(count)
    ]


def bombs(count: int) -> list[bytes]:
    """Return pictures that are small as files and large as pixels: some within the limit, some over it."""
    files = []
    for kind, side in (("webp", 8000), ("png", 7900), ("png", 16_000), ("gif", 7000)):
        out = io.BytesIO()
        Image.new("L" if kind != "webp" else "RGB", (side, side)).save(out, kind)
        files.append(f"data:image/{kind};base64,{pybase64.b64encode(out.getvalue()).decode()}")
    return [orjson.dumps(chat(messages=saying(image(files[n % 4])), max_tokens=4)) for n in range(count)]


def stored(count: int) -> list[bytes]:
    """Return requests to `/v1/responses`, whose inputs are stored: more than SQLite's log has room for."""
    return [
        orjson.dumps(
            {
                "model": MODEL,
                "input": [
                    {"role": "user", "content": [{"type": "input_image", "image_url": _noise(number)}]}
                ],
                "max_output_tokens": 4,
                "store": True,  # without it the answer comes, and says that it is not stored
            }
        )
        for number in range(count)
    ]


def _noise(number: int) -> str:
    """Return a picture that does not compress, of about 1 MB."""
    out = io.BytesIO()
    pixels = random.Random(number).randbytes(600 * 600 * 3)
    Image.frombytes("RGB", (600, 600), pixels).save(out, "PNG")
    return f"data:image/png;base64,{pybase64.b64encode(out.getvalue()).decode()}"


async def slow_bodies(gateway: Gateway, key: str, count: int, tally: Tally) -> None:
    """Send `count` bodies at two bytes a second."""

    async def one(connection: Connection) -> None:
        await connection.send(head("POST", CHAT, "content-length: 5000", f"authorization: Bearer {key}"))
        answer = asyncio.create_task(connection.answer(PATIENCE))
        while not answer.done():
            await connection.send(b" ")
            await asyncio.sleep(0.5)
        status = (await answer).status
        if status not in {408, 503}:
            raise ConnectionError(f"got {status}")

    await _each(gateway, count, tally, one, FAILED)


async def slow_readers(gateway: Gateway, key: str, count: int, tally: Tally) -> None:
    """Ask for `count` long streams and read nothing of them; the gateway closes the connections."""
    body = chat(stream=True, n=8, temperature=1, logprobs=True, top_logprobs=20)
    body |= {"ignore_eos": True, "max_tokens": MOST_LOGPROBS // (8 * 21)}

    async def one() -> None:
        now = asyncio.get_running_loop().time
        sent = now()
        try:
            async with asyncio.timeout(PATIENCE), small_window(gateway) as connection:
                await connection.send(post(body, f"authorization: Bearer {key}"))
                await connection.head()
                await asyncio.sleep(10)  # longer than GATEWAY_SEND_TIMEOUT
        except TimeoutError:
            tally.add(Ended(HUNG, sent, now()))
        except OSError as error:
            tally.add(Ended(CUT, sent, now(), said=repr(error)))
        else:
            tally.add(Ended("unread", sent, now()))

    await asyncio.gather(*(one() for _ in range(count)))


async def leavers(gateway: Gateway, key: str, count: int, tally: Tally) -> None:
    """Leave in the head, in the body, after the request, and in the answer."""
    rng = random.Random(0)
    whole = post(chat(stream=True, max_tokens=500, ignore_eos=True), f"authorization: Bearer {key}")

    async def one(connection: Connection) -> None:
        await connection.send(whole[: rng.choice((20, whole.index(b"\r\n\r\n") + 20, len(whole)))])
        await asyncio.sleep(rng.random() / 2)

    for _ in range(count // 20):
        await _each(gateway, 20, tally, one, "left")


async def _each(
    gateway: Gateway,
    count: int,
    tally: Tally,
    act: Callable[[Connection], Awaitable[None]],
    outcome: str,
) -> None:
    """Do `act` on `count` connections at once; the outcome is `outcome` where it comes to its end."""

    async def one() -> None:
        now = asyncio.get_running_loop().time
        sent = now()
        try:
            async with connected(gateway) as connection:
                await act(connection)
        except TimeoutError:
            tally.add(Ended(HUNG, sent, now()))
        except (OSError, asyncio.IncompleteReadError) as error:
            tally.add(Ended(CUT, sent, now(), said=repr(error)))
        else:
            tally.add(Ended(outcome, sent, now()))

    await asyncio.gather(*(one() for _ in range(count)))
