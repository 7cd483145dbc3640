"""`stepzero fans`: the fans of a weight, and what the named recipes make of them. No framework is loaded."""

from __future__ import annotations

from stepzero import laws, reporting, theory

from ._geometry import Dilation, Groups, InputSize, Padding, Shape, Stride, Transposed, geometry
from ._options import Json, sizes
from ._output import show, show_json

EXAMPLES = (
    "stepzero fans 32x1x5x5",
    "stepzero fans 64x32x3x3 --transposed --stride 2",
    "stepzero fans 64x64x3x3 --padding 1 --input-size 8",
)
SHOWN = ("kaiming_uniform", "kaiming_normal", "xavier_uniform", "xavier_normal", "lecun_normal", "torch_default")


def fans(
    shape: Shape,
    *,
    groups: Groups = 1,
    transposed: Transposed = False,
    stride: Stride = "1",
    padding: Padding = "0",
    dilation: Dilation = "1",
    input_size: InputSize = None,
    as_json: Json = False,
) -> None:
    """Show how many inputs reach one output of a weight, and how many outputs one input reaches."""
    of = sizes(shape, "SHAPE")
    found = theory.fans(of, **geometry(groups, transposed, stride, padding, dilation, input_size))
    drawn = {name: laws.recipe(name).law(found) for name in SHOWN}
    if as_json:
        recipes = {name: {"std": law.std, **law.to_dict()} for name, law in drawn.items()}
        show_json({**found.to_dict(), "recipes": recipes})
    else:
        show(_document(shape, found, drawn))


def _document(shape: str, found: theory.Fans, drawn: dict[str, laws.Law]) -> reporting.Document:
    columns = (reporting.Column("Recipe", "left"), reporting.Column("Std"), reporting.Column("Law", "left"))
    rows = tuple((name, f"{law.std:.6g}", repr(law)) for name, law in drawn.items())
    facts = f"fan_in {found.fan_in:.8g}, fan_out {found.fan_out:.8g}"
    return reporting.Document.of(f"Fans of {shape}", (facts, _uneven(found), reporting.Table(columns, rows)))


def _uneven(found: theory.Fans) -> str:
    if not found.fan_in_phases:
        return ""
    return (
        f"The stride leaves outputs with {found.forward_spread:g} times the variance of others (a checkerboard): "
        f"fan_in is {', '.join(f'{fan:g}' for fan in found.fan_in_phases)} by phase, and no single std is right for all."
    )
