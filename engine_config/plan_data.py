"""Plans as plain data, for JSON; memory is in bytes."""

from typing import Any

from engine_config import plan as plans
from engine_config import profile as profiles
from engine_config.choice import Choice, choose
from engine_config.machine import GIB, KNOWN, GPUs, Machine, dotted
from engine_config.plan import CHAT, DoesNotFit, Plan
from engine_config.report import CONTEXTS


def choice_data(choice: Choice) -> dict[str, Any]:
    """Return a choice and its plan; `plan` is None if the model's sizes are not known."""
    return {
        "profile": choice.profile.name,
        "summary": choice.profile.summary,
        "model": choice.profile.model,
        "reason": choice.reason,
        "plan": plan_data(choice.plan) if choice.plan else None,
    }


def plan_data(plan: Plan) -> dict[str, Any]:
    """Return the numbers of a plan; memory is of each GPU that is used."""
    return {
        "gpu": plan.gpu.name if plan.gpu else None,
        "gpus": plan.gpus,
        "engine_bytes": plan.room,
        "weights_bytes": plan.weights,
        "computing_bytes": plan.computing,
        "kv_cache_bytes": plan.kv_cache,
        "kv_cache_tokens": plan.kv_tokens,
        "context": plan.context,
        "attention_backend": plan.attention_backend,
        "max_num_seqs": plan.max_num_seqs,
        "image_chats": plan.chats,
        "image_chat_tokens": CHAT,
        "requests_by_context": {
            str(context): min(plan.at_once(context), plan.max_num_seqs)
            for context in sorted({*CONTEXTS, plan.context})
        },
        "notes": list(plan.notes),
    }


def table_data() -> list[dict[str, Any]]:
    """Return what every GPU in the table gives every profile; None if the profile does not fit."""
    shown = [profile for name in profiles.names() if (profile := profiles.load(name)).device == "gpu"]
    rows = []
    for name, gpu in KNOWN.items():
        machine = Machine(GPUs("found", (gpu,)), cores=8, memory=64 * GIB)
        rows.append(
            {
                "gpu": name,
                "memory_bytes": gpu.memory,
                "compute_capability": dotted(gpu.capability),
                "chosen": choose(None, machine, "gpu").profile.name,
                "profiles": {profile.name: _fit(profile, machine) for profile in shown},
            }
        )
    return rows


def _fit(profile: profiles.EngineProfile, machine: Machine) -> dict[str, Any] | None:
    shape = plans.shape_of(profile)
    assert shape is not None  # The shipped models' are known.
    try:
        return plan_data(plans.fit(profile, shape, machine))
    except DoesNotFit:
        return None
