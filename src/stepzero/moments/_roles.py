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

CHANNEL_FIRST: tuple[Role, ...] = ("batch", "channel", "position", "position", "position")
CHANNEL_LAST: tuple[Role, ...] = ("batch", "position", "position", "position", "channel")


def label(shape: Sequence[int], roles: Sequence[Role]) -> Roles:
    """Return one factor for each axis; an axis of size 1 has none."""
    return tuple(() if size == 1 else ((size, role),) for size, role in zip(shape, roles, strict=True))


def guess(shape: Sequence[int], *, channel_last: bool = False) -> Roles:
    """Return the usual roles of an activation: (batch, channel, *positions), or (batch, *positions, channel)."""
    rank = len(shape)
    if rank <= 1:
        return label(shape, ["channel"] * rank)
    if channel_last and rank > 2:
        return label(shape, ["batch", *["position"] * (rank - 2), "channel"])
    return label(shape, ["batch", "channel", *["position"] * (rank - 2)])


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


def resize(axis: Axis, size: int) -> Axis:
    """Return an axis cut or extended to another size; several factors merge under the first one's role."""
    if size == 1:
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
    """Return the roles of an elementwise result: the axis that is not of size 1 decides."""
    rank = max(len(left), len(right))
    wide = [((),) * (rank - len(side)) + side for side in (left, right)]
    return tuple(a if a else b for a, b in zip(*wide, strict=True))
