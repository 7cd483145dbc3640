"""From a seed and a name to the key of a stream: after this file, which stream a parameter draws from is settled."""

from __future__ import annotations

import hashlib
import operator
import struct
from typing import Literal, NamedTuple

from stepzero.errors import SeedError

SPEC = "stepzero-v1"
Purpose = Literal["mask", "orth", "re", "im"]


class Key(NamedTuple):
    """Philox key (k0, k1) and the upper half (c2, c3) of its counter, as 32-bit words."""

    k0: int
    k1: int
    c2: int
    c3: int


def key(seed: int, name: str, purpose: Purpose | None = None) -> Key:
    r"""Return the key of the stream that belongs to (seed, name).

    BLAKE2b with 16 bytes of digest, the seed as its key and "stepzero-v1" as its personalisation; a further stream of one
    name appends "\\0" and its purpose (`stepzero-v1`, sections 1 and 8).

    Args:
        seed: 0 ≤ seed < 2^64; all 64 bits count.
        name: Canonical name of the parameter, taken as UTF-8 without normalisation.
        purpose: Which further stream of the name.

    Raises:
        SeedError: if the seed is no integer or out of range, or the name is no Unicode text.

    Examples:
        >>> [f"{word:08x}" for word in key(0, "weight")]
        ['3527422e', 'a79295f4', '2eda92e6', 'a8849512']
    """
    if not isinstance(name, str) or "\0" in name:
        raise SeedError(f"name={name!r} is no name. Give text without \\0, which parts a name from its purpose.")
    message = name if purpose is None else f"{name}\0{purpose}"
    try:
        data = message.encode()
    except UnicodeEncodeError:
        raise SeedError(f"name={name!r} has a lone surrogate and no UTF-8 form. Rename the parameter.") from None
    digest = hashlib.blake2b(
        data, digest_size=16, key=struct.pack("<Q", checked_seed(seed)), person=SPEC.encode().ljust(16, b"\0")
    ).digest()
    return Key(*struct.unpack("<4I", digest))


def checked_seed(seed: int) -> int:
    """Return the seed as an int, or raise SeedError."""
    try:
        value = operator.index(seed)
    except TypeError:
        raise SeedError(f"seed={seed!r} is not an integer. Give 0 ≤ seed < 2^64.") from None
    if isinstance(seed, bool) or not 0 <= value < 2**64:
        raise SeedError(f"seed={seed!r} is out of range. Give an integer, 0 ≤ seed < 2^64.")
    return value
