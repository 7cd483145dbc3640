"""The bytes of tensors, chunk by chunk and in order, made by several threads a few chunks ahead of whoever takes them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

Job = Callable[[], memoryview]


def in_order(jobs: Iterable[Job], threads: int | None) -> Generator[memoryview, None, None]:
    """Yield the results of jobs in their order, while so many threads work a little ahead; memory is bounded by that lead."""
    workers = threads or os.cpu_count() or 1
    waiting: deque[Future[memoryview]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="stepzero") as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(job))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
