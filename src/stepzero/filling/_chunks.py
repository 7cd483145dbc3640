"""The bytes of tensors, chunk by chunk and in order, made by several threads a few chunks ahead of whoever takes them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from stepzero import streams
from stepzero.laws import Law

CHUNK = 2**21  # elements made at a time
Job = Callable[[], memoryview]


def drawn(
    law: Law, shape: tuple[int, ...], dtype: str, seed: int, name: str, engine: streams.EngineName
) -> Iterator[Job]:
    """Yield the jobs that make the bytes of one parameter, in order; laws of whole matrices are one job."""
    whole = streams.Region(shape)
    if not whole.size:
        return
    cuts = [(slice(None),) * len(shape)] if isinstance(law, streams.WHOLE) else whole.pieces(CHUNK)
    for cut in cuts:
        yield lambda region=whole[cut]: _draw(law, region, dtype, seed, name, engine)  # type: ignore[misc]


def in_order(jobs: Iterable[Job], threads: int | None) -> Generator[memoryview, None, None]:
    """Yield the results of jobs in their order, while so many threads work a little ahead; memory is bounded by that lead."""
    workers = threads or os.cpu_count() or 1
    waiting: deque[Future[memoryview]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="stepzero") as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(job))
                if len(waiting) > workers + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _draw(law: Law, region: streams.Region, dtype: str, seed: int, name: str, engine: streams.EngineName) -> memoryview:
    values = np.empty(region.shape, streams.storage(dtype).numpy)
    streams.fill(values, law, seed, name, region, dtype=dtype, engine=engine)
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return little.reshape(-1).view(np.uint8).data
