"""The gateway listens before its engine runs, says how far that is, and starts another when it dies."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import openai
import orjson
import pytest
import structlog

from engine_config.progress import Progress
from gateway.engine import supervisor as supervision
from gateway.engine.interface import Delta, Job
from gateway.engine.supervisor import Report
from gateway.errors import EngineDied
from gateway.telemetry.metrics import Metrics
from tests.api.asking import ask, chat, events, reaches, sdk, send
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, metric, supervised_gateway, until


class Workshop:
    """Makes engines, each as `plans` says in its turn; the last plan holds for all that follow."""

    def __init__(self, *plans: dict[str, Any]) -> None:
        self._plans = plans
        self.made: list[ScriptedEngine] = []
        self.reports: list[Report] = []
        self.failures: list[BaseException] = []

    def make(self, report: Report) -> ScriptedEngine:
        engine = ScriptedEngine(**self._plans[min(len(self.made), len(self._plans) - 1)])
        self.made.append(engine)
        self.reports.append(report)
        return engine


@asynccontextmanager
async def supervised(workshop: Workshop) -> AsyncIterator[Gateway]:
    async with supervised_gateway(workshop.make, workshop.failures.append) as gateway:
        yield gateway


@asynccontextmanager
async def ready(workshop: Workshop) -> AsyncIterator[Gateway]:
    """Yield a gateway whose first engine runs."""
    async with supervised(workshop) as gateway:
        await until(lambda: len(workshop.made) == 1)
        workshop.made[0].started.set()
        await is_ready(gateway)
        yield gateway


async def is_ready(gateway: Gateway) -> None:
    supervisor = gateway.supervisor
    assert supervisor is not None
    await until(lambda: supervisor.ready)


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(supervision, "POLL", 0.01)


pytestmark = pytest.mark.usefixtures("_impatient")


async def test_until_the_engine_is_up_requests_get_503_with_its_stage_and_when_to_return() -> None:
    workshop = Workshop({})
    async with supervised(workshop) as gateway, sdk(gateway) as client:
        await until(lambda: len(workshop.made) == 1)
        workshop.reports[0]("loading the weights")
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(**chat())
        assert caught.value.status_code == 503
        assert caught.value.code == "engine_not_ready"
        assert "loading the weights" in caught.value.message
        assert caught.value.response.headers["retry-after"] == "5"

        workshop.made[0].started.set()
        await is_ready(gateway)
        assert (await client.chat.completions.create(**chat())).choices[0].message.content == "A red circle."
    assert workshop.failures == []


async def test_health_says_live_at_once_and_ready_when_the_engine_is() -> None:
    workshop = Workshop({})
    async with supervised(workshop) as gateway:
        await until(lambda: len(workshop.made) == 1)
        workshop.reports[0]("loading the weights")
        assert (await send(gateway, "GET", "/health/live")).status == 200
        for path in ("/health", "/health/ready"):
            answer = await send(gateway, "GET", path)
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
            state = orjson.loads(answer.body)
            assert 0 <= state.pop("seconds") < 60
            assert state == {"status": "starting", "stage": "loading the weights"}
        assert await metric(gateway, "gateway_ready") == 0

        workshop.made[0].started.set()
        await is_ready(gateway)
        for path in ("/health", "/health/ready"):
            answer = await send(gateway, "GET", path)
            assert (answer.status, answer.body) == (200, b'{"status":"ready"}')
        assert await metric(gateway, "gateway_ready") == 1


async def test_health_and_metrics_say_how_many_bytes_of_the_weights_are_loaded() -> None:
    workshop = Workshop({})
    async with supervised(workshop) as gateway:
        await until(lambda: len(workshop.made) == 1)
        workshop.reports[0]("loading the weights", Progress(3_200_000_000, 14_100_000_000, 85e6, "loading"))
        state = orjson.loads((await send(gateway, "GET", "/health/ready")).body)
        assert state["stage"] == "loading the weights: 3.2 of 14.1 GB, 85 MB/s, 2 min left"
        assert state["progress"] == {
            "step": "loading",
            "done_bytes": 3_200_000_000,
            "total_bytes": 14_100_000_000,
            "seconds_left": 128.2,
        }
        assert await metric(gateway, "gateway_weights_done_bytes", step="loading") == 3_200_000_000
        assert await metric(gateway, "gateway_weights_size_bytes", step="loading") == 14_100_000_000
        assert await metric(gateway, "gateway_weights_size_bytes", step="fetching") == 0

        workshop.made[0].started.set()
        await is_ready(gateway)
        assert await metric(gateway, "gateway_weights_size_bytes") == 0


async def test_log_tells_the_progress_of_a_stage_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(supervision, "time", SimpleNamespace(monotonic=lambda: clock.now))
    supervisor = supervision.Supervisor(lambda _: ScriptedEngine(), Metrics())
    with structlog.testing.capture_logs() as lines:
        for done in range(41):
            supervisor._set_stage("loading the weights", Progress(done * 10**8, 4 * 10**9, 2e8, "loading"))
            clock.now += 0.5
    assert [(line["seconds"], line["progress"]) for line in lines] == [
        (0.0, "0.0 of 4.0 GB, 200 MB/s, 20 s left"),
        (10.0, "2.0 of 4.0 GB, 200 MB/s, 10 s left"),
        (20.0, "4.0 of 4.0 GB, 200 MB/s, 0 s left"),
    ]


async def test_models_and_bad_requests_are_answered_while_the_engine_starts() -> None:
    async with supervised(Workshop({})) as gateway:
        assert (await send(gateway, "GET", "/v1/models")).status == 200
        assert (await ask(gateway, chat(n=0))).status == 400


async def test_dead_engine_gets_no_requests_even_before_it_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervision, "POLL", 60)
    workshop = Workshop({})
    async with ready(workshop) as gateway:
        workshop.made[0].failed = True
        answer = await ask(gateway)
        assert (answer.status, answer.error["code"]) == (503, "engine_not_ready")
        assert "the engine died" in answer.error["message"]
        health = await send(gateway, "GET", "/health")
        assert (health.status, orjson.loads(health.body)["stage"]) == (503, "the engine died")
    assert workshop.made[0].jobs == []


async def test_dead_engine_is_ended_and_another_started() -> None:
    workshop = Workshop({}, {"words": ("Again",)})
    async with ready(workshop) as gateway:
        workshop.made[0].failed = True
        answer = await ask(gateway)
        assert (answer.status, answer.error["code"]) == (503, "engine_not_ready")
        assert answer.headers["retry-after"] == "5"

        await until(lambda: len(workshop.made) == 2)
        assert workshop.made[0].shutdowns == 1
        health = await send(gateway, "GET", "/health/ready")
        assert (health.status, orjson.loads(health.body)["stage"]) == (503, "starting again")
        assert await metric(gateway, "gateway_ready") == 0
        assert await metric(gateway, "gateway_engine_restarts_total") == 1

        workshop.made[1].started.set()
        await is_ready(gateway)
        assert b'"Again"' in (await ask(gateway)).body
        assert await metric(gateway, "gateway_ready") == 1
    assert workshop.failures == []
    assert [engine.shutdowns for engine in workshop.made] == [1, 1]


async def test_engine_that_dies_twice_is_started_twice() -> None:
    workshop = Workshop({})
    async with ready(workshop) as gateway:
        for _ in range(2):
            dead = workshop.made[-1]
            dead.failed = True
            await until(lambda dead=dead: workshop.made[-1] is not dead)  # type: ignore[misc]  # bound now, not later
            workshop.made[-1].started.set()
            await is_ready(gateway)
        assert await metric(gateway, "gateway_engine_restarts_total") == 2
        assert (await ask(gateway)).status == 200


async def test_answer_under_way_when_the_engine_dies_ends_with_an_error() -> None:
    workshop = Workshop({"pause": 0.2}, {})
    async with ready(workshop) as gateway:
        asking = asyncio.create_task(events(gateway))
        await until(lambda: workshop.made[0].running == 1)
        workshop.made[0].pause = 60  # before the second word
        await reaches(gateway, gateway_completion_tokens_total=1)
        workshop.made[0].failed = True
        _, word, last = await asking
    assert orjson.loads(word)["choices"][0]["delta"]["content"] == "A"
    assert orjson.loads(last)["error"]["code"] == "engine_died"


async def test_what_has_sent_nothing_when_the_engine_dies_runs_on_the_next() -> None:
    workshop = Workshop({"pause": 60}, {"words": ("Again",)})
    async with ready(workshop) as gateway:
        asking = [asyncio.create_task(ask(gateway, chat(stream=bool(i % 2)))) for i in range(6)]
        await until(lambda: workshop.made[0].running == 6)
        workshop.made[0].failed = True
        await until(lambda: len(workshop.made) == 2)
        workshop.made[1].started.set()
        answers = await asyncio.gather(*asking)
        assert [answer.status for answer in answers] == [200] * 6
        assert all(b'"Again"' in answer.body for answer in answers)
        assert await metric(gateway, "gateway_jobs_run_again_total") == 6


async def test_a_job_that_the_engine_dies_of_twice_is_refused_and_those_beside_it_are_not() -> None:
    class Poisoned(ScriptedEngine):
        async def generate(self, job: Job) -> AsyncGenerator[Delta]:
            self.jobs.append(job)
            await asyncio.sleep(0.05)  # until all have come
            if job.sampling.seed == 666:
                self.failed = True
            if self.failed:
                raise EngineDied("the engine died")
            yield self._delta(job, 0, "A", "stop")

    made: list[Poisoned] = []

    def make(_: Report) -> ScriptedEngine:
        made.append(Poisoned())
        made[-1].started.set()
        return made[-1]

    failures: list[BaseException] = []
    async with supervised_gateway(make, failures.append) as gateway:
        await is_ready(gateway)
        poison = asyncio.create_task(ask(gateway, chat(seed=666)))
        others = [asyncio.create_task(ask(gateway, chat(seed=seed))) for seed in range(5)]
        assert (await poison).error["code"] == "engine_died"
        # None of them had sent anything: each ran again, after the poison, on the third engine.
        answers = await asyncio.gather(*others)
        assert [answer.status for answer in answers] == [200] * 5
        await is_ready(gateway)
        again = [await ask(gateway, chat(seed=seed)) for seed in range(5)]
        assert [answer.status for answer in again] == [200] * 5
        count = len(made)
        refused = await ask(gateway, chat(seed=666))
        assert (refused.status, refused.error["code"]) == (400, "poison_request")
        assert len(made) == count == 3
    assert failures == []


async def test_a_job_that_has_run_to_its_end_is_suspected_no_longer() -> None:
    workshop = Workshop({"pause": 0.2}, {"pause": 0.2}, {})
    async with supervised_gateway(workshop.make, workshop.failures.append) as gateway:
        for dies in range(2):
            await until(lambda dies=dies: len(workshop.made) == dies + 1)  # type: ignore[misc]
            engine = workshop.made[dies]
            engine.started.set()
            await is_ready(gateway)
            asking = asyncio.create_task(ask(gateway))
            await until(lambda engine=engine: engine.running == 1)  # type: ignore[misc]
            engine.failed = True
            await until(lambda dies=dies: len(workshop.made) == dies + 2)  # type: ignore[misc]
            workshop.made[dies + 1].started.set()
            assert (await asking).status == 200


@pytest.mark.parametrize("busy", [False, True])
async def test_an_engine_that_hangs_is_replaced(*, busy: bool) -> None:
    workshop = Workshop({"pause": 60}, {})
    async with supervised_gateway(workshop.make, workshop.failures.append, heartbeat_timeout=0.4) as gateway:
        await until(lambda: len(workshop.made) == 1)
        workshop.made[0].started.set()
        await is_ready(gateway)
        asking = asyncio.create_task(ask(gateway)) if busy else None
        await asyncio.sleep(0.6)
        assert len(workshop.made) == 1  # it answers the probes
        workshop.made[0].stuck = True
        await until(lambda: len(workshop.made) == 2)
        workshop.made[1].started.set()
        assert await metric(gateway, "gateway_engine_hangs_total") == 1
        if asking is not None:
            assert (await asking).status == 200


async def test_an_engine_that_works_without_a_word_is_left_to_work(monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = Workshop({"stuck": True}, {})
    monkeypatch.setattr(ScriptedEngine, "effort", lambda _: time.monotonic())
    async with supervised_gateway(workshop.make, workshop.failures.append, heartbeat_timeout=0.2) as gateway:
        await until(lambda: len(workshop.made) == 1)
        workshop.made[0].started.set()
        await is_ready(gateway)
        await asyncio.sleep(1.5)
        assert len(workshop.made) == 1


async def test_an_engine_that_has_worked_much_and_then_hangs_is_found_as_soon() -> None:
    workshop = Workshop({"words": (" a",) * 1000, "pause": 0.05}, {})
    async with supervised_gateway(workshop.make, workshop.failures.append, heartbeat_timeout=0.4) as gateway:
        await until(lambda: len(workshop.made) == 1)
        first = workshop.made[0]
        first.started.set()
        await is_ready(gateway)
        asking = asyncio.create_task(ask(gateway))
        await asyncio.sleep(0.5)
        first.cpu_seconds += 100
        first.pause, first.stuck = 60, True
        await until(lambda: len(workshop.made) == 2)
        workshop.made[1].started.set()
        assert await metric(gateway, "gateway_engine_hangs_total") == 1
        assert (await asking).error["code"] == "engine_died"


async def test_engine_that_cannot_be_ended_is_replaced_all_the_same() -> None:
    class Stuck(ScriptedEngine):
        async def shutdown(self) -> None:
            raise RuntimeError("its process does not answer")

    first, second = Stuck(), ScriptedEngine()
    first.started.set()
    second.started.set()
    left = [second, first]
    failures: list[BaseException] = []
    async with supervised_gateway(lambda _: left.pop(), failures.append) as gateway:
        await is_ready(gateway)
        first.failed = True
        await until(lambda: left == [])
        await is_ready(gateway)
        assert (await ask(gateway)).status == 200
    assert failures == []
    assert len(second.jobs) == 1


async def test_first_start_that_fails_is_told_and_not_tried_again() -> None:
    workshop = Workshop({"start_error": RuntimeError("no such model")})
    async with supervised(workshop) as gateway:
        await until(lambda: workshop.failures != [])
        assert (await ask(gateway)).status == 503
        assert (await send(gateway, "GET", "/health/live")).status == 200
    assert [str(failure) for failure in workshop.failures] == ["no such model"]
    assert len(workshop.made) == 1
    assert workshop.made[0].shutdowns == 1


async def test_later_start_that_fails_is_tried_again() -> None:
    workshop = Workshop({}, {"start_error": RuntimeError("busy")}, {"start_error": RuntimeError("busy")}, {})
    async with ready(workshop) as gateway:
        workshop.made[0].failed = True
        await until(lambda: len(workshop.made) == 4)
        workshop.made[3].started.set()
        await is_ready(gateway)
        assert (await ask(gateway)).status == 200
        assert await metric(gateway, "gateway_engine_restarts_total") == 3
    assert workshop.failures == []
    assert [engine.shutdowns for engine in workshop.made] == [1, 1, 1, 1]


async def test_starts_that_fail_in_a_row_are_given_up_and_told() -> None:
    workshop = Workshop({}, {"start_error": RuntimeError("busy")})
    async with ready(workshop) as gateway:
        workshop.made[0].failed = True
        await until(lambda: workshop.failures != [])
        assert (await ask(gateway)).status == 503
    assert [str(failure) for failure in workshop.failures] == ["busy"]
    assert len(workshop.made) == 1 + supervision.ATTEMPTS
    assert all(engine.shutdowns == 1 for engine in workshop.made)


async def test_engine_is_ended_with_the_gateway_even_while_it_starts() -> None:
    workshop = Workshop({})
    async with supervised(workshop):
        await until(lambda: len(workshop.made) == 1)
    assert workshop.made[0].shutdowns == 1
    assert workshop.failures == []


@pytest.mark.parametrize("at_once", [False, True])
async def test_an_engine_that_is_ended_on_purpose_is_not_started_again(
    monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    """A second SIGTERM ends the engine while the rest of the gateway still runs."""
    workshop = Workshop({})
    async with ready(workshop) as gateway:
        assert gateway.supervisor is not None
        killed: list[bool] = []
        monkeypatch.setattr(workshop.made[0], "kill", lambda: killed.append(True))
        await gateway.supervisor.shutdown(at_once=at_once)
        assert killed == [True] * at_once
        await asyncio.sleep(0.1)
        assert (len(workshop.made), gateway.supervisor.stage) == (1, "stopped")
    assert workshop.failures == []


async def test_the_engines_memory_is_the_running_ones_and_its_cpu_time_goes_on_with_the_next() -> None:
    workshop = Workshop({"memory_bytes": 100, "cpu_seconds": 7.0}, {"memory_bytes": 30, "cpu_seconds": 2.0})
    async with ready(workshop) as gateway:
        for _ in range(2):  # Reading twice counts nothing twice.
            assert await metric(gateway, "gateway_engine_memory_bytes") == 100
            assert await metric(gateway, "gateway_engine_cpu_seconds_total") == 7
        workshop.made[0].kill()
        await until(lambda: len(workshop.made) == 2)
        assert await metric(gateway, "gateway_engine_memory_bytes") == 0
        workshop.made[1].started.set()
        await is_ready(gateway)
        assert await metric(gateway, "gateway_engine_memory_bytes") == 30
        assert await metric(gateway, "gateway_engine_cpu_seconds_total") == 9
