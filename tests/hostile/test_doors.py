"""Every door but chat is attacked: the exact answer, and after each the next honest one is answered."""

import asyncio
from typing import Any

import orjson
import pytest

from tests.api.asking import saying, send, text
from tests.api.wire import CHAT, connected
from tests.hostile.cases import outcome, serves
from tests.hostile.doors import batch, response
from tests.hostile.judged import doors
from tests.hostile.stored import form
from tests.scripted_engine import MODEL
from tests.servers import Gateway
from tests.shapes import encoded

pytestmark = pytest.mark.slow

GROUP = 20  # attacks between two honest requests


async def test_every_attacked_door_has_its_answer_and_the_honest_ones_between_too(attacked: Gateway) -> None:
    wrong = []
    for number, door in enumerate(doors(MODEL.image_token), 1):
        try:
            async with connected(attacked) as connection:
                await connection.send(door.sent)
                answer = await connection.answer()
            assert outcome(answer) == door.outcome, answer.body[:300]
            if number % GROUP == 0:
                await serves(attacked)
        except (AssertionError, TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            wrong.append(f"{door.name}: {error!r}"[:400])
    await serves(attacked)
    assert wrong == []


async def test_what_one_caller_stored_is_told_to_another_as_what_is_not_there(attacked: Gateway) -> None:
    async def ask(key: str, method: str, path: str, **body: Any) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {key}"}
        answer = await send(attacked, method, path, headers=headers, **body)
        content = orjson.loads(answer.body)
        return answer.status, content if answer.status == 200 else content["error"]["code"]

    part = ("file", b"star.png", encoded("star", "red"))
    upload = {"content": form(("purpose", None, b"vision"), part)}
    kind = {"content-type": "multipart/form-data; boundary=b", "authorization": "Bearer eve"}
    stored = await send(attacked, "POST", "/v1/files", headers=kind, **upload)
    file = orjson.loads(stored.body)["id"]
    _, told = await ask("eve", "POST", "/v1/responses", json=response())
    _, items = await ask("eve", "GET", f"/v1/responses/{told['id']}/input_items")
    item = items["data"][0]["id"]
    by_id = {"type": "input_image", "file_id": file}
    attacks: list[tuple[str, str, dict[str, Any], tuple[int, str]]] = [
        ("GET", f"/v1/files/{file}", {}, (404, "not_found")),
        ("GET", f"/v1/files/{file}/content", {}, (404, "not_found")),
        ("DELETE", f"/v1/files/{file}", {}, (404, "not_found")),
        ("POST", "/v1/batches", {"json": batch(input_file_id=file)}, (400, "invalid_value")),
        (
            *("POST", CHAT),
            {"json": {"model": MODEL.name, "messages": saying(by_id, text("x"))}},
            (400, "invalid_image"),
        ),
        (
            *("POST", "/v1/responses"),
            {"json": response(input=[{"role": "user", "content": [by_id]}])},
            (400, "invalid_image"),
        ),
        (
            *("POST", "/v1/responses"),
            {"json": response(previous_response_id=told["id"])},
            (400, "previous_response_not_found"),
        ),
        ("POST", "/v1/responses", {"json": response(input=[{"id": item}])}, (400, "invalid_value")),
        ("GET", f"/v1/responses/{told['id']}", {}, (404, "not_found")),
        ("GET", f"/v1/responses/{told['id']}/input_items", {}, (404, "not_found")),
        ("DELETE", f"/v1/responses/{told['id']}", {}, (404, "not_found")),
    ]
    for method, path, body, expected in attacks:
        assert await ask("ann", method, path, **body) == expected, path
    assert (await ask("eve", "GET", f"/v1/responses/{told['id']}"))[0] == 200
    shown = saying(by_id, text("What is it?"))
    assert (await ask("eve", "POST", CHAT, json={"model": MODEL.name, "messages": shown}))[0] == 200
