"""The cases of vLLM's own test of pictures in chats, against a gateway and with the demo model's pictures.

They are those of vLLM's tests/entrypoints/openai/test_vision.py: what is asked and expected is vLLM's, the
code and the pictures are ours. Four pictures (JPEG and PNG; grey, RGB, RGBA) stand at URLs on this machine.
"""

import base64
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import openai
from aiohttp import web
from openai import AsyncOpenAI
from PIL import Image

from tests.shapes import encoded
from tools.conformance.suites import Outcome

FORMS = (("jpeg", "RGB"), ("png", "L"), ("png", "RGB"), ("png", "RGBA"))
QUESTION = "What's in this image?"
LENGTH = 10  # tokens of an answer


def pictures() -> list[bytes]:
    """Return four encoded pictures of one shape."""
    found = []
    for form, mode in FORMS:
        buffer = io.BytesIO()
        Image.open(io.BytesIO(encoded("star", "red"))).convert(mode).save(buffer, form)
        found.append(buffer.getvalue())
    return found


@asynccontextmanager
async def served(contents: list[bytes]) -> AsyncIterator[list[str]]:
    """Serve the pictures on this machine; yield their addresses."""

    async def picture(request: web.Request) -> web.Response:
        return web.Response(body=contents[int(request.match_info["place"])])

    app = web.Application()
    app.router.add_get("/{place}", picture)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield [f"http://{host}:{port}/{place}" for place in range(len(contents))]
    finally:
        await runner.cleanup()


class Vision:
    """The cases. Each is a method that raises where the gateway does not do what vLLM's server does."""

    def __init__(self, client: AsyncOpenAI, model: str) -> None:
        self._client = client
        self._model = model

    async def ask(self, messages: list[Any], **fields: Any) -> Any:
        return await self._client.chat.completions.create(model=self._model, messages=messages, **fields)

    async def session(self, url: str) -> None:
        messages = user(url)
        # The demo model is brief: vLLM's case wants ten tokens, so its end is ignored.
        fields: dict[str, Any] = {"logprobs": True, "temperature": 0.0, "top_logprobs": 5}
        whole = await self.ask(
            messages, max_completion_tokens=LENGTH, extra_body={"ignore_eos": True}, **fields
        )
        (choice,) = whole.choices
        assert choice.finish_reason == "length"
        assert whole.usage.completion_tokens == LENGTH
        assert whole.usage.total_tokens == whole.usage.prompt_tokens + LENGTH
        assert len(choice.message.content) >= LENGTH
        assert choice.message.role == "assistant"
        messages += [
            {"role": "assistant", "content": choice.message.content},
            {"role": "user", "content": "express your result in json"},
        ]
        again = await self.ask(messages, max_completion_tokens=LENGTH)
        assert again.choices[0].message.content is not None

    async def url_is_a_string(self, url: str) -> None:
        content = [{"type": "image_url", "image_url": url}, {"type": "text", "text": QUESTION}]
        await self.refused([{"role": "user", "content": content}], max_completion_tokens=LENGTH)

    async def beam_search(self, url: str) -> None:
        found = await self.ask(
            user(url), n=2, max_completion_tokens=LENGTH, extra_body={"use_beam_search": True}
        )
        first, second = found.choices
        assert first.message.content != second.message.content

    async def streamed(self, url: str) -> None:
        fields = {"max_completion_tokens": LENGTH, "temperature": 0.0}
        whole = await self.ask(user(url), **fields)
        texts, ends = [], []
        async for chunk in await self.ask(user(url), stream=True, **fields):
            texts.append(chunk.choices[0].delta.content or "")
            ends += [chunk.choices[0].finish_reason] if chunk.choices[0].finish_reason else []
        assert ends == [whole.choices[0].finish_reason]
        assert "".join(texts) == whole.choices[0].message.content

    async def several(self, *urls: str) -> None:
        found = await self.ask(user(*urls), max_completion_tokens=LENGTH, temperature=0.0)
        assert found.choices[0].message.content is not None

    async def too_many(self, *urls: str) -> None:
        await self.refused(user(*urls), max_completion_tokens=LENGTH)
        after = await self._client.completions.create(
            model=self._model, prompt=[0, 0, 0, 0, 0], max_tokens=5, temperature=0.0
        )
        assert after.choices[0].text is not None

    async def text_first(self, url: str, part: dict[str, Any] | None = None) -> None:
        picture = {"type": "image_url", "image_url": {"url": url}, **(part or {})}
        found = await self.ask(described(picture))
        assert found.choices[0].message.content

    async def known_uuid(self, url: str) -> None:
        await self.text_first(url, {"uuid": url})
        found = await self.ask(described({"type": "image_url", "image_url": {}, "uuid": url}))
        assert found.choices[0].message.content

    async def unknown_uuid(self) -> None:
        await self.refused(described({"type": "image_url", "image_url": {}, "uuid": "never seen"}))

    async def misspelt_uuid(self, url: str) -> None:
        inside = {"url": url, "incorrect_uuid_key": url}
        await self.text_first(url, {"image_url": inside, "also_incorrect_uuid_key": url})

    async def refused(self, messages: list[Any], **fields: Any) -> None:
        try:
            await self.ask(messages, **fields)
        except openai.BadRequestError:
            return
        raise AssertionError("it was not refused")


async def run(api: str, model: str, most: int) -> list[Outcome]:
    """Run all cases; `most` is how many pictures a request may have."""
    contents = pictures()
    found: list[Outcome] = []

    async def case(name: str, run: Callable[..., Awaitable[None]], *arguments: str) -> None:
        try:
            await run(*arguments)
            found.append(Outcome("vLLM's test_vision", name))
        except (AssertionError, openai.APIError) as error:
            found.append(Outcome("vLLM's test_vision", name, str(error)[:300] or "not as vLLM's server"))

    async with (
        served(contents) as urls,
        AsyncOpenAI(base_url=api, api_key="none", max_retries=0, timeout=120) as client,
    ):
        vision = Vision(client, model)
        for (form, mode), url, content in zip(FORMS, urls, contents, strict=True):
            kind = f"{form} {mode}"
            data = f"data:image/{form};base64,{base64.b64encode(content).decode()}"
            await case(f"session, URL, {kind}", vision.session, url)
            await case(f"session, base64, {kind}", vision.session, data)
            await case(f"`image_url` is a string, {kind}", vision.url_is_a_string, url)
            await case(f"beam search, URL, {kind}", vision.beam_search, url)
            await case(f"beam search, base64, {kind}", vision.beam_search, data)
            await case(f"streamed, {kind}", vision.streamed, url)
            await case(f"text first, {kind}", vision.text_first, url)
            await case(f"a known `uuid` in the picture's place, {kind}", vision.known_uuid, url)
            await case(f"unknown keys beside the picture, {kind}", vision.misspelt_uuid, url)
        for count in (2, 3):
            await case(f"{count} pictures", vision.several, *urls[:count])
        await case("too many pictures, then a completion", vision.too_many, *(urls[:1] * (most + 1)))
        await case("an unknown `uuid` in the picture's place", vision.unknown_uuid)
    return found


def user(*urls: str) -> list[Any]:
    parts: list[Any] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": QUESTION}]}]


def described(picture: dict[str, Any]) -> list[Any]:
    text = {"type": "text", "text": "Describe this image."}
    return [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": [text, picture]},
    ]
