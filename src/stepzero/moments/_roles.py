"""What each axis of an activation stands for: sums over positions, channels and inputs obey different laws.

An axis is a tuple of factors (size, role), outermost first, so that flatten, unflatten, window partitions and
channel shuffles stay exact: merging axes concatenates their factors, splitting cuts the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

Role = Literal["batch", "channel", "position", "copy"]
Factor = tuple[int, Role]
Axis = tuple[Factor, ...]
Roles = tuple[Axis, ...]


def same(shape: Sequence[int], role: Role) -> Roles:
    """Give all axes one role; an axis of size 1 has none."""
    return tuple(single(size, role) for size in shape)


def single(size: int, role: Role) -> Axis:
    """Return an axis of one factor, or of none where nothing differs."""
    return ((size, role),) if size > 1 else ()


def guess(shape: Sequence[int], *, channel_last: bool = False) -> Roles:
    """Return the usual roles of an activation: (batch, channel, *positions), or (batch, *positions, channel)."""
    rank = len(shape)
    if rank <= 1:
        return same(shape, "channel")
    places = same(shape[1:-1] if channel_last and rank > 2 else shape[2:], "position")
    if channel_last and rank > 2:
        return (single(shape[0], "batch"), *places, single(shape[-1], "channel"))
    return (single(shape[0], "batch"), single(shape[1], "channel"), *places)


def count(roles: Roles, role: Role) -> int:
    """Return how many elements differ in this role."""
    return prod(size for axis in roles for size, kind in axis if kind == role)


def reshape(roles: Roles, shape: Sequence[int]) -> Roles:
    """Return the roles after a row-major reshape."""
    stack = [factor for axis in roles for factor in axis][::-1]
    return tuple(_take(stack, size) for size in shape)


def _take(stack: list[Factor], size: int) -> Axis:
    """Pop factors that multiply to `size`, splitting one that straddles the border."""
    axis: list[Factor] = []
    need = size
    while need > 1 and stack:
        have, role = stack.pop()
        if need % have == 0:
            axis.append((have, role))
            need //= have
        elif have % need == 0:
            axis.append((need, role))
            stack.append((have // need, role))
            need = 1
        else:  # factors that do not divide: one mixed axis, named after its first part
            rest = need
            while stack and rest % have:
                have *= stack.pop()[0]
            return (*axis, (need, role))
    return tuple(axis)


def matched(before: Sequence[int], after: Sequence[int]) -> list[tuple[slice, slice]]:
    """Pair the axes of a row-major reshape: the shortest runs of axes that hold the same elements on both sides.

    An empty tensor (no box was found) holds none, and all its axes go together.
    """
    if 0 in before or 0 in after:
        return [(slice(0, len(before)), slice(0, len(after)))]
    found, i, j = [], 0, 0
    while i < len(before) or j < len(after):
        start, left, right = (i, j), 1, 1
        while left != right or (i, j) == start:
            if j == len(after) or (i < len(before) and left <= right):
                left, i = left * before[i], i + 1
            else:
                right, j = right * after[j], j + 1
        found.append((slice(start[0], i), slice(start[1], j)))
    return found


def replaced(roles: Roles, shape: Sequence[int], dims: Sequence[int], role: Role) -> Roles:
    """Return the roles of an op that gives some axes new members of one role."""
    return tuple(single(n, role) if d in dims else axis for d, (axis, n) in enumerate(zip(roles, shape, strict=True)))


def resize(axis: Axis, size: int) -> Axis:
    """Return an axis cut or extended to another size; several factors merge under the first one's role."""
    if size <= 1:
        return ()
    if prod(n for n, _ in axis) == size:
        return axis
    return ((size, axis[0][1] if axis else "copy"),)


def of(axis: Axis) -> set[Role]:
    """Return the roles that an axis mixes."""
    return {role for _, role in axis}


def is_all(axis: Axis, role: Role) -> bool:
    """Say whether an axis has this role and no other."""
    return bool(axis) and of(axis) == {role}


def axes(roles: Roles, role: Role) -> list[int]:
    """Return the axes of exactly this role."""
    return [i for i, axis in enumerate(roles) if is_all(axis, role)]


def broadcast(left: Roles, right: Roles) -> Roles:
    """Return the roles of an elementwise result: the axis that is not of size 1 decides; a copy's yields to any other."""
    rank = max(len(left), len(right))
    wide = [((),) * (rank - len(side)) + side for side in (left, right)]
    return tuple(b if b and is_all(a, "copy") else a or b for a, b in zip(*wide, strict=True))
