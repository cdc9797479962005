"""A gateway on the real engine that requires keys, and clients with one."""

from openai import AsyncOpenAI

from tests.servers import Gateway

KEYS = {"eve": "sk-eve", "ann": "sk-ann"}


def client(gateway: Gateway, key: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=gateway.api, api_key=key, max_retries=0, timeout=60)
