"""Convolutions as matrices along each axis, against the op itself."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stepzero.moments import _sides
from stepzero.moments._geometry import Geometry
from stepzero.moments._sides import multiplied, products

GEOMETRIES = (
    ("conv1d", (17,), (4,), {"stride": [2], "padding": [1], "dilation": [1]}),
    ("conv2d", (12, 9), (3, 5), {"stride": [1], "padding": [1, 2], "dilation": [1]}),
    ("conv2d", (12, 9), (3, 3), {"stride": [2, 1], "padding": "valid", "dilation": [2, 1]}),
    ("conv3d", (5, 6, 7), (3, 2, 3), {"stride": [1, 2, 1], "padding": [1, 0, 1], "dilation": [1]}),
    ("conv_transpose2d", (5, 4), (3, 4), {"stride": [2], "padding": [1], "output_padding": [1, 0], "dilation": [1]}),
)


def op_of(name: str, options: dict[str, object]) -> object:
    return lambda x, kernel: getattr(F, name)(x, kernel, **options)


@pytest.mark.parametrize(("name", "space", "kernel", "options"), GEOMETRIES)
@pytest.mark.parametrize("uniform", [True, False])
@pytest.mark.parametrize("short", [_sides.SHORT, 1])
def test_a_kernel_along_its_axes_is_the_op_with_its_gradient(
    name: str, space: tuple[int, ...], kernel: tuple[int, ...], options: dict[str, object], uniform: bool, short: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(_sides, "SHORT", short)
    generator = torch.Generator().manual_seed(3)
    taps = torch.ones(1, 1, *kernel, dtype=torch.float64)
    taps = taps if uniform else torch.rand(taps.shape, generator=generator, dtype=torch.float64)
    x = torch.rand(2, 1, *space, generator=generator, dtype=torch.float64, requires_grad=True)
    right = op_of(name, options)(x, taps)  # type: ignore[operator]
    g = Geometry(name, options, (2, 1, *space), right.shape, taps)
    mine = g.variance(x)
    torch.testing.assert_close(mine, right)
    seed = torch.rand(right.shape, generator=generator, dtype=torch.float64)
    gradients = [torch.autograd.grad((y * seed).sum(), x)[0] for y in (mine, right)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(("name", "space", "kernel", "options"), GEOMETRIES)
def test_a_tap_is_counted_at_every_input_that_it_meets(
    name: str, space: tuple[int, ...], kernel: tuple[int, ...], options: dict[str, object]
) -> None:
    s = torch.rand(1, 1, *space, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    taps = torch.ones(1, 1, *kernel, dtype=torch.float64, requires_grad=True)
    y = op_of(name, options)(s, taps)  # type: ignore[operator]
    (right,) = torch.autograd.grad(y.sum(), taps)
    g = Geometry(name, options, (1, 1, *space), y.shape, taps.detach())
    torch.testing.assert_close(g._frequencies(s), right[0, 0])


@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 3, 4)])
def test_a_kernel_is_the_sum_of_its_products(shape: tuple[int, ...]) -> None:
    kernel = torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    letters = "abc"[: len(shape)]
    total = sum(torch.einsum(",".join(letters) + "->" + letters, *vectors) for vectors in products(kernel))
    torch.testing.assert_close(total, kernel)
    assert len(products(torch.full(shape, 2.0, dtype=torch.float64))) == 1


def test_a_long_banded_matrix_is_multiplied_by_blocks() -> None:
    n = 3 * _sides.BLOCK + 7
    t = torch.rand(2, n, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    band: Tensor = torch.ones(n, n, dtype=torch.float64).tril(2).triu(-1)
    torch.testing.assert_close(multiplied(t, 1, band), torch.einsum("oi,bic->boc", band, t))
