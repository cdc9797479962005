"""How fast a streamed answer's tokens come, as the engine makes them."""

from gateway.engine.interface import Delta
from gateway.telemetry.metrics import Metrics


class LatencyMetrics:
    """Measures one request: its first token, and the time between the tokens of each choice.

    The latter goes by the engine's clock: while a client is slow to read, deltas wait and the engine goes on.
    """

    def __init__(self, metrics: Metrics, arrived: float) -> None:
        self._metrics = metrics
        self._arrived = arrived
        self._made: dict[int, float] = {}  # by choice: when its last token was

    def take(self, delta: Delta, now: float) -> None:
        """Count what a choice gained; `now` stands in for the engine's clock where it does not tell it."""
        if not delta.tokens:
            return
        if not self._made:
            self._metrics.first_token_seconds.observe(now - self._arrived)
        made = delta.made or now
        before = self._made.get(delta.index)
        if before is not None and made > before:
            self._metrics.between_tokens_seconds.observe((made - before) / delta.tokens)
        self._made[delta.index] = made
