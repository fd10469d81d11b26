"""Iterators that run ahead of their reader in threads, by a bounded number of items."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from queue import Full, Queue
from typing import TypeVar

Item = TypeVar("Item")

_POLL_SECONDS = 0.1


def ahead(iterables: Sequence[Iterable[Item]], size: int) -> Iterator[Item]:
    """Items of several iterables as they come, each in a thread of its own; those of one keep their order.

    At most `size` items wait. An exception of one is raised here, after the items before it. When the reader stops,
    the iterables are closed where they are generators.
    """
    queue: Queue[tuple[str, Item | BaseException | None]] = Queue(size)
    stopped = threading.Event()

    def put(kind: str, value: Item | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                queue.put((kind, value), timeout=_POLL_SECONDS)
                return True
            except Full:
                continue
        return False

    def run(iterable: Iterable[Item]) -> None:
        iterator: Iterator[Item] | None = None
        try:
            iterator = iter(iterable)
            for item in iterator:
                if not put("item", item):
                    return
            put("end", None)
        except BaseException as error:  # noqa: BLE001  raised again by the reader
            put("error", error)
        finally:
            if close := getattr(iterator, "close", None):
                close()

    threads = [threading.Thread(target=run, args=(iterable,), daemon=True) for iterable in iterables]
    for thread in threads:
        thread.start()
    try:
        running = len(threads)
        while running:
            kind, value = queue.get()
            if kind == "item":
                yield value  # type: ignore[misc]
            elif kind == "end":
                running -= 1
            else:
                assert isinstance(value, BaseException)
                raise value
    finally:
        stopped.set()
        for thread in threads:
            thread.join(1)  # one that waits for something slow is left behind


class Shared(Iterator[Item]):
    """One iterator that several threads take from."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self._lock = threading.Lock()

    def __next__(self) -> Item:
        with self._lock:
            return next(self._items)
