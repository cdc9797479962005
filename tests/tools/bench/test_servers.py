"""Both servers get the same prompt, the same arguments and the same environment."""

from typing import Any

import jinja2.sandbox
import pytest

from engine_config.profile import load as load_profile
from gateway.engine.vllm_model import engine_arguments
from gateway.prompt.styles import CARD
from gateway.prompt.template import SLOT, End, PromptMessage, Role, Slot, render
from tools.bench import servers

CONVERSATIONS: list[list[tuple[Role, str | tuple[str | Slot, ...]]]] = [
    [("user", "Hello")],
    [("user", (SLOT, "What is it?"))],
    [("user", ("Look:", SLOT, SLOT, "Which has the star?"))],
    [
        ("system", "Be brief."),
        ("user", (SLOT, "What colour is the circle?")),
        ("assistant", "Red."),
        ("user", (SLOT, "And here?")),
    ],
]


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_vllms_server_is_given_a_template_that_renders_our_prompt(conversation: Any) -> None:
    # As transformers does it: https://github.com/huggingface/transformers, utils/chat_template_utils.py.
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(servers.TEMPLATE.read_text())
    sent = [{"role": role, "content": openai_parts(said)} for role, said in conversation]
    ours = render(
        [PromptMessage(role, (said,) if isinstance(said, str) else said) for role, said in conversation],
        CARD,
        "asked",
    )
    written = "".join(segment.value if isinstance(segment, Slot | End) else segment for segment in ours)
    assert template.render(messages=sent, add_generation_prompt=True) == f"<s>{written}"


def openai_parts(said: str | tuple[str | Slot, ...]) -> list[dict[str, str]]:
    parts = (said,) if isinstance(said, str) else said
    return [{"type": "image"} if part is SLOT else {"type": "text", "text": str(part)} for part in parts]


def test_engine_arguments_become_flags() -> None:
    arguments = {
        "model": "m",
        "limit_mm_per_prompt": {"image": 7},
        "enforce_eager": True,
        "enable_prefix_caching": False,
        "mm_processor_cache_gb": 0.5,
    }
    assert servers.flags(arguments) == [
        *("--model", "m", "--limit-mm-per-prompt", '{"image": 7}', "--enforce-eager"),
        *("--no-enable-prefix-caching", "--mm-processor-cache-gb", "0.5"),
    ]


def test_both_servers_have_the_profile_and_vllms_has_all_its_arguments() -> None:
    profile = load_profile("demo")
    assert servers.command("ours", "demo", 1)[-2:] == ["--profile", "demo"]
    theirs = servers.command("vllm", "demo", 1)
    for flag in servers.flags(engine_arguments(profile, 7)):
        assert flag in theirs


def test_no_setting_of_ours_or_vllms_reaches_the_servers_from_outside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GATEWAY_MAX_RUNNING", "1")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "9")
    environment = servers.environment(load_profile("demo"))
    assert "GATEWAY_MAX_RUNNING" not in environment
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "1"
