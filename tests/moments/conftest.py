"""Hold one op's predicted moments, forward and for small changes, against Monte Carlo on the op alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from stepzero.moments import Flow, Moments, Signal, propagate
from stepzero.moments import _roles as R
from stepzero.network import capture

SIGMAS = 5.0  # of the estimator over draws: one false alarm in 1.7 million comparisons
STEP = 1e-6  # of the finite differences
WHITE = (0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
CORRELATED = (0.0, 1.3, 0.5, 0.5, 0.4, 0.2)
SHIFTED = (0.6, 1.5, 0.8, 0.8, 0.7, 0.5)  # like the output of a ReLU: a mean, and much in common
CHANGE = (0.0, 1.0, 0.3, 0.3, 0.2, 0.1)  # a small change, with gradients alike at other places and inputs


@dataclass(frozen=True)
class Case:
    """An op in a module, the moments of its inputs, and how closely each output moment must be met."""

    module: nn.Module
    shapes: Sequence[tuple[int, ...]]
    moments: tuple[float, ...] = SHIFTED
    draws: int = 150
    weight: tuple[float, float] = (0.0, 0.5)  # mean and sd of every parameter
    loose: Mapping[str, float] = field(default_factory=dict)  # approximations: allowed error in units of E[x²]
    loose_change: Mapping[str, float] = field(default_factory=dict)
    channel_last: bool = False


def signal(shape: tuple[int, ...], moments: tuple[float, ...], change: Moments | None, channel_last: bool) -> Signal:
    one = (1,) * len(shape)
    m = Moments(*(torch.full(one, v, dtype=torch.float64) for v in moments))
    return Signal(shape, R.guess(shape, channel_last=channel_last), m, change)


def draw(s: Signal, values: tuple[float, ...]) -> Tensor:
    """A Gaussian field with these moments (near = elsewhere): parts shared by all, by an input, by a place, by none."""
    mean, second, _, elsewhere, across, apart = values
    floor = apart - mean**2
    parts = {
        ("batch", "position"): floor,
        ("position",): elsewhere - apart,
        ("batch",): across - apart,
        (): second - elsewhere - across + apart,
    }
    x = torch.full(s.shape, mean, dtype=torch.float64)
    for shared, variance in parts.items():
        size = [1 if R.of(a) & set(shared) else n for a, n in zip(s.roles, s.shape, strict=True)]
        x = x + max(variance, 0.0) ** 0.5 * torch.randn(size, dtype=torch.float64)
    return x


def statistics(y: Tensor, roles: R.Roles) -> Tensor:
    """The six moments of one batch, averaged over channels, places and inputs; nan where there is no pair."""
    factors = [factor for axis in roles for factor in axis]  # merged axes apart again
    y, roles = y.reshape([n for n, _ in factors]), tuple((factor,) for factor in factors)
    places, inputs = R.axes(roles, "position"), R.axes(roles, "batch")
    p, b = R.count(roles, "position"), R.count(roles, "batch")
    squares = [y.square().mean(), _squared_sum(y, places) / p, _squared_sum(y, inputs) / b]
    second, own, over = squares
    both = _squared_sum(y, [*places, *inputs]) / (p * b)
    nothing = torch.tensor(float("nan"), dtype=torch.float64)
    elsewhere = (own - second) / (p - 1) if p > 1 else nothing
    across = (over - second) / (b - 1) if b > 1 else nothing
    apart = nothing
    if p > 1 and b > 1:
        apart = (both - second - (p - 1) * elsewhere - (b - 1) * across) / ((p - 1) * (b - 1))
    beside = [
        (y.narrow(d, 1, y.shape[d] - 1) * y.narrow(d, 0, y.shape[d] - 1)).mean() for d in places if y.shape[d] > 1
    ]
    near = torch.stack(beside).mean() if beside else nothing
    return torch.stack([y.mean(), second, near, elsewhere, across, apart])


def _squared_sum(y: Tensor, dims: Sequence[int]) -> Tensor:
    return (y.sum(dim=tuple(dims), keepdim=True) if dims else y).square().mean()


def predicted(case: Case) -> tuple[Flow, Signal, list[Tensor]]:
    """Propagate, with the change's moments as numbers that are also taps."""
    tap = torch.tensor(CHANGE[1], dtype=torch.float64, requires_grad=True)
    change = Moments(*(tap if i == 1 else torch.tensor(v, dtype=torch.float64) for i, v in enumerate(CHANGE)))
    graph = capture(case.module, tuple(torch.zeros(s) for s in case.shapes))
    inputs = {
        n: signal(graph.values[v].shape, case.moments, change, case.channel_last) for n, v in graph.inputs.items()
    }
    mean, sd = (torch.tensor(v, dtype=torch.float64) for v in case.weight)
    parameters = dict.fromkeys(graph.parameters, (mean, mean**2 + sd**2))
    flow = propagate(graph, inputs, parameters, on_unknown="error")
    return flow, flow.signals[graph.outputs[0]], [tap]


def measured(case: Case, roles: R.Roles) -> tuple[Tensor, Tensor, Tensor]:
    """Draw inputs, weights and changes anew each time: statistics of the output, of its change, of the gradient."""
    rows = []
    for _ in range(case.draws):
        with torch.no_grad():
            for p in case.module.parameters():
                p.normal_(*case.weight)
        signals = [signal(s, case.moments, None, case.channel_last) for s in case.shapes]
        xs = tuple(draw(s, case.moments) for s in signals)
        changes = tuple(draw(s, CHANGE) for s in signals)
        seed = int(torch.randint(1 << 31, ()))

        def run(*inputs: Tensor, seed: int = seed) -> Tensor:
            torch.manual_seed(seed)  # noise must be the same for the op and its change
            return case.module(*(x * 1.0 for x in inputs))  # a copy: the op may write in place

        with torch.no_grad():
            y = run(*xs)
            steps = [run(*(x + h * c for x, c in zip(xs, changes, strict=True))) for h in (STEP, -STEP)]
            dy = (steps[0] - steps[1]) / (2 * STEP)
        leaves = [x.clone().requires_grad_() for x in xs]
        grads = torch.autograd.grad(run(*leaves), leaves, torch.randn_like(y), allow_unused=True)
        square = sum(0.0 if g is None else g.square().sum() for g in grads) / y.numel()
        rows.append((statistics(y.detach(), roles), statistics(dy.detach(), roles), square))
    return tuple(torch.stack([torch.as_tensor(r[i]) for r in rows]) for i in range(3))


def compare(case: Case) -> None:
    """Assert every moment of the output, of its change, and the gradient's gain, each within 5 sigma of its estimate."""
    _flow, out, taps = predicted(case)
    case.module.double()
    forward, change, gradient = measured(case, out.roles)
    _close("moment", out.moments, forward, case.loose)
    _close("change", out.tangent, change, case.loose_change)
    numel = out.tangent.second.numel()
    whole = out.tangent.second.sum() * (torch.Size(out.shape).numel() / numel)
    (gain,) = torch.autograd.grad(whole, taps)  # Σ E[g²] over the input, for unit noise at every output
    allowed = case.loose_change.get("second", 0.0) * float(gain) / torch.Size(out.shape).numel()
    _within("gradient", float(gain) / torch.Size(out.shape).numel(), gradient, allowed)


def _close(what: str, moments: Moments, samples: Tensor, loose: Mapping[str, float]) -> None:
    scale = float(moments.second.detach().mean())
    for i, (name, t) in enumerate(zip(Moments._fields, moments, strict=True)):
        if not samples[:, i].isnan().any():
            _within(f"{what} {name!r}", float(t.detach().mean()), samples[:, i], loose.get(name, 0.0) * scale)


def _within(what: str, value: float, samples: Tensor, allowed: float) -> None:
    error = float(samples.std()) / len(samples) ** 0.5
    found = float(samples.mean())
    assert abs(found - value) <= SIGMAS * error + allowed + 1e-9, (
        f"{what}: predicted {value:.6g}, measured {found:.6g} ± {error:.2g}"
        f" ({(found - value) / max(error, 1e-300):+.1f} sigma, {allowed:.2g} allowed)"
    )


@pytest.fixture
def hold() -> Callable[..., None]:
    """Return the comparison of one op against Monte Carlo, from a fixed seed."""
    torch.set_num_threads(1)

    def against(module: nn.Module, *shapes: tuple[int, ...], **options: object) -> None:
        torch.manual_seed(20)
        with torch.random.fork_rng():
            compare(Case(module, shapes, **options))  # type: ignore[arg-type]

    return against


@pytest.fixture
def hold_outputs() -> Callable[..., None]:
    """Return the comparison of all outputs' second moments, and of the gradient behind the first weight op, with fresh weights."""
    torch.set_num_threads(1)

    def against(
        module: nn.Module, shape: tuple[int, ...], sd: float, *, draws: int, within: float, back: float
    ) -> None:
        graph = capture(module, (torch.zeros(shape),))
        law = (torch.zeros((), dtype=torch.float64), torch.tensor(sd**2, dtype=torch.float64))
        flow = propagate(graph, {}, dict.fromkeys(graph.parameters, law), on_unknown="error")
        predicted = [flow.second(o) for o in graph.outputs]
        with torch.random.fork_rng():
            torch.manual_seed(21)
            rows = torch.tensor([_one_draw(module, shape, sd) for _ in range(draws)], dtype=torch.float64)
        for i, value in enumerate(predicted):
            _within(f"output {i}", value, rows[:, i], within * value)
        gradients = flow.gradients()
        if gradients:
            (gradient, *_) = gradients.values()
            _within("gradient", gradient, rows[:, -1], back * gradient)

    return against


def _one_draw(module: nn.Module, shape: tuple[int, ...], sd: float) -> list[float]:
    for p in module.parameters():
        nn.init.normal_(p, 0.0, sd)
    behind: list[Tensor] = []
    first = next((m for m in module.modules() if isinstance(m, nn.Linear)), None)
    hook = first and first.register_forward_hook(lambda _m, _i, y: behind.append(y))
    outputs = module(torch.randn(shape))
    if hook is not None:
        hook.remove()
    seconds = [float(y.detach().square().mean()) for y in outputs]
    if not behind:
        return seconds
    (g,) = torch.autograd.grad(sum((y * torch.randn_like(y)).sum() for y in outputs), behind[:1])
    return [*seconds, float(g.square().mean())]
