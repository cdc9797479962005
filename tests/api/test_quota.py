"""What one caller stores does not fill the storage for the others."""

import sqlite3
from pathlib import Path

import httpx2
import orjson

from gateway.storage.database import NAME
from tests.api.asking import reaches, sdk
from tests.api.test_batches import ended, line, lines_of, start
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, scripted_gateway

KEYS = {"state_max_bytes": 10 * 2**20, "api_keys": "eve:eve,ann:ann"}
MIB = 2**20


def caller(gateway: Gateway, name: str) -> httpx2.AsyncClient:
    headers = {"authorization": f"Bearer {name}"}
    return httpx2.AsyncClient(
        base_url=gateway.url, headers=headers, trust_env=False, timeout=30, verify=False
    )


async def upload(http: httpx2.AsyncClient, size: int) -> httpx2.Response:
    return await http.post("/v1/files", data={"purpose": "user_data"}, files={"file": ("x", bytes(size))})


def usage(folder: Path) -> dict[str, int]:
    connection = sqlite3.connect(folder / NAME)
    try:
        return dict(connection.execute("SELECT caller, bytes FROM usage"))
    finally:
        connection.close()


async def test_a_caller_who_stores_too_much_is_refused_and_others_are_not(tmp_path: Path) -> None:
    async with (
        scripted_gateway(ScriptedEngine(), state_dir=tmp_path, **KEYS) as gateway,
        caller(gateway, "eve") as eve,
        caller(gateway, "ann") as ann,
    ):
        first = await upload(eve, MIB)
        assert first.status_code == 200
        assert (await upload(eve, MIB)).status_code == 200
        refused = await upload(eve, MIB)
        assert refused.status_code == 507
        assert refused.json()["error"] == {
            "message": "your files, batches and stored responses may take 2621440 bytes; "
            "delete what is no longer needed",
            "type": "server_error",
            "param": None,
            "code": "storage_quota_exceeded",
        }
        assert (await upload(ann, MIB)).status_code == 200
        await eve.delete(f"/v1/files/{first.json()['id']}")
        assert (await upload(eve, MIB)).status_code == 200


async def test_responses_count_and_one_that_does_not_fit_is_answered(tmp_path: Path) -> None:
    chosen = {**KEYS, "state_max_bytes_per_caller": 10_000}
    async with (
        scripted_gateway(ScriptedEngine(), state_dir=tmp_path, **chosen) as gateway,
        caller(gateway, "eve") as eve,
        caller(gateway, "ann") as ann,
    ):
        ask = {"model": "llava-demo", "input": "a" * 1500}
        stored = [(await eve.post("/v1/responses", json=ask)).json()["store"] for _ in range(5)]
        assert stored[0] is True
        assert stored[-1] is False
        insists = await eve.post("/v1/responses", json=ask | {"store": True})
        assert (insists.status_code, insists.json()["error"]["code"]) == (507, "storage_quota_exceeded")
        assert (await ann.post("/v1/responses", json=ask)).json()["store"] is True


async def test_a_batch_whose_results_have_no_room_ends_as_failed_with_those_that_had(tmp_path: Path) -> None:
    chosen = {**KEYS, "state_max_bytes_per_caller": 45_000, "batch_max_running": 1}
    engine = ScriptedEngine(("long ",) * 400)  # 2,000 bytes
    async with scripted_gateway(engine, state_dir=tmp_path, **chosen) as gateway:
        eve, ann = (sdk(gateway, api_key=name) for name in ("eve", "ann"))
        async with eve, ann:
            batch = await ended(eve, await start(eve, [line(f"line-{n}") for n in range(20)]))
            assert batch.status == "failed"
            assert batch.errors is not None
            assert [error.code for error in batch.errors.data or []] == ["storage_quota_exceeded"]
            assert batch.request_counts is not None
            answered = batch.request_counts.completed
            assert 5 <= answered <= 12
            # What was answered is there, though the file and the results together are over the quota.
            assert len(await lines_of(eve, batch.output_file_id)) == answered
            never = await lines_of(eve, batch.error_file_id)
            assert [some["error"]["code"] for some in never] == ["storage_quota_exceeded"] * (20 - answered)
            # What is over it is of the files' own rows and of those that were never answered.
            assert sum(usage(tmp_path).values()) < 45_000 + 2 * 1100 + 300 * len(never)
            assert (await ended(ann, await start(ann, [line("one")]))).status == "completed"
            # Deleting makes room for another.
            for file in (await eve.files.list()).data:
                await eve.files.delete(file.id)
            assert (await ended(eve, await start(eve, [line("one")]))).status == "completed"


async def test_a_batch_whose_input_has_no_room_ends_as_failed(tmp_path: Path) -> None:
    chosen = {**KEYS, "state_max_bytes_per_caller": 30_000}
    async with scripted_gateway(ScriptedEngine(), state_dir=tmp_path, **chosen) as gateway:
        async with sdk(gateway, api_key="eve") as eve:
            asked = line("one", messages=[{"role": "user", "content": "a" * 16_000}])
            batch = await ended(eve, await start(eve, [asked]))
            assert (batch.status, batch.output_file_id, batch.error_file_id) == ("failed", None, None)
            assert batch.errors is not None
            assert [error.code for error in batch.errors.data or []] == ["storage_quota_exceeded"]
        await reaches(gateway, gateway_batch_lines_running=0)


async def test_what_is_deleted_is_not_counted(tmp_path: Path) -> None:
    async with (
        scripted_gateway(ScriptedEngine(), state_dir=tmp_path, **KEYS) as gateway,
        caller(gateway, "eve") as eve,
    ):
        made = (await upload(eve, 2 * MIB)).json()
        assert list(usage(tmp_path).values()) == [2 * MIB + 500 + len("x") + 2 * 200]
        ask = {"model": "llava-demo", "input": "Hello", "store": True}
        response = (await eve.post("/v1/responses", json=ask)).json()
        await eve.delete(f"/v1/files/{made['id']}")
        assert 1000 < sum(usage(tmp_path).values()) < 10_000
        await eve.delete(f"/v1/responses/{response['id']}")
    assert usage(tmp_path) == {}


async def test_uploads_and_batches_count_as_requests() -> None:
    async with (
        scripted_gateway(ScriptedEngine(), **KEYS, requests_per_minute=2) as gateway,
        caller(gateway, "eve") as eve,
        caller(gateway, "ann") as ann,
    ):
        content = {"file": ("x", orjson.dumps(line("one")))}
        made = await eve.post("/v1/files", data={"purpose": "batch"}, files=content)
        assert made.headers["x-ratelimit-remaining-requests"] == "1"
        asked = {
            "input_file_id": made.json()["id"],
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        }
        assert (await eve.post("/v1/batches", json=asked)).status_code == 200
        refused = [await eve.post("/v1/batches", json=asked), await upload(eve, 1)]
        assert [answer.status_code for answer in refused] == [429, 429]
        assert [answer.json()["error"]["code"] for answer in refused] == ["rate_limit_exceeded"] * 2
        assert (await eve.delete(f"/v1/files/{asked['input_file_id']}")).status_code == 200
        assert (await upload(ann, 1)).status_code == 200
