"""`stepzero explain`: why a weight gets the std that it gets, step by step. No framework is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from stepzero import reporting, theory

from ._geometry import Dilation, Groups, InputSize, Padding, Shape, Stride, Transposed, geometry
from ._options import Json, Overwrite, sizes, suffix_of
from ._output import refuse_to_replace, remark, show_json

if TYPE_CHECKING:
    from stepzero.theory import Explanation

EXAMPLES = (
    "stepzero explain 32x1x5x5",
    "stepzero explain 64x64x3x3 --nonlinearity leaky_relu --param 0.2 --mode fan_out",
    "stepzero explain 32x1x5x5 -o kaiming.html",
)
FORMATS: MappingProxyType[str, Callable[[Explanation], str]] = MappingProxyType(
    {
        ".md": lambda found: found.to_markdown(),
        ".html": lambda found: found.to_html(),
        ".txt": lambda found: f"{found}\n",
    }
)

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write it too: .md (LaTeX), .html (MathML) or .txt."),
]


def explain(
    shape: Shape,
    *,
    nonlinearity: Annotated[str, typer.Option(help="The activation beside it.")] = "relu",
    param: Annotated[list[float] | None, typer.Option(help="Its settings, such as a negative slope.")] = None,
    mode: Annotated[str, typer.Option(help="fan_in, fan_out, fan_avg or fan_geo_avg.")] = "fan_in",
    distribution: Annotated[str, typer.Option(help="uniform, normal or truncated_normal.")] = "uniform",
    groups: Groups = 1,
    transposed: Transposed = False,
    stride: Stride = "1",
    padding: Padding = "0",
    dilation: Dilation = "1",
    input_size: InputSize = None,
    output: Output = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Explain step by step how a weight gets its std: shape, fan, gain, std, bound, each with its source."""
    as_text = FORMATS[suffix_of(output, FORMATS, ".txt")]
    refuse_to_replace(output, overwrite)
    options = geometry(groups, transposed, stride, padding, dilation, input_size)
    settings = tuple(param) if param else None
    found = theory.explain(sizes(shape, "SHAPE"), nonlinearity, settings, mode, distribution, **options)
    if output is not None:
        reporting.write_text(output, as_text(found), overwrite=overwrite)
        remark(f"wrote {output}")
    if as_json:
        show_json(found.to_dict())
    else:
        typer.echo(str(found))
