"""Fourier transforms: the spectrum of correlated places and channels, and what becomes of it on the way back."""

import pytest
import torch
from torch import nn

WHITE = (0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
SHIFTED = (0.6, 1.5, 0.8, 0.8, 0.7, 0.5)


class Of(nn.Module):
    def __init__(self, function, weight=None):
        super().__init__()
        self.function = function
        self.weight = None if weight is None else nn.Parameter(torch.ones(weight))

    def forward(self, *xs):
        return self.function(*xs) if self.weight is None else self.function(*xs, self.weight)


def mixing(x):
    """FNet (Lee-Thorp et al. 2022): both axes, and the real part."""
    return torch.fft.fft(torch.fft.fft(x, dim=-1), dim=1).real


def filtered(x, weight):
    """GFNet (Rao et al. 2021): a filter of complex numbers, one for each frequency and channel."""
    y = torch.fft.rfft2(x, dim=(1, 2), norm="ortho") * torch.view_as_complex(weight)
    return torch.fft.irfft2(y, s=x.shape[1:3], dim=(1, 2), norm="ortho")


def there_and_back(x):
    return torch.fft.irfft(torch.fft.rfft(x, dim=1), n=x.shape[1], dim=1)


def test_a_transform_of_places_and_channels(hold):
    loose = dict.fromkeys(("second", "mean", "across"), 0.02)
    hold(Of(mixing), (3, 8, 12), moments=SHIFTED, channel_last=True, loose=loose, loose_change=loose)


@pytest.mark.parametrize("moments", [WHITE, SHIFTED])
def test_a_filter_of_frequencies(hold, moments):
    hold(
        Of(filtered, (6, 4, 16, 2)), (3, 6, 6, 16), moments=moments, channel_last=True, draws=200,
        loose={"near": 0.03, "elsewhere": 0.01, "apart": 0.01}, loose_change={"near": 0.03, "elsewhere": 0.01, "apart": 0.01},
    )  # fmt: skip


def test_what_goes_there_and_back_is_what_it_was(hold):
    hold(Of(there_and_back), (3, 9, 12), moments=SHIFTED, channel_last=True)
    hold(Of(there_and_back), (3, 8, 12), moments=SHIFTED, channel_last=True)


def test_a_correlation_by_its_spectrum(hold):
    """Autoformer (Wu et al. 2021): Σ_t a_t b_(t+n) for every n at once."""

    def correlation(a, b):
        return torch.fft.irfft(torch.fft.rfft(a, dim=1) * torch.conj(torch.fft.rfft(b, dim=1)), n=8, dim=1)

    pairs = dict.fromkeys(("near", "elsewhere", "apart", "across"), 0.05)
    hold(Of(correlation), (3, 8, 12), (3, 8, 12), moments=WHITE, channel_last=True, loose=pairs, loose_change=pairs)
