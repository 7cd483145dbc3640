"""Where the bytes of a file go: hashed, written and flushed at the same time, so that the slowest of them sets the pace."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

LEAD = 4  # chunks that may wait for their hash
_sync = getattr(os, "fdatasync", os.fsync)  # without the times of the file, where that can be left out
FLUSH = 2**27  # bytes between two flushes: the disk works while the next values are made


class Sink:
    """A file that takes the tensors of a volume, chunk by chunk, and a SHA-256 of each."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hasher = ThreadPoolExecutor(1, thread_name_prefix="stepzero-hash")
        self._flusher = ThreadPoolExecutor(1, thread_name_prefix="stepzero-flush")
        self._hashing: deque[Future[None]] = deque()
        self._flushing: Future[None] | None = None
        self._unflushed = 0
        self._digests: dict[str, hashlib._Hash] = {}

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (self._hasher, self._flusher):
            pool.shutdown(wait=True, cancel_futures=True)

    def open(self, name: str) -> None:
        """Begin the next tensor."""
        self._digests[name] = hashlib.sha256()

    def write(self, name: str, chunk: memoryview) -> None:
        """Take the next bytes of a tensor; they must not change any more."""
        self._hashing.append(self._hasher.submit(self._digests[name].update, chunk))
        self._file.write(chunk)
        self._flush(chunk.nbytes)
        while len(self._hashing) > LEAD:
            self._hashing.popleft().result()

    def hashes(self) -> dict[str, str]:
        """Return the hash of each tensor, once all bytes are hashed."""
        while self._hashing:
            self._hashing.popleft().result()
        return {name: digest.hexdigest() for name, digest in self._digests.items()}

    def _flush(self, added: int) -> None:
        """Send to the disk what has gathered, unless it is still busy with what came before."""
        self._unflushed += added
        if self._unflushed < FLUSH or (self._flushing is not None and not self._flushing.done()):
            return
        if self._flushing is not None:
            self._flushing.result()  # a disk that failed says so here
        self._unflushed = 0
        self._flushing = self._flusher.submit(_sync, self._file.fileno())
