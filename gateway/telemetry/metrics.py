"""All metrics of the gateway. `/metrics` also has vLLM's (`vllm:…`)."""

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Final

from prometheus_client import REGISTRY, disable_created_metrics, generate_latest

from engine_config.progress import Progress
from gateway.telemetry.families import Families

# Otherwise each counter and histogram, vLLM's too, has a second series with its creation time.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library is untyped here

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_STEPS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

_ROUTE = "a route's path, `static` (files of the playground and the docs), or `unmatched`"
_CLASS = "a class in the keys file, or `default`"
_STEP = "`fetching`, `loading`"
_CALLER = "an API key's name, or `no key`"
_BUDGET = "`bodies`, `stored`, `images` (encoded), `small_pixels`, `large_pixels`"

# The metrics of vLLM that an operator needs most.
ENGINE: Final[Mapping[str, str]] = {
    "vllm:num_requests_running": "requests (choices) in the engine's batch",
    "vllm:num_requests_waiting": "requests that wait for the batch",
    "vllm:kv_cache_usage_perc": "fraction of the KV cache in use, 0 to 1",
    "vllm:num_preemptions_total": "requests preempted because the KV cache was full",
    "vllm:prefix_cache_queries_total": "prompt tokens looked up in the prefix cache",
    "vllm:prefix_cache_hits_total": "prompt tokens found there",
    "vllm:request_queue_time_seconds": "time in the engine's queue",
    "vllm:request_prefill_time_seconds": "time from the first step to the first token",
}


class Metrics:
    """The metrics of one gateway, in their own registry."""

    def __init__(self) -> None:
        families = Families()
        self.registry, self.families = families.registry, families.made
        self.measure: Callable[[], None] = lambda: None  # call it before `page`, in a thread
        self._requests(families)
        self._tokens(families)
        self._images(families)
        self._capacity(families)
        self._engine(families)
        self._callers(families)

    def _requests(self, families: Families) -> None:
        self.requests = families.counter(
            "gateway_requests",
            "Requests answered.",
            {"route": _ROUTE, "status": "the HTTP status; 499: client left"},
        )
        self.outcomes = families.counter(
            "gateway_request_outcomes",
            "How requests ended.",
            {
                "route": _ROUTE,
                "outcome": "`ok`, `client_left`, `client_limit`, `refused`, `failed`, `stream_failed`",
                "code": "the error's code ([errors](errors.md)), or empty",
            },
        )
        self.client_left = families.counter(
            "gateway_clients_left",
            "Clients that left before their answer was complete, by the stage of their request.",
            {"stage": "`start`, `waiting`, `body`, `images`, `engine`, `first_token`, `answer`"},
        )
        self.request_seconds = families.histogram(
            "gateway_request_seconds",
            "From a request's first byte to its answer's last byte.",
            _SECONDS,
            {"route": _ROUTE},
        )
        self.first_token_seconds = families.histogram(
            "gateway_time_to_first_token_seconds",
            "From a request's first byte to its first token, for streamed answers.",
            _SECONDS,
        )
        self.between_tokens_seconds = families.histogram(
            "gateway_time_between_tokens_seconds",
            "Time between the tokens of a choice, measured at the engine: slow clients do not count.",
            _SECONDS,
        )
        self.waiting_seconds = families.histogram(
            "gateway_waiting_seconds", "Time that requests waited in the gateway's queue.", _SECONDS
        )
        self.engine_waiting_seconds = families.histogram(
            "gateway_engine_waiting_seconds",
            "Time that running requests waited for an engine permit.",
            _SECONDS,
        )
        self.connections = families.gauge("gateway_connections", "Open connections, including idle ones.")
        self.connections_ended = families.counter(
            "gateway_connections_ended",
            "Connections that the gateway closed before or between requests, or because their client "
            "did not read.",
            {
                "reason": "`invalid_http`, `headers_too_large`, `header_timeout`, `overloaded` (too many), "
                "`idle` (closed to admit a new one), `unread`"
            },
        )
        self.ignored_fields = families.counter(
            "gateway_ignored_fields",
            "Unknown fields of messages, which are ignored; the header `x-gateway-ignored` names them.",
        )
        self.stalled = families.counter(
            "gateway_stalled_requests", "Requests ended because the engine produced no output for too long."
        )

    def _tokens(self, families: Families) -> None:
        self.prompt_tokens = families.counter(
            "gateway_prompt_tokens", "Prompt tokens, including those of images."
        )
        self.image_tokens = families.counter("gateway_image_tokens", "Prompt tokens of images.")
        self.completion_tokens = families.counter("gateway_completion_tokens", "Tokens generated.")

    def _images(self, families: Families) -> None:
        self.images = families.counter(
            "gateway_images",
            "Images read.",
            {"source": "`data`, `http`, `file`", "format": "Pillow's name: `jpeg`, `png`, …"},
        )
        self.image_seconds = families.histogram(
            "gateway_image_seconds",
            "Time per image and step.",
            _STEPS,
            {"step": "`fetch`, `decode` (base64 or pixels), `fit`"},
        )
        self.image_cache = families.counter(
            "gateway_image_cache",
            "Images looked up in the cache of decoded images.",
            {"result": "`hit`, `miss`"},
        )
        self.image_cache_bytes = families.gauge(
            "gateway_image_cache_bytes", "Memory used by the cache of decoded images."
        )
        self.fetch_failures = families.counter(
            "gateway_image_fetch_failures",
            "Images that could not be fetched from their URL.",
            {
                "reason": "`disabled`, `host`, `address` (not public), `dns`, `connection`, `timeout`, "
                "`status`, `encoding`, `redirect`, `too_large`, `overloaded`"
            },
        )

    def _capacity(self, families: Families) -> None:
        self.in_flight = families.gauge(
            "gateway_in_flight", "Running requests; some may wait for an engine permit."
        )
        self.in_flight_limit = families.gauge("gateway_in_flight_limit", "Maximum of running requests.")
        self.waiting = families.gauge("gateway_waiting", "Requests in the queue.")
        self.waiting_limit = families.gauge("gateway_waiting_limit", "Maximum of requests in the queue.")
        self.waiting_for_engine = families.gauge(
            "gateway_waiting_for_engine", "Running requests that wait for an engine permit."
        )
        self.memory_held = families.gauge(
            "gateway_memory_held_bytes", "Memory reserved for clients' data, by budget.", {"kind": _BUDGET}
        )
        self.memory_limit = families.gauge(
            "gateway_memory_limit_bytes", "Size of each memory budget.", {"kind": _BUDGET}
        )
        self.memory_waiting = families.gauge(
            "gateway_memory_waiting", "Memory permits waited for, by budget.", {"kind": _BUDGET}
        )
        self.batch_lines = families.counter(
            "gateway_batch_lines", "Batch lines that ended.", {"outcome": "`completed`, `failed`"}
        )
        self.batch_lines_running = families.gauge("gateway_batch_lines_running", "Batch lines that run.")
        self.batch_lines_waiting = families.gauge(
            "gateway_batch_lines_waiting", "Batch lines that have no result yet, of unfinished batches."
        )

    def _engine(self, families: Families) -> None:
        self.ready = families.gauge("gateway_ready", "1 while the engine answers.")
        self.weights_done = families.gauge(
            "gateway_weights_done_bytes",
            "Bytes of the weights that the engine's current start has fetched or loaded.",
            {"step": _STEP},
        )
        self.weights_size = families.gauge(
            "gateway_weights_size_bytes",
            "Size of these weights; 0 if no weights are being fetched or loaded.",
            {"step": _STEP},
        )
        self.set_loading(None)
        self.engine_restarts = families.counter("gateway_engine_restarts", "Restarts of a dead engine.")
        self.engine_hangs = families.counter("gateway_engine_hangs", "Engines killed because they hung.")
        self.engine_memory = families.gauge(
            "gateway_engine_memory_bytes", "Resident memory of the engine's processes."
        )
        self.engine_cpu = families.counter(
            "gateway_engine_cpu_seconds",
            "CPU time of the engine's processes, measured at each scrape.",
        )
        self.rerun = families.counter(
            "gateway_jobs_run_again", "Requests run again on a new engine after the old one died."
        )
        self.kv_cache_tokens = families.gauge(
            "gateway_kv_cache_tokens", "Tokens that fit in the engine's KV cache."
        )
        self.engine = families.info(
            "gateway_engine",
            "The running engine.",
            dict.fromkeys(("version", "dtype", "quantization", "attention_backend"), "vLLM's name for it"),
        )
        families.info("gateway_build", "The running gateway.", {"version": "its version"}).info(
            {"version": version("llava-gateway")}
        )

    def _callers(self, families: Families) -> None:
        labels = {"caller": _CALLER, "class": _CLASS}
        self.caller_requests = families.counter(
            "gateway_caller_requests", "Requests to generate, render or count, by caller.", labels
        )
        self.caller_tokens = families.counter(
            "gateway_caller_tokens", "Prompt and answer tokens, by caller.", labels
        )
        self.caller_images = families.counter(
            "gateway_caller_images", "Images in requests, by caller.", labels
        )
        self.limited = families.counter(
            "gateway_rate_limited",
            "Requests refused with 429.",
            {"limit": "`requests`, `tokens`, `images`, `at_once`", "class": _CLASS},
        )
        self.keys_file_stale = families.gauge(
            "gateway_keys_file_stale",
            "1 while the keys file cannot be read and the keys read before stay in use.",
        )
        self.limits_unchecked = families.counter(
            "gateway_limits_unchecked",
            "Requests that Redis could not count; `GATEWAY_LIMITS_UNREACHABLE` sets what happens then.",
            {"reason": "`unreachable`, `authentication`, `wrong_type` (of a caller's key in Redis), `other`"},
        )

    def set_engine(self, info: Mapping[str, str | int]) -> None:
        """Report the running engine; `info` has the fields of an `EngineInfo`."""
        self.engine.info({name: value for name, value in info.items() if isinstance(value, str)})
        self.kv_cache_tokens.set(float(info["kv_cache_tokens"]))

    def set_loading(self, progress: Progress | None) -> None:
        """Report the progress of the weights; None if no weights are being fetched or loaded."""
        for step in ("fetching", "loading"):
            at = progress if progress and progress.doing == step else None
            self.weights_done.labels(step).set(at.done if at else 0)
            self.weights_size.labels(step).set(at.total if at else 0)

    def page(self) -> bytes:
        """Return all metrics, including vLLM's, in Prometheus' text format."""
        return generate_latest(self.registry) + generate_latest(REGISTRY)
