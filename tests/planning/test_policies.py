"""Policies: each says what it promises, of the parameters that it is about, and names itself in the plan."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import stepzero
from stepzero.errors import PlanError
from stepzero.laws import Constant, Kept, Normal, Orthogonal, Parts
from stepzero.network import load_model
from stepzero.planning import POLICIES, Plan, Policy, Said, plan


class Blocks(nn.Module):
    """A residual stream without norm; branches of `layers` linear layers."""

    def __init__(self, blocks: int = 4, layers: int = 2, width: int = 16, gain: bool = False) -> None:
        super().__init__()
        self.stem = nn.Linear(width, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(part for _ in range(layers) for part in (nn.ReLU(), nn.Linear(width, width))))
            for _ in range(blocks)
        )
        self.gains = nn.ParameterList(nn.Parameter(torch.ones(width if gain else ())) for _ in range(blocks))
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block, gain in zip(self.blocks, self.gains, strict=True):
            x = x + gain * block(x)
        return self.head(x)


class Language(nn.Module):
    """Embedding, position table, one gated block and a head, tied or not."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(40, 16, padding_idx=3), nn.Parameter(torch.full((1, 6, 16), 0.1))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 40, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.embed(ids) + self.position))


class Modulated(nn.Module):
    """The modulation of a DiT block, beside a squeeze-excite gate that must not be taken for one."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.modulation, self.inner = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.squeeze, self.norm = nn.Linear(width, width), nn.LayerNorm(width, elementwise_affine=False)

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        shift, scale, gate = self.modulation(c).chunk(3, dim=-1)
        x = x + gate[:, None] * self.inner(self.norm(x) * (1 + scale[:, None]) + shift[:, None])
        return x * torch.sigmoid(self.squeeze(x.mean(1)))[:, None]


IDS = "2x6:int64"


@pytest.mark.parametrize("name", POLICIES)
def test_each_policy_has_a_form_a_reason_and_a_source(name):
    policy = POLICIES[name]
    assert policy.name == name
    assert policy.kind == name.partition(":")[0]
    assert policy.reason
    assert policy.source


def test_a_plan_says_which_policy_spoke_and_keeps_it_in_its_file(tmp_path):
    made = plan(Blocks(), (2, 16), policies=["head:calibrated", "residual:completep"])
    assert made.why("head.weight").startswith("policy head:calibrated: logits of second moment 0.08")
    assert "Dey et al. 2025" in made.why("blocks.2.3.weight")
    assert made.why("stem.weight").startswith("goal forward: second moment 1 for every preactivation (He et al. 2015")
    assert "b = 0" in made.why("stem.bias")
    assert "policy head:calibrated" in " ".join(str(made.explain("head.weight")).split())
    again = Plan.load(made.save(tmp_path / "plan.json"))
    assert again == made
    assert again["blocks.2.3.weight"].learning_rate == pytest.approx(1 / 4)
    with pytest.raises(PlanError, match=r"no parameter 'head\.weigth'.*Did you mean head\.weight"):
        made.why("head.weigth")


@pytest.mark.parametrize("policy", ["head:zero", "head:small", "head:calibrated"])
def test_the_loss_starts_within_a_twentieth_of_ln_classes(policy):
    net = Blocks(width=64)
    losses = []
    for seed in range(8):
        stepzero.initialize_(net, (256, 64), seed=seed, policies=[policy])
        x = torch.randn(256, 64, generator=torch.Generator().manual_seed(seed))
        labels = torch.randint(0, 10, (256,), generator=torch.Generator().manual_seed(seed + 1))
        losses.append(nn.functional.cross_entropy(net(x), labels).item())
    assert abs(np.mean(losses) - math.log(10)) < 0.05


REAL = {
    "torchvision:resnet18": ({}, (16, 3, 32, 32)),
    "timm:vit_tiny_patch16_224": ({"img_size": 64}, (16, 3, 64, 64)),
    "timm:convnext_atto": ({}, (16, 3, 64, 64)),
}


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("policy", ["head:calibrated", "head:zero"])
def test_real_nets_start_within_a_twentieth_of_ln_classes(name, policy):
    arguments, shape = REAL[name]
    net = load_model(name, arguments, device="cpu")
    stepzero.initialize_(net, shape, seed=0, policies=[policy])
    with torch.no_grad():
        logits = net(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    loss = (logits.logsumexp(1) - logits.mean(1)).mean()  # the cross entropy's mean over all labels
    assert abs(float(loss) - math.log(1000)) < 0.05


@pytest.mark.parametrize("layers", [2, 3])
def test_fixup_zeroes_the_last_layer_and_shrinks_the_others_with_depth(layers):
    plain, made = plan(Blocks(4, layers), (2, 16)), plan(Blocks(4, layers), (2, 16), policies=["residual:fixup"])
    factor = 4 ** (-1 / (2 * layers - 2))
    for place in range(1, 2 * layers - 1, 2):
        name = f"blocks.0.{place}.weight"
        assert made[name].law.std == pytest.approx(factor * plain[name].law.std)
    assert made[f"blocks.0.{2 * layers - 1}.weight"].law == Constant(0.0)


def test_scales_of_branches_are_told_apart_by_their_size():
    scalars = plan(Blocks(), (2, 16), policies=["residual:skipinit"])
    vectors = plan(Blocks(gain=True), (2, 16), policies=["layerscale:constant=1e-5"])
    assert scalars["gains.1"].law == Constant(0.0)
    assert vectors["gains.1"].law == Constant(1e-5)
    with pytest.raises(PlanError, match="finds nothing in this model"):
        plan(Blocks(gain=True), (2, 16), policies=["residual:skipinit"])


def test_zero_last_reaches_the_norm_that_ends_a_branch():
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.norm(self.conv(x))

    made = plan(Normed(), (2, 8, 6, 6), residual="zero-last")
    assert made["norm.weight"].law == Constant(0.0)
    assert made["conv.weight"].second_moment == pytest.approx(1.0)


def test_embeddings_take_their_scale_and_leave_the_padding_row_zero():
    made = plan(Language(), IDS, policies=["embedding:normal=0.02"])
    assert made["embed.weight"].law == Parts((((), Normal(0.02)), (((3, 4),), Constant(0.0))))
    net = Language()
    made.apply_(net)
    assert not net.embed.weight[3].any()
    assert net.embed.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_a_table_that_is_the_output_layer_too_gives_logits_of_second_moment_one():
    made = plan(Language(tied=True), IDS)
    assert made["embed.weight"].recipe == "embedding:tied"
    net = Language(tied=True)
    made.apply_(net)
    ids = torch.randint(4, 40, (64, 6), generator=torch.Generator().manual_seed(0))
    others = torch.ones(64, 6, 40).scatter(2, ids[..., None], 0.0).bool()  # a token's own logit is its row's length
    others[..., 3] = False
    assert float(net(ids).detach()[others].square().mean()) == pytest.approx(1.0, abs=0.25)  # torch's N(0, 1) gives 16


def test_values_that_are_there_are_kept_and_those_that_nobody_knows_get_a_law():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.language, self.slope, self.scale = Language(), nn.PReLU(), nn.Parameter(torch.ones(40))

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.scale * self.slope(self.language(ids))

    names = ("language.embed.weight", "language.position", "slope.weight", "scale")
    real = plan(Odd(), IDS)
    assert all(real[name].law == Kept() for name in names)
    with torch.device("meta"):
        hollow = Odd()
    laws = {name: plan(hollow, IDS)[name].law for name in names}
    assert laws["language.position"] == Normal(0.02)
    assert laws["slope.weight"] == Constant(0.25)
    assert laws["scale"] == Constant(1.0)
    assert isinstance(laws["language.embed.weight"], Parts)
    stepzero.materialize_(hollow, plan(hollow, IDS))
    assert not any(p.is_meta for p in hollow.parameters())


@pytest.mark.parametrize(("cell", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1), (nn.LSTMCell, 4), (nn.GRUCell, 3)])
def test_each_gate_has_its_own_orthogonal_matrix_and_the_forget_gate_starts_open(cell, gates):
    net = cell(8, 16)
    shape = (2, 8) if "Cell" in cell.__name__ else (2, 5, 8)
    made = plan(net, shape)
    suffix = "" if "Cell" in cell.__name__ else "_l0"
    assert made[f"weight_ih{suffix}"].law == Normal(8**-0.5)
    assert made[f"weight_hh{suffix}"].law == Parts.stacked([Orthogonal(1.0)] * gates, [16] * gates)
    made.apply_(net)
    for gate in getattr(net, f"weight_hh{suffix}").detach().split(16):
        torch.testing.assert_close(gate @ gate.T, torch.eye(16), atol=1e-5, rtol=0)
    bias = getattr(net, f"bias_ih{suffix}").detach() + getattr(net, f"bias_hh{suffix}").detach()
    assert bias.reshape(gates, 16).mean(1).tolist() == ([0.0, 1.0, 0.0, 0.0] if gates == 4 else [0.0] * gates)


def test_a_stack_of_recurrent_layers_with_projections_is_read_layer_by_layer():
    made = plan(nn.LSTM(8, 16, 2, bidirectional=True, batch_first=True), (2, 5, 8))
    assert made["weight_ih_l1_reverse"].law == Normal(32**-0.5)
    assert all(e.recipe == "gates:forget" for e in made.values())


def test_adaln_zero_silences_modulations_and_nothing_else():
    made = plan(Modulated(), ((2, 5, 8), (2, 8)), policies=["adaln:zero"])
    assert made["modulation.weight"].law == Constant(0.0)
    assert made["inner.weight"].law.std > 0
    assert made["squeeze.weight"].law.std > 0
    net = Modulated()
    made.apply_(net)
    x, c = torch.randn(2, 5, 8), torch.randn(2, 8)
    torch.testing.assert_close(net(x, c), x * torch.sigmoid(net.squeeze(x.mean(1)))[:, None])


@pytest.mark.parametrize("width", [64, 256])
def test_mup_shrinks_outputs_and_learning_rates_with_width(width):
    made = plan(Blocks(width=width), (2, width), policies=["width:mup=64"])
    assert made["head.weight"].second_moment == pytest.approx(64 / width)
    assert made["blocks.0.1.weight"].learning_rate == pytest.approx(64 / width)
    assert made["stem.weight"].learning_rate is None
    assert any("Adam's learning rate" in note for note in made.notes) == (width != 64)


def test_policies_of_your_own_stand_beside_the_named_ones():
    mine = Policy("head:mine", lambda voice, scene: Said({n: voice.target(0.5) for n in scene.heads()}), "half", "me")
    made = plan(Blocks(), (2, 16), policies=[mine])
    assert made["head.weight"].second_moment == pytest.approx(0.5)
    assert made.why("head.weight") == "policy head:mine: half (me)"


def test_an_override_of_the_users_wins_over_a_policy():
    made = plan(Blocks(), (2, 16), policies=["head:zero"], overrides=[("head.weight", Normal(0.3))])
    assert made["head.weight"].law == Normal(0.3)


def test_a_zero_before_the_output_leaves_nothing_to_balance():
    made = plan(Blocks(), (2, 16), goal="balanced", policies=["head:zero"])
    assert any("no gradient reaches an open weight" in note for note in made.notes)


@pytest.mark.parametrize(
    ("policies", "says"),
    [
        (["head:huge"], r"'head:huge' is not known. Choose from .*head:zero"),
        (["head:zero", "head:small"], "both about head"),
        (["head:small=little"], "'little' is not a number"),
        (["head:small=-1"], "not a number ≥ 0"),
        (["adaln:zero"], "'adaln:zero' finds nothing in this model"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_words(policies, says):
    with pytest.raises(PlanError, match=says):
        plan(Blocks(), (2, 16), policies=policies)


def test_the_authors_init_takes_no_policies():
    with pytest.raises(PlanError, match="takes no policies"):
        plan(Blocks(), (2, 16), goal="own", policies=["head:zero"])


def test_a_policy_without_a_kind_is_refused():
    with pytest.raises(PlanError, match="not named kind:choice"):
        Policy("head", lambda voice, scene: Said(), "", "")
