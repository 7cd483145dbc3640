"""The options that describe a convolution, for the commands that take the shape of a weight."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ._options import sizes

Shape = Annotated[str, typer.Argument(help="[out]x[in/groups]x[kernel], such as 32x1x5x5.", show_default=False)]
Groups = Annotated[int, typer.Option(help="Groups of a convolution.")]
Transposed = Annotated[bool, typer.Option("--transposed", help="A transposed convolution: [in]x[out/groups]x….")]
Stride = Annotated[str, typer.Option(metavar="N[xN…]", help="Stride, for all axes or each.")]
Padding = Annotated[str, typer.Option(metavar="N[xN…]|same", help="Counts only with --input-size.")]
Dilation = Annotated[str, typer.Option(metavar="N[xN…]", help="Dilation, for all axes or each.")]
InputSize = Annotated[
    str | None, typer.Option(metavar="N[xN…]", help="Positions of the input map: taps miss near its border.")
]


def geometry(
    groups: int, transposed: bool, stride: str, padding: str, dilation: str, input_size: str | None
) -> dict[str, Any]:
    """Return the options as keyword arguments of `theory.fans`.

    Raises:
        typer.BadParameter: if one is not a size.
    """
    return {
        "groups": groups,
        "transposed": transposed,
        "stride": _each(stride, "--stride"),
        "padding": padding if padding in ("same", "valid") else _each(padding, "--padding"),
        "dilation": _each(dilation, "--dilation"),
        "input_size": None if input_size is None else _each(input_size, "--input-size"),
    }


def _each(text: str, where: str) -> int | tuple[int, ...]:
    found = sizes(text, where)
    return found[0] if len(found) == 1 else found
