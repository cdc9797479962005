"""A priority queue of names whose keys change."""

from heapq import heapify, heappop, heappush

Key = tuple[float, ...]


class PriorityQueue:
    """Finds the name with the least key; each change takes time logarithmic in the number of names."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[Key, int]] = {}
        self._heap: list[tuple[Key, int, str]] = []  # includes entries that a later one replaced
        self._puts = 0

    def __len__(self) -> int:
        return len(self._keys)

    def put(self, name: str, key: Key) -> None:
        """Set the key of `name`; of equal keys, the one set first comes first."""
        self._puts += 1
        self._keys[name] = key, self._puts
        heappush(self._heap, (key, self._puts, name))
        if len(self._heap) > 2 * len(self._keys) + 64:
            self._heap = [(key, put, name) for name, (key, put) in self._keys.items()]
            heapify(self._heap)

    def drop(self, name: str) -> None:
        """Remove `name` if it is there."""
        self._keys.pop(name, None)

    def first(self) -> str | None:
        """Return the name with the least key, or None if there is none."""
        while self._heap:
            key, put, name = self._heap[0]
            if self._keys.get(name) == (key, put):
                return name
            heappop(self._heap)
        return None
