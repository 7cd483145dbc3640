"""`stepzero explain`: why a weight gets the std that it gets, step by step. For a shape, no framework is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from stepzero import reporting, theory

from ._geometry import Dilation, Groups, InputSize, Padding, Stride, Transposed, geometry
from ._options import Json, Overwrite, PlanFile, output_option, sizes, suffix_of
from ._output import refuse_to_replace, remark, show_json

if TYPE_CHECKING:
    from stepzero.theory import Explanation

EXAMPLES = (
    "stepzero explain 32x1x5x5",
    "stepzero explain 64x64x3x3 --nonlinearity leaky_relu --param 0.2 --mode fan_out",
    "stepzero explain 32x1x5x5 -o kaiming.html",
    "stepzero explain layer3.0.conv2.weight --plan resnet50.json",
)
FORMATS: MappingProxyType[str, Callable[[Explanation], str]] = MappingProxyType(
    {
        ".md": lambda found: found.to_markdown(),
        ".html": lambda found: reporting.page(found.to_html(), found.title),
        ".txt": lambda found: f"{found}\n",
    }
)

Subject = Annotated[
    str, typer.Argument(help="A shape, [out]x[in/groups]x[kernel]; or a parameter of --plan.", show_default=False)
]
Output = Annotated[
    Path | None,
    output_option("Write it too: .md (LaTeX), .html (MathML) or .txt."),
]


def explain(
    subject: Subject,
    *,
    plan_file: PlanFile = None,
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
    """Explain step by step how a weight gets its std: shape, fan, gain, std, bound, each with its source.

    SUBJECT is the shape of a weight, such as 32x1x5x5; or, with --plan, the name of a parameter in a plan that
    `stepzero plan -o FILE.json` wrote.
    """
    as_text = FORMATS[suffix_of(output, FORMATS, ".txt")]
    refuse_to_replace(output, overwrite)
    options = geometry(groups, transposed, stride, padding, dilation, input_size)
    if plan_file is None:
        settings = tuple(param) if param else None
        found = theory.explain(sizes(subject, "SUBJECT"), nonlinearity, settings, mode, distribution, **options)
    else:
        found = _planned(plan_file, subject)
    if output is not None:
        reporting.write_text(output, as_text(found), overwrite=overwrite)
        remark(f"wrote {output}")
    if as_json:
        show_json(found.to_dict())
    else:
        typer.echo(str(found))


def _planned(plan_file: Path, name: str) -> Explanation:
    from stepzero.planning import Plan

    return Plan.load(plan_file).explain(name)
