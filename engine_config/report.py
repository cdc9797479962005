"""A plan in words: for the terminal, for a start's first lines, and as the table of docs/gpus.md."""

from engine_config import machine as machines
from engine_config import plan as plans
from engine_config import profile as profiles
from engine_config.choice import Choice, choose
from engine_config.machine import GIB, GPU, KNOWN, GPUs, Machine, dotted
from engine_config.plan import CHAT, DoesNotFit, Plan
from engine_config.profile import EngineProfile

CONTEXTS = (1024, 2048, 4096)
AMPERE = (8, 0)  # what a GPU is taken for of which only the memory is given


class UnknownGPU(ValueError):
    """There is no such GPU in the table."""


def machine_of(gpu: str | None, memory: float | None, count: int | None) -> Machine | None:
    """Return this machine with the GPUs that are described; None where nothing is. Memory in GiB."""
    if gpu is None and memory is None and count is None:
        return None
    if gpu is not None and gpu not in KNOWN:
        raise UnknownGPU(f"--gpu {gpu}: not in the table; it has {', '.join(KNOWN)}")
    here = machines.look()
    if gpu is not None:
        found = KNOWN[gpu]
    elif memory is not None:
        found = GPU(f"a GPU of {memory:g} GiB", int(memory * GIB), AMPERE)
    elif here.gpus.first is not None:
        found = here.gpus.first
    else:
        raise UnknownGPU("--count: this machine has no GPU; name one by --gpu or --memory")
    return Machine(GPUs("found", (found,) * (count or 1)), here.cores, here.memory)


def line(plan: Plan) -> str:
    """Return the plan in one sentence."""
    return (
        f"{plan.context:,} tokens of context, room for {plan.kv_tokens:,} tokens in the KV cache "
        f"({plan.kv_cache / GIB:.1f} GiB): {plan.chats} chats of {CHAT:,} tokens at once."
    )


def text(choice: Choice) -> str:
    """Return the whole of a choice and its plan."""
    lines = [f"{choice.profile.name}: {choice.profile.summary}", f"Chosen because {choice.reason}."]
    if choice.plan is None:
        return "\n".join([*lines, "The model's sizes are not known here, so there is no plan."]) + "\n"
    return "\n".join([*lines, "", *_memory(choice.plan), "", *_contexts(choice.plan)]) + "\n"


def table() -> str:
    """Return what every GPU in the table gives every profile, in Markdown."""
    shown = [profile for name in profiles.names() if (profile := profiles.load(name)).device == "gpu"]
    names = [profile.name.removeprefix("llava-1.5-") for profile in shown]
    rows = [
        f"| GPU | {' | '.join(names)} | attention | chosen |",
        f"| --- | {' | '.join('---' for _ in names)} | --- | --- |",
    ]
    for name, gpu in KNOWN.items():
        machine = Machine(GPUs("found", (gpu,)), cores=8, memory=64 * GIB)
        cells = [_cell(profile, machine) for profile in shown]
        chosen = choose(None, machine, "gpu").profile
        backend = plans.attention_backend(chosen, gpu)
        described = f"{name}, {gpu.memory / GIB:.1f} GiB, {dotted(gpu.capability)}"
        rows.append(f"| {described} | {' | '.join(cells)} | {backend} | `{chosen.name}` |")
    return "\n".join(rows) + "\n"


def _cell(profile: EngineProfile, machine: Machine) -> str:
    shape = plans.shape_of(profile)
    assert shape is not None  # The shipped models' are known.
    try:
        plan = plans.fit(profile, shape, machine)
    except DoesNotFit:
        return "no"
    gpu = machine.gpus.first
    assert gpu is not None
    return f"{plan.chats} ({plan.kv_cache / GIB:.1f} GiB)"


def _memory(plan: Plan) -> list[str]:
    engine = plan.profile.engine
    where = f"on each of {plan.gpus} GPUs" if plan.gpus > 1 else "on the GPU" if plan.gpu else "in memory"
    weights = engine.get("quantization") or engine.get("dtype", "auto")
    rows = [
        ("the engine may take", plan.room, where),
        ("weights", plan.weights, weights),
        ("computing", plan.computing, "estimated"),
        ("KV cache", plan.kv_cache, f"{plan.kv_tokens:,} tokens of {plan.token // 1024} KiB"),
    ]
    lines = [f"{label:<22}{size / GIB:6.1f} GiB   {note}" for label, size, note in rows]
    return [
        *lines,
        f"{'attention backend':<22}{plan.attention_backend}",
        f"{'sequences at once':<22}{plan.max_num_seqs} (max_num_seqs)",
        f"{'picture chats at once':<22}{plan.chats} of {CHAT:,} tokens",
        *(f"{'note':<22}{note}" for note in plan.notes),
    ]


def _contexts(plan: Plan) -> list[str]:
    """Return what another context would give: the tokens of a request, and how many have room at once."""
    lines = ["context   requests that fill it, at once"]
    for context in sorted({*CONTEXTS, plan.context}):
        here = "  <- this plan" if context == plan.context else ""
        lines.append(f"{context:>7,}   {min(plan.at_once(context), plan.max_num_seqs)}{here}")
    return [*lines, "LLaVA-1.5 was trained for 4,096 tokens: a larger context is not supported."]
