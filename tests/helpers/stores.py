"""A key-value store for the tests, as the launcher's is for processes."""

import threading


class Store:
    """The launcher's key-value store, for ranks that are threads."""

    def __init__(self):
        self._values, self._lock = {}, threading.Lock()

    def add(self, key: str, number: int) -> int:
        with self._lock:
            self._values[key] = self._values.get(key, 0) + number
            return self._values[key]

    def set(self, key: str, value: str) -> None:
        self._values[key] = value.encode()

    def get(self, key: str) -> bytes:
        return self._values[key]
