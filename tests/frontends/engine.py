"""What the gateway's engine does while a person looks at a frontend."""

import asyncio

from tests.servers import Gateway, core, metric


async def idle(gateway: Gateway) -> None:
    """Return once no request runs. Raises TimeoutError if one still does after ten seconds."""
    async with asyncio.timeout(10):
        while await metric(gateway, "gateway_in_flight"):  # noqa: ASYNC110  # it is in another process
            await asyncio.sleep(0.05)


def kill(gateway: Gateway) -> None:
    """Kill the engine's process; the gateway starts another one."""
    core(gateway).kill()
