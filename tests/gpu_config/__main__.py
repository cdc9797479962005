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
SITE = ROOT / ".gpu-config/site"
PACKAGES = ("vllm==0.32.0", "vllm-bnb-plugin==0.0.3", "bitsandbytes>=0.50")  # as in the extra `gpu`
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
    _unpack()
    rows: list[tuple[str, Row]] = []
    for gpu in KNOWN:
        found = _probe(gpu)
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


def _unpack() -> None:
    if (SITE / "vllm_bnb_plugin").is_dir():
        return
    print(f"unpacking {', '.join(PACKAGES)} into {SITE.relative_to(ROOT)}", flush=True)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(SITE)]
    subprocess.run([*pip, *PACKAGES], check=True)


def _probe(gpu: str) -> list[Row]:
    paths = os.pathsep.join((str(ROOT), str(SITE)))
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tests.gpu_config.probe", gpu, folder],
            env=os.environ | {"PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        sys.exit(f"{gpu}: vLLM cannot be configured\n{done.stdout}{done.stderr[-4000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def _problem(row: Row) -> str | None:
    """Return what is not as it should be."""
    wanted = {
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
