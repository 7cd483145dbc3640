"""The nets that benchmarks measure: library models at a size that two cores run, and nets without normalisation."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from stepzero.network import load_model

Shape = tuple[int, ...]


class DoubleConv(nn.Sequential):
    """Two 3×3 ReLU convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU(inplace=True),
        )  # fmt: skip


class UNet(nn.Module):
    """Ronneberger et al. 2015, padded: max pooling, transposed convolutions, no normalisation."""

    def __init__(self, width: int = 32, depth: int = 4, inputs: int = 1, outputs: int = 2) -> None:
        super().__init__()
        sizes = [width * 2**i for i in range(depth + 1)]
        self.down = nn.ModuleList(DoubleConv(a, b) for a, b in zip([inputs, *sizes[:-2]], sizes[:-1], strict=True))
        self.bottom = DoubleConv(sizes[-2], sizes[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * n, n, 2, stride=2) for n in reversed(sizes[:-1]))
        self.merge = nn.ModuleList(DoubleConv(2 * n, n) for n in reversed(sizes[:-1]))
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one map for each output channel."""
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottom(x)
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([skips.pop(), up(x)], dim=1))
        return self.head(x)


class PreActivation(nn.Module):
    """A block of He et al. 2016 (identity mappings): norm, ReLU, convolution, twice."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(outputs), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        same = stride == 1 and inputs == outputs
        self.skip = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return skip + branch."""
        y = F.relu(self.norm1(x))
        skip = x if self.skip is None else self.skip(y)
        return skip + self.conv2(F.relu(self.norm2(self.conv1(y))))


def preactivation_resnet() -> nn.Sequential:
    """A preactivation ResNet-18 for small images."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1, bias=False)]
    width = 64
    for outputs, stride in [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]:
        layers.append(PreActivation(width, outputs, stride))
        width = outputs
    head = [nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]
    return nn.Sequential(*layers, *head)


def dcgan() -> nn.Sequential:
    """The generator of Radford et al. 2016 without normalisation."""
    layers: list[nn.Module] = []
    widths = [100, 512, 256, 128, 64]
    for i, (a, b) in enumerate(pairwise(widths)):
        layers += [nn.ConvTranspose2d(a, b, 4, 1 if i == 0 else 2, 0 if i == 0 else 1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.ConvTranspose2d(64, 3, 4, 2, 1), nn.Tanh())


def plain(depth: int = 30, width: int = 64) -> nn.Sequential:
    """3×3 LeakyReLU convolutions, zero-padded."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Conv2d(3 if i == 0 else width, width, 3, padding=1), nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers)


def medical_unet(normalised: bool = True) -> nn.Module:
    """MONAI's 3-D residual U-Net."""
    from monai.networks.nets import UNet as Medical

    norm = "INSTANCE" if normalised else None
    return Medical(
        3, 1, 2, channels=(16, 32, 64, 128), strides=(2, 2, 2), num_res_units=2 if normalised else 0, norm=norm
    )  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A net and the batch it is measured with."""

    name: str
    make: Callable[[], nn.Module]
    shape: Shape | dict[str, Any]  # of floating inputs, or a call that is written out
    within: (
        float | None
    )  # relative error of the forward second moment that 95 % of its weight ops must meet, if promised
    normalised: bool

    def model(self) -> nn.Module:
        """Build the net in training mode."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.make().train()


def library(name: str, **options: object) -> Callable[[], nn.Module]:
    """Return a factory of a named model."""
    return lambda: load_model(name, options, device="cpu")


ISSUE = (
    Case("resnet18", library("torchvision:resnet18"), (8, 3, 96, 96), 0.10, True),
    Case("resnet50", library("torchvision:resnet50"), (8, 3, 96, 96), 0.10, True),
    Case("densenet121", library("torchvision:densenet121"), (8, 3, 96, 96), 0.10, True),
    Case("mobilenet_v2", library("torchvision:mobilenet_v2"), (8, 3, 96, 96), 0.10, True),
    Case("vgg11_bn", library("torchvision:vgg11_bn"), (8, 3, 64, 64), 0.10, True),
    Case("preactivation resnet", preactivation_resnet, (8, 3, 32, 32), 0.10, True),
    Case("MONAI 3-D UNet", medical_unet, (2, 1, 32, 32, 32), 0.10, True),
    Case("DCGAN, no norm", dcgan, (8, 100, 1, 1), 0.10, False),
    Case("VGG-11", library("torchvision:vgg11"), (8, 3, 64, 64), 0.20, False),
    Case("VGG-16", library("torchvision:vgg16"), (8, 3, 64, 64), 0.20, False),
    Case("U-Net, no norm", UNet, (4, 1, 64, 64), 0.20, False),
    Case("30 plain convolutions", plain, (8, 3, 8, 8), None, False),
)
HELD_OUT = (
    Case("alexnet", library("torchvision:alexnet"), (8, 3, 96, 96), 0.20, False),
    Case("vgg13", library("torchvision:vgg13"), (8, 3, 64, 64), 0.20, False),
    Case("squeezenet1_1", library("torchvision:squeezenet1_1"), (8, 3, 96, 96), 0.20, False),
    Case("MONAI 3-D UNet, no norm", lambda: medical_unet(False), (2, 1, 32, 32, 32), 0.20, False),
    Case("resnext50_32x4d", library("torchvision:resnext50_32x4d"), (8, 3, 96, 96), 0.10, True),
    Case("wide_resnet50_2", library("torchvision:wide_resnet50_2"), (4, 3, 96, 96), 0.10, True),
    Case("googlenet", library("torchvision:googlenet", aux_logits=False), (8, 3, 96, 96), 0.10, True),
    Case("shufflenet_v2_x1_0", library("torchvision:shufflenet_v2_x1_0"), (8, 3, 96, 96), 0.10, True),
    Case("mnasnet1_0", library("torchvision:mnasnet1_0"), (8, 3, 96, 96), 0.10, True),
    Case("efficientnet_b0", library("torchvision:efficientnet_b0"), (8, 3, 96, 96), 0.10, True),
    Case("regnet_y_400mf", library("torchvision:regnet_y_400mf"), (8, 3, 96, 96), 0.10, True),
    Case("densenet169", library("torchvision:densenet169"), (8, 3, 64, 64), 0.10, True),
    Case("timm resnetv2_50", library("timm:resnetv2_50"), (8, 3, 96, 96), 0.10, True),
)


def normalised(name: str, shape: Shape = (8, 3, 64, 64), **options: object) -> Case:
    """Return a library model with normalisation as a case without a promise."""
    return Case(name.split(":")[1], library(name, **options), shape, None, True)


WIDE = (
    *(normalised(f"torchvision:{n}") for n in (
        "resnet34", "vgg13_bn", "vgg16_bn", "mobilenet_v3_small", "mobilenet_v3_large", "mnasnet0_5",
        "shufflenet_v2_x0_5", "regnet_x_400mf", "regnet_y_800mf", "efficientnet_b1", "efficientnet_v2_s", "convnext_tiny",
    )),
    normalised("torchvision:inception_v3", (4, 3, 128, 128), aux_logits=False, init_weights=False),
    normalised("torchvision:r3d_18", (2, 3, 8, 48, 48)),
    *(normalised(f"timm:{n}") for n in (
        "resnet26", "resnet26d", "resnetv2_50d_gn", "resnetblur50", "ecaresnet26t", "seresnext26t_32x4d", "res2net50_14w_8s", "skresnet18",
        "dla34", "dla46_c", "hrnet_w18_small", "cspresnet50", "vovnet39a", "ese_vovnet19b_dw",
        "ghostnet_100", "hardcorenas_a", "mixnet_s", "fbnetc_100", "spnasnet_100", "tinynet_a", "rexnet_100", "lcnet_100", "semnasnet_100",
        "repvgg_a0", "mobileone_s0", "hgnetv2_b0", "mobilenetv4_conv_small", "selecsls42", "starnet_s1",
    )),
    *(Case(n, library(f"timm:{n}"), (8, 3, 64, 64), None, False) for n in ("dm_nfnet_f0", "nf_resnet26")),
)  # fmt: skip

# Chosen from the libraries' lists by family alone, and measured after every rule was written: nobody looked at them before.
FRESH = (
    *(normalised(f"timm:{n}") for n in (
        "darknet53", "dla60x", "dpn68", "edgenext_xx_small", "efficientnet_lite0", "gernet_s", "ghostnetv2_100", "legacy_seresnet18",
        "mobilenetv2_110d", "mobilenetv3_rw", "mobilevitv2_050", "regnetz_b16", "repghostnet_050", "res2next50", "tf_efficientnetv2_b0",
        "xception41",
    )),
    normalised("torchvision:mc3_18", (2, 3, 8, 48, 48)),
    normalised("torchvision:regnet_x_800mf"),
    normalised("torchvision:resnet101"),
    Case("vgg19", library("torchvision:vgg19"), (8, 3, 64, 64), None, False),
    Case("MONAI SegResNet", library("monai.networks.nets:SegResNet", in_channels=1, out_channels=2), (2, 1, 32, 32, 32), None, True),
    Case("MONAI VNet", library("monai.networks.nets:VNet"), (2, 1, 32, 32, 32), None, True),
    Case("MONAI BasicUNet", library("monai.networks.nets:BasicUNet", spatial_dims=3), (2, 1, 32, 32, 32), None, True),
)  # fmt: skip
