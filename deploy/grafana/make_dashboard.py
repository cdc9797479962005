"""Writes dashboards/llava-gateway.json from the rows below: `python deploy/grafana/make_dashboard.py`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUT = Path(__file__).parent / "dashboards/llava-gateway.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24  # of Grafana's grid
HEIGHT = 7
FAILED = 'outcome=~"failed|stream_failed"'
AT = 'instance=~"$instance"'
HELD = f"gateway_memory_held_bytes{{{AT}}}"
SERVED = f'{AT},route=~"/v1/.*"'


@dataclass(frozen=True)
class Panel:
    """A panel: its queries by their legends, in PromQL. `unit` is Grafana's name of it."""

    title: str
    unit: str
    queries: dict[str, str]
    width: int = 8
    kind: str = "timeseries"


def rate(metric: str, by: str = "", where: str = AT) -> str:
    """Return the query for how much `metric` grows per second."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{where}}}[$__rate_interval]))"


def total(metric: str) -> str:
    """Return the query for a gauge, summed over the replicas."""
    return f"sum({metric}{{{AT}}})"


def share(part: str, whole: str) -> dict[str, str]:
    """Return the query for one counter's growth as a share of another's."""
    return {"hits": f"{part} / {whole}"}


def quantile(q: float, metric: str, by: str = "le", where: str = AT) -> str:
    """Return the query for a histogram's quantile."""
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', by, where)})"


def quantiles(metric: str, where: str = AT) -> dict[str, str]:
    """Return the queries for a histogram's median and 99th percentile."""
    return {f"p{round(100 * q)}": quantile(q, metric, where=where) for q in (0.5, 0.99)}


def gpu(title: str, unit: str, query: str) -> Panel:
    """Return a panel of dcgm-exporter's default metrics: of every GPU, for its instances are no replicas."""
    return Panel(title, unit, {"{{instance}} GPU {{gpu}}": query}, width=6)


def stat(title: str, query: str, unit: str = "none") -> Panel:
    return Panel(title, unit, {"": query}, width=4, kind="stat")


ROWS = {
    "Is it well?": [
        stat("Ready", f"min(gateway_ready{{{AT}}})"),
        stat("Requests per second", rate("gateway_requests_total", where=SERVED), "reqps"),
        stat(
            "Failed requests",
            f"sum(rate(gateway_request_outcomes_total{{{SERVED},{FAILED}}}[$__rate_interval]) "
            f"or 0 * rate(gateway_request_outcomes_total{{{SERVED}}}[$__rate_interval])) "
            f"/ {rate('gateway_request_outcomes_total', where=SERVED)}",
            "percentunit",
        ),
        stat("Engine restarts in a day", f"sum(increase(gateway_engine_restarts_total{{{AT}}}[1d]))"),
        stat("First token, p99", quantile(0.99, "gateway_time_to_first_token_seconds"), "s"),
        stat("Up since", f"min(process_start_time_seconds{{{AT}}}) * 1000", "dateTimeFromNow"),
        Panel(
            "How requests end",
            "reqps",
            {"{{outcome}}": rate("gateway_request_outcomes_total", "outcome", SERVED)},
        ),
        Panel(
            "Refusals and failures by code",
            "reqps",
            {
                "{{outcome}} {{code}}": rate(
                    "gateway_request_outcomes_total", "outcome, code", f'{SERVED},outcome!~"ok|client_left"'
                )
            },
        ),
        Panel(
            "Clients that left, by stage", "reqps", {"{{stage}}": rate("gateway_clients_left_total", "stage")}
        ),
    ],
    "How fast?": [
        Panel("First token", "s", quantiles("gateway_time_to_first_token_seconds")),
        Panel("Between tokens", "s", quantiles("gateway_time_between_tokens_seconds")),
        Panel("Whole request", "s", quantiles("gateway_request_seconds", SERVED)),
        Panel(
            "Tokens per second",
            "none",
            {
                "prompt": rate("gateway_prompt_tokens_total"),
                "of these, images": rate("gateway_image_tokens_total"),
                "answer": rate("gateway_completion_tokens_total"),
            },
            width=12,
        ),
        Panel("Requests by route", "reqps", {"{{route}}": rate("gateway_requests_total", "route")}, width=12),
    ],
    "What waits?": [
        Panel(
            "Requests",
            "none",
            {
                "running": total("gateway_in_flight"),
                "may run": total("gateway_in_flight_limit"),
                "queued": total("gateway_waiting"),
                "may queue": total("gateway_waiting_limit"),
                "waiting for the engine": total("gateway_waiting_for_engine"),
            },
        ),
        Panel("Time in the queue", "s", quantiles("gateway_waiting_seconds")),
        Panel("Wait for the engine", "s", quantiles("gateway_engine_waiting_seconds")),
        Panel(
            "Memory budgets in use",
            "percentunit",
            {"{{kind}}": f"max by (kind) ({HELD} / gateway_memory_limit_bytes{{{AT}}})"},
        ),
        Panel(
            "Batches: lines",
            "none",
            {
                "running": total("gateway_batch_lines_running"),
                "to do": total("gateway_batch_lines_waiting"),
            },
        ),
        Panel(
            "Batches: lines per second",
            "none",
            {"{{outcome}}": rate("gateway_batch_lines_total", "outcome")},
        ),
    ],
    "Images": [
        Panel(
            "Images per second",
            "none",
            {"{{source}} {{format}}": rate("gateway_images_total", "source, format")},
        ),
        Panel(
            "Time per image, p99",
            "s",
            {"{{step}}": quantile(0.99, "gateway_image_seconds", "le, step")},
        ),
        Panel(
            "Found in the cache",
            "percentunit",
            share(
                rate("gateway_image_cache_total", where=f'{AT},result="hit"'),
                rate("gateway_image_cache_total"),
            ),
            width=4,
        ),
        Panel(
            "Failed fetches",
            "none",
            {"{{reason}}": rate("gateway_image_fetch_failures_total", "reason")},
            width=4,
        ),
    ],
    "Engine": [
        Panel("KV cache in use", "percentunit", {"{{instance}}": f"vllm:kv_cache_usage_perc{{{AT}}}"}),
        Panel(
            "In the engine",
            "none",
            {
                "running": total("vllm:num_requests_running"),
                "waiting": total("vllm:num_requests_waiting"),
            },
        ),
        Panel(
            "Prompt tokens found in the prefix cache",
            "percentunit",
            share(rate("vllm:prefix_cache_hits_total"), rate("vllm:prefix_cache_queries_total")),
        ),
        Panel("Engine's queue", "s", quantiles("vllm:request_queue_time_seconds")),
        Panel("Prefill", "s", quantiles("vllm:request_prefill_time_seconds")),
        Panel("Preemptions", "none", {"per second": rate("vllm:num_preemptions_total")}),
    ],
    "Machine": [
        Panel(
            "Processes: memory",
            "bytes",
            {
                "gateway": total("process_resident_memory_bytes"),
                "engine": total("gateway_engine_memory_bytes"),
            },
            width=12,
        ),
        Panel(
            "Processes: cores in use",
            "none",
            {
                "gateway": rate("process_cpu_seconds_total"),
                "engine": rate("gateway_engine_cpu_seconds_total"),
            },
            width=12,
        ),
        gpu("GPU: use", "percentunit", "DCGM_FI_DEV_GPU_UTIL / 100"),
        gpu(
            "GPU: memory in use",
            "percentunit",
            "DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE)",
        ),
        gpu("GPU: temperature", "celsius", "DCGM_FI_DEV_GPU_TEMP"),
        gpu("GPU: power", "watt", "DCGM_FI_DEV_POWER_USAGE"),
    ],
    "Callers": [
        Panel(
            "Requests per second",
            "reqps",
            {"{{caller}}": f"topk(10, {rate('gateway_caller_requests_total', 'caller')})"},
        ),
        Panel(
            "Tokens per second",
            "none",
            {"{{caller}}": f"topk(10, {rate('gateway_caller_tokens_total', 'caller')})"},
        ),
        Panel(
            "Refused by a limit",
            "reqps",
            {"{{class}}: {{limit}}": rate("gateway_rate_limited_total", "class, limit")},
        ),
    ],
}


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana keeps it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row, members in ROWS.items():
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row,
                "collapsed": False,
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
                "panels": [],
            }
        )
        x, y = 0, y + 1
        for member in members:
            height = 4 if member.kind == "stat" else HEIGHT
            panels.append(_panel(member, len(panels) + 1, {"x": x, "y": y, "w": member.width, "h": height}))
            x += member.width
            if x >= COLUMNS:
                x, y = 0, y + height
    return {
        "uid": "llava-gateway",
        "title": "llava-gateway",
        "tags": ["llava-gateway"],
        "schemaVersion": 41,
        "editable": True,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": panels,
    }


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for place, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _variables() -> list[dict[str, Any]]:
    instances = "label_values(gateway_ready, instance)"
    return [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"},
        {
            "name": "instance",
            "type": "query",
            "label": "Replica",
            "datasource": SOURCE,
            "query": {"query": instances, "refId": "instance"},
            "definition": instances,
            "includeAll": True,
            "allValue": ".*",
            "multi": True,
            "refresh": 2,
            "current": {"text": "All", "value": "$__all"},
        },
    ]


if __name__ == "__main__":
    OUT.write_text(json.dumps(dashboard(), indent=2) + "\n")
