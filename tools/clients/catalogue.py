"""The clients of the matrix: what each is installed from, and what its program shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

# What a program may show; the order is that of the table's columns.
CASES = (
    "whole",  # a picture described in one piece
    "streamed",  # the same, in pieces
    "turns",  # a second question, the first answer echoed as the client echoes it
    "structured",  # typed output
    "tool",  # a tool call
    "errors",  # 400, 401, 404, 429 and 503 as the client's own exceptions
    "abort",  # a stream left early; the gateway's metrics show that its job ended
)


@dataclass(frozen=True, slots=True)
class Client:
    """A client in an environment of its own; `program` stands in programs/."""

    name: str
    program: str
    packages: tuple[str, ...]
    kind: Literal["python", "node"] = "python"
    cannot: Mapping[str, str] = field(default_factory=dict)  # case → why the client has no way to do it


CLIENTS = (
    Client("openai", "openai_sdk.py", ("openai==3.57.0",)),
    Client("openai 2", "openai_sdk.py", ("openai==2.8.0",)),
    Client("langchain-openai", "langchain.py", ("langchain-openai==1.7.4",)),
    Client("litellm", "litellm_sdk.py", ("litellm==1.110.2",)),
    Client("litellm proxy", "litellm_proxy.py", ("litellm[proxy]==1.99.4",)),
    Client("llama-index", "llama_index_like.py", ("llama-index-llms-openai-like==0.8.1",)),
    Client("haystack", "haystack_generator.py", ("haystack-ai==3.4.1",)),
    Client("pydantic-ai", "pydantic_agents.py", ("pydantic-ai-slim[openai]==2.68.0",)),
    Client("instructor", "instructor_models.py", ("instructor==1.17.0",)),
    Client("dspy", "dspy_modules.py", ("dspy==3.4.1", "pillow")),
    Client("smolagents", "smolagents_models.py", ("smolagents[openai]==1.26.0",)),
    Client("openai-agents", "openai_agents.py", ("openai-agents==0.24.0",)),
    Client(
        "llm",
        "llm_command.py",
        ("llm==0.36",),
        cannot={"tool": "llm offers tools to the model and has no way to require a call (no `tool_choice`)."},
    ),
    Client("openai (JavaScript)", "openai_sdk.mjs", ("openai@6.49.0",), "node"),
    Client(
        "AI SDK", "ai_sdk.mjs", ("ai@6", "@ai-sdk/openai@3", "@ai-sdk/openai-compatible@2", "zod@4"), "node"
    ),
)
