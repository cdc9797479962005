"""`make gpu-config`: vLLM's configuration of every profile on every known GPU, without a GPU.

The CUDA build of vLLM is unpacked beside the one for CPUs (about 1 GB, once). The driver and the compiled
kernels are stand-ins (`driver`); all that decides is vLLM's. `--record` puts the result into docs/gpus.md.
"""

import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from engine_config.machine import KNOWN

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".gpu-config"
# As in the extra `gpu`; the plug-in also runs with vLLM's build for CPUs.
VLLM = ("vllm==0.32.0",)
PLUGIN = ("vllm-bnb-plugin==0.0.3", "bitsandbytes>=0.50")
DOCS = ROOT / "docs/gpus.md"
BEGIN, END = "<!-- gpu-config -->\n", "<!-- /gpu-config -->"
METHODS = {
    None: None,
    "bitsandbytes": "BitsAndBytesConfig",
    "fp8_per_channel": "OnlineQuantizationConfig",
}
COLUMNS = (
    *("GPU", "profile", "dtype", "quantization", "attention", "vision tower", "sampler"),
    *("graphs", "sequences", "step"),
)

Row = dict[str, Any]


def main() -> None:
    vllm, plugin = _unpacked("vllm", VLLM), _unpacked("plugin", PLUGIN)
    print(_run("half_precision", paths=[plugin]), end="", flush=True)
    rows: list[tuple[str, Row]] = []
    for gpu in KNOWN:
        with tempfile.TemporaryDirectory() as folder:
            said = _run("probe", gpu, folder, paths=[vllm, plugin])
        found = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        for row in found:
            if problem := _problem(row):
                sys.exit(f"{gpu}, {row['profile']}: {problem}\n{json.dumps(row, indent=1)}")
        rows += [(gpu, row) for row in found]
        print(f"{gpu}: {', '.join(row['profile'] for row in found)}", flush=True)
    table = _table(rows)
    if "--record" in sys.argv:
        before, _, rest = DOCS.read_text().partition(BEGIN)
        today = dt.datetime.now(tz=dt.UTC).date()
        heading = f"vLLM 0.32.0, {today}:\n\n"
        DOCS.write_text(before + BEGIN + heading + table + END + rest.partition(END)[2])
    else:
        print(table)


def _unpacked(name: str, packages: tuple[str, ...]) -> Path:
    """Return a folder with the packages, without what they depend on: that is in .venv."""
    folder, done = CACHE / name, CACHE / f"{name}.done"
    if not done.exists():
        print(f"unpacking {', '.join(packages)} into {folder.relative_to(ROOT)}", flush=True)
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--upgrade",
            "--target",
            str(folder),
        ]
        subprocess.run([*pip, *packages], check=True)
        done.touch()
    return folder


def _run(module: str, *arguments: str, paths: list[Path]) -> str:
    """Run one of this folder's programs with `paths` before .venv's packages; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", f"tools.gpu_config.{module}", *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, *paths)))},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{module} {' '.join(arguments)} failed\n{done.stdout}{done.stderr[-4000:]}")
    return done.stdout


def _problem(row: Row) -> str | None:
    """Return what is not as it should be."""
    wanted = {
        "start_method": "spawn",
        "method": METHODS[row["quantization"]],
        "load_format": "bitsandbytes" if row["quantization"] == "bitsandbytes" else "auto",
        "attention": row["planned_attention"],
        "step": row["planned_step"],
        "sampler": "Triton",
        "dtype": "bfloat16" if row["profile"] == "demo" and row["attention"] == "FLASH_ATTN" else "float16",
    }
    wrong = [f"{key} is {row[key]}, not {value}" for key, value in wanted.items() if row[key] != value]
    return "; ".join(wrong) or None


def _table(rows: list[tuple[str, Row]]) -> str:
    lines = [f"| {' | '.join(COLUMNS)} |", "| --- " * len(COLUMNS) + "|"]
    for gpu, row in rows:
        keys = ("profile", "dtype", "quantization", "attention", "vision_attention", "sampler")
        cells = [str(row[key] or "none") for key in keys]
        cells += ["yes" if row["graphs"] else "no", str(row["max_num_seqs"]), str(row["step"])]
        lines.append(f"| {gpu} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
