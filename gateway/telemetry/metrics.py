"""Every metric of the gateway's own, by name. vLLM's (`vllm:…`) stand on the same page."""

from collections.abc import Mapping

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    generate_latest,
)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_STEPS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """One gateway's metrics, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "gateway_requests", "Requests answered.", ["route", "status"], registry=registry
        )
        self.outcomes = Counter(
            "gateway_request_outcomes",
            "How requests ended: ok, client_left, refused, failed or stream_failed; with the error's code.",
            ["route", "outcome", "code"],
            registry=registry,
        )
        self.client_left = Counter(
            "gateway_clients_left",
            "Clients that left before their answer was whole, by the stage that the request had reached.",
            ["stage"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "gateway_request_seconds",
            "From a request's first byte to its answer's last.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.first_token_seconds = Histogram(
            "gateway_time_to_first_token_seconds",
            "From a request's first byte to its first token, of streamed answers.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.between_tokens_seconds = Histogram(
            "gateway_time_between_tokens_seconds",
            "Between two deltas of a streamed answer.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.waiting_seconds = Histogram(
            "gateway_waiting_seconds",
            "Time a request waited for its ticket.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.prompt_tokens = Counter(
            "gateway_prompt_tokens", "Prompt tokens, those of pictures included.", registry=registry
        )
        self.image_tokens = Counter(
            "gateway_image_tokens", "Prompt tokens that stand for pictures.", registry=registry
        )
        self.completion_tokens = Counter("gateway_completion_tokens", "Tokens generated.", registry=registry)
        self.images = Counter("gateway_images", "Pictures taken in.", ["source", "format"], registry=registry)
        self.image_seconds = Histogram(
            "gateway_image_seconds",
            "Time a picture took, by step: fetch, decode (base64 or pixels), fit.",
            ["step"],
            buckets=_STEPS,
            registry=registry,
        )
        self.image_cache = Counter(
            "gateway_image_cache",
            "Pictures looked up in the cache of decoded pictures, by result: hit or miss.",
            ["result"],
            registry=registry,
        )
        self.in_flight = Gauge("gateway_in_flight", "Requests that hold a ticket.", registry=registry)
        self.waiting = Gauge("gateway_waiting", "Requests that wait for a ticket.", registry=registry)
        self.engine_restarts = Counter(
            "gateway_engine_restarts", "Times a dead engine was started again.", registry=registry
        )
        self.limited = Counter(
            "gateway_rate_limited", "Requests refused with 429.", ["limit", "class"], registry=registry
        )
        self.memory_held = Gauge(
            "gateway_memory_held_bytes",
            "Permits for memory that are out, by kind: bodies, images (encoded), small_pixels, large_pixels.",
            ["kind"],
            registry=registry,
        )
        self.stalled = Counter(
            "gateway_stalled_requests", "Requests ended because the engine gave nothing.", registry=registry
        )
        self.engine_hangs = Counter(
            "gateway_engine_hangs", "Times an engine was killed because it was stuck.", registry=registry
        )
        self.rerun = Counter(
            "gateway_jobs_run_again", "Jobs that waited for another engine and ran there.", registry=registry
        )
        self.engine = Info(
            "gateway_engine",
            "The engine that runs: version, dtype, quantization and attention backend.",
            registry=registry,
        )
        self.kv_cache_tokens = Gauge(
            "gateway_kv_cache_tokens", "Tokens that the engine's KV cache has room for.", registry=registry
        )
        self.ready = Gauge("gateway_ready", "1 while the engine answers.", registry=registry)

    def set_engine(self, info: Mapping[str, str | int]) -> None:
        """Tell what runs; `info` is an `EngineInfo`'s fields."""
        self.engine.info({name: value for name, value in info.items() if isinstance(value, str)})
        self.kv_cache_tokens.set(float(info["kv_cache_tokens"]))

    def page(self) -> bytes:
        """Return all metrics, vLLM's included, in Prometheus' text format."""
        return generate_latest(self.registry) + generate_latest(REGISTRY)
