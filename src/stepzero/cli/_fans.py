"""`stepzero fans`: the fans of a weight, and what the named recipes make of them. No framework is loaded."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from stepzero import laws, reporting, theory

from ._options import Json, sizes
from ._output import show, show_json

EXAMPLES = (
    "stepzero fans 32x1x5x5",
    "stepzero fans 64x32x3x3 --transposed --stride 2",
    "stepzero fans 64x64x3x3 --padding 1 --input-size 8",
)
SHOWN = ("kaiming_uniform", "kaiming_normal", "xavier_uniform", "xavier_normal", "lecun_normal", "torch_default")

Sizes = Annotated[str, typer.Option(metavar="N[xN…]")]


def fans(
    shape: Annotated[str, typer.Argument(help="[out]x[in/groups]x[kernel], such as 32x1x5x5.", show_default=False)],
    *,
    groups: Annotated[int, typer.Option(help="Groups of a convolution.")] = 1,
    transposed: Annotated[
        bool, typer.Option("--transposed", help="A transposed convolution: [in]x[out/groups]x….")
    ] = False,
    stride: Sizes = "1",
    padding: Annotated[str, typer.Option(metavar="N[xN…]|same", help="Counts only with --input-size.")] = "0",
    dilation: Sizes = "1",
    input_size: Annotated[
        str | None, typer.Option(metavar="N[xN…]", help="Positions of the input map: taps miss near its border.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show how many inputs reach one output of a weight, and how many outputs one input reaches."""
    found = theory.fans(
        sizes(shape, "SHAPE"),
        groups=groups,
        transposed=transposed,
        stride=_sizes(stride, "--stride"),
        padding=padding if padding in ("same", "valid") else _sizes(padding, "--padding"),
        dilation=_sizes(dilation, "--dilation"),
        input_size=None if input_size is None else _sizes(input_size, "--input-size"),
    )
    drawn = {name: laws.recipe(name).law(found) for name in SHOWN}
    if as_json:
        recipes = {name: {"std": law.std, **law.to_dict()} for name, law in drawn.items()}
        show_json({**found.to_dict(), "recipes": recipes})
        return
    show(_document(shape, found, drawn))


def _document(shape: str, found: theory.Fans, drawn: dict[str, laws.Law]) -> reporting.Document:
    columns = (reporting.Column("Recipe", "left"), reporting.Column("Std"), reporting.Column("Law", "left"))
    rows = tuple((name, f"{law.std:.6g}", repr(law)) for name, law in drawn.items())
    facts = f"fan_in {found.fan_in:.8g}, fan_out {found.fan_out:.8g}"
    uneven = _uneven(found)
    return reporting.Document.of(f"Fans of {shape}", (facts, uneven, reporting.Table(columns, rows)))


def _uneven(found: theory.Fans) -> str:
    if not found.fan_in_phases:
        return ""
    return (
        f"The stride leaves outputs with {found.forward_spread:g} times the variance of others (a checkerboard): "
        f"fan_in is {', '.join(f'{fan:g}' for fan in found.fan_in_phases)} by phase, and no single std is right for all."
    )


def _sizes(text: str, where: str) -> Any:
    found = sizes(text, where)
    return found[0] if len(found) == 1 else found
