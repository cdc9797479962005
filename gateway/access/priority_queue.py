"""Names in the order of keys that change."""

from heapq import heapify, heappop, heappush

Key = tuple[float, ...]


class PriorityQueue:
    """Finds the name with the least key; each change takes time logarithmic in the number of names."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[Key, int]] = {}
        self._heap: list[tuple[Key, int, str]] = []  # entries that a later one of the same name replaced, too
        self._puts = 0

    def __len__(self) -> int:
        return len(self._keys)

    def put(self, name: str, key: Key) -> None:
        """Give `name` its key; of equal keys the one that was given first comes first."""
        self._puts += 1
        self._keys[name] = key, self._puts
        heappush(self._heap, (key, self._puts, name))
        if len(self._heap) > 2 * len(self._keys) + 64:
            self._heap = [(key, put, name) for name, (key, put) in self._keys.items()]
            heapify(self._heap)

    def drop(self, name: str) -> None:
        """Forget `name`, if it is there."""
        self._keys.pop(name, None)

    def first(self) -> str | None:
        """Return the name with the least key, None where there is none."""
        while self._heap:
            key, put, name = self._heap[0]
            if self._keys.get(name) == (key, put):
                return name
            heappop(self._heap)
        return None
