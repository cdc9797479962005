"""The faults, one after the other. Each runs while honest callers keep asking."""

import asyncio
import re
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import psutil

from tests.servers import Gateway
from tools.chaos import attackers
from tools.chaos.load import PATIENCE, Tally, recovered, session
from tools.chaos.origin import bad_origin
from tools.chaos.outcomes import ANSWERED, CUT, FAILED, Ask, ask
from tools.chaos.stand import ATTACKER, DRAIN, Stand, filled

AROUND = 3.0  # seconds of load before a fault and after it


@dataclass(slots=True)
class Scene:
    """What a fault may touch, and what it tells: the attacker's own requests, and words for the table."""

    stand: Stand
    honest: Tally
    attacker: Tally = field(default_factory=Tally)
    note: str = ""
    broken: list[str] = field(default_factory=list)  # promises, beside those of the honest requests

    @property
    def gateway(self) -> Gateway:
        return self.stand.replicas[0].gateway


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault; `excused` are endings that each caller may have once: the process itself is killed."""

    name: str
    act: Callable[[Scene], Awaitable[None]]
    excused: tuple[str, ...] = ()


async def nothing(_: Scene) -> None:
    await asyncio.sleep(4)


async def engine_killed(scene: Scene) -> None:
    scene.honest.strikes()
    scene.stand.replicas[0].core().kill()
    await recovered(scene.honest)


async def engine_stopped(scene: Scene) -> None:
    scene.honest.strikes()
    scene.stand.replicas[0].core().send_signal(signal.SIGSTOP)
    await recovered(scene.honest)


async def poison(scene: Scene) -> None:
    said: list[str] = []
    scene.honest.strikes()
    async with session(scene.gateway.url, ATTACKER) as client, asyncio.timeout(200):
        refused = False
        while not refused:
            ended = await ask(client, Ask(attackers.POISON), PATIENCE)
            scene.attacker.add(ended)
            refused = "poison_request" in ended.said
            code = re.search(r'"code":"(\w+)"', ended.said)
            if code is not None and code[1] not in said:
                said.append(code[1])
            await asyncio.sleep(ended.retry_after)
    scene.note = f"the poison was answered {', then '.join(said)}"
    await recovered(scene.honest)


async def redis_away(scene: Scene) -> None:
    scene.honest.strikes()
    scene.stand.redis.stop()
    await asyncio.sleep(5)
    await asyncio.to_thread(scene.stand.redis.start)


async def bad_origins(scene: Scene) -> None:
    async with bad_origin() as origin:
        await attackers.flood(scene.gateway.url, ATTACKER, attackers.fetches(origin, 60), scene.attacker)
    scene.note = "60 images that drip, reset, hang or end early"


async def slow_bodies(scene: Scene) -> None:
    await attackers.slow_bodies(scene.gateway, ATTACKER, 200, scene.attacker)
    scene.note = "200 bodies at 2 bytes per second"


async def slow_readers(scene: Scene) -> None:
    await attackers.slow_readers(scene.gateway, ATTACKER, 8, scene.attacker)
    scene.note = "8 long streams that nobody reads"


async def leaving(scene: Scene) -> None:
    await attackers.leavers(scene.gateway, ATTACKER, 300, scene.attacker)
    scene.note = "300 clients, in head, body, prefill and answer"


async def overload(scene: Scene) -> None:
    await attackers.flood(scene.gateway.url, ATTACKER, attackers.texts(700), scene.attacker)
    scene.note = "700 texts at once; 80 run and 256 wait at most"


async def picture_bombs(scene: Scene) -> None:
    bodies = await asyncio.to_thread(attackers.bombs, 120)
    await attackers.flood(scene.gateway.url, ATTACKER, bodies, scene.attacker)
    scene.note = "120 images of 49 to 256 megapixels in small files"


async def disk_full(scene: Scene) -> None:
    assert scene.stand.disk is not None
    scene.honest.strikes()
    url, path = scene.gateway.url, "/v1/responses"
    with filled(scene.stand.disk):
        await attackers.flood(url, ATTACKER, attackers.stored(20), scene.attacker, path)
    full = scene.attacker.counts.copy()
    await attackers.flood(url, ATTACKER, attackers.stored(1), scene.attacker, path)
    after = scene.attacker.counts - full
    scene.note = f"20 responses to store while it is full; one after it: {', '.join(after)}"
    if not full[FAILED] or not after[ANSWERED]:
        scene.broken.append(scene.note)


async def rolling_restart(scene: Scene) -> None:
    statuses = []
    for replica in scene.stand.replicas:
        scene.honest.strikes()
        statuses.append(await replica.end())
        replica.start()
        await replica.ready()
        await asyncio.sleep(AROUND)  # haproxy sends it requests again
    scene.note = f"SIGTERM to each replica in turn, drain {DRAIN:g} s; exit statuses {statuses}"
    if statuses != [0, 0]:
        scene.broken.append(scene.note)


async def replica_killed(scene: Scene) -> None:
    victim = scene.stand.replicas[0]
    family = psutil.Process(victim.gateway.pid).children(recursive=True)
    scene.honest.strikes()
    await victim.end(signal.SIGKILL)
    await recovered(scene.honest)
    _, alive = await asyncio.to_thread(psutil.wait_procs, family, 5)
    scene.note = f"its engine's processes alive 5 s later: {len(alive)}"
    if alive:
        scene.broken.append(scene.note)


ALONE = (
    Fault("none", nothing),
    Fault("engine killed (SIGKILL)", engine_killed),
    Fault("engine hangs (SIGSTOP)", engine_stopped),
    Fault("poison request", poison),
    Fault("Redis away for 5 s", redis_away),
    Fault("bad image origins", bad_origins),
    Fault("slow bodies", slow_bodies),
    Fault("slow readers", slow_readers),
    Fault("clients that leave", leaving),
    Fault("overload", overload),
    Fault("picture bombs", picture_bombs),
    Fault("disk full", disk_full),
)
BEHIND_HAPROXY = (
    Fault("two replicas, rolling restart (SIGTERM)", rolling_restart),
    # A killed process cannot end its streams; what it had not begun to answer goes to the other replica.
    Fault("two replicas, one killed (SIGKILL)", replica_killed, excused=(CUT,)),
)
