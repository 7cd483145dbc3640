"""Are the streams random? Moments, tails, Kolmogorov-Smirnov, neighbours; and raw words for a battery.

    python benchmarks/streams_quality.py [--millions 16]
    python benchmarks/streams_quality.py --raw 4 | dieharder -a -g 200      # 4 GiB of words; PractRand: | RNG_test stdin32

Each row is a z-score or a p-value; with some hundred of them, |z| < 4.5 and p > 1e-4 raise a false alarm in under 1 % of runs.
"""

import argparse
import math
import sys
from collections.abc import Iterator

import numpy as np
from scipy import stats

from stepzero import streams
from stepzero.laws import Law, Normal, TruncatedNormal, Uniform

LAWS: dict[str, tuple[Law, stats.rv_continuous]] = {
    "normal": (Normal(1.0), stats.norm()),
    "uniform": (Uniform(-1.0, 1.0), stats.uniform(-1, 2)),
    "truncated": (TruncatedNormal(1.0), stats.truncnorm(-2, 2, scale=TruncatedNormal(1.0).parent_std)),
}
NEIGHBOURS = [
    *((seed, "weight") for seed in (0, 1, 2, 2**32, 2**63, 2**64 - 1)),
    *((0, f"layers.{layer}.weight") for layer in range(10)),
    *((0, name) for name in ("layers.0.bias", "weighs", "Weight", "weight ", "")),
]


def drawn(law: Law, count: int, seed: int = 0, name: str = "weight") -> np.ndarray:
    """Return so many values in binary64."""
    return streams.draw(law, (count,), seed, name, threads=None).astype(np.float64)


def moments(count: int) -> Iterator[tuple[str, float]]:
    """Yield the z-scores of the first four moments of each law."""
    for title, (law, exact) in LAWS.items():
        values = drawn(law, count)
        for power in range(1, 5):
            mean, square = exact.moment(power), exact.moment(2 * power)
            yield f"{title}: E[x^{power}]", (np.mean(values**power) - mean) / math.sqrt((square - mean**2) / count)


def tails(count: int) -> Iterator[tuple[str, float]]:
    """Yield the z-scores (from the exact Poisson law) of how many normals lie beyond 2 to 5 standard deviations, on each side."""
    values = drawn(Normal(1.0), count)
    for sigmas in (2, 3, 4, 5):
        expected = count * stats.norm.sf(sigmas)
        for side, found in (("above", (values > sigmas).sum()), ("below", (values < -sigmas).sum())):
            yield (
                f"normal {side} {sigmas} sigma: {found}",
                stats.norm.isf(stats.poisson.sf(found, expected) + stats.poisson.pmf(found, expected) / 2),
            )


def neighbours(count: int) -> Iterator[tuple[str, float]]:
    """Yield the z-scores of correlations between the streams of neighbouring seeds and names, and within one at lags."""
    table = np.stack([drawn(Normal(1.0), count, seed, name) for seed, name in NEIGHBOURS])
    correlation = (table @ table.T) / count * math.sqrt(count)
    for one in range(len(NEIGHBOURS)):
        for other in range(one):
            yield f"{NEIGHBOURS[one]} with {NEIGHBOURS[other]}", correlation[one, other]
    for lag in (1, 2, 3, 4, 5, 8, 16, 64, 1024, 4096):
        yield f"lag {lag}", float(np.dot(table[0, lag:], table[0, :-lag])) / math.sqrt(count - lag)


def distributions(count: int) -> Iterator[tuple[str, float]]:
    """Yield p-values: Kolmogorov-Smirnov for each law; counts of bits, bytes and pairs of bytes in the words."""
    for title, (law, exact) in LAWS.items():
        yield f"{title}: Kolmogorov-Smirnov", float(stats.kstest(drawn(law, min(count, 10**7)), exact.cdf).pvalue)
    words = streams.words(streams.key(0, "weight"), np.zeros(1, np.uint64), count).ravel()
    for byte in range(4):
        counts = np.bincount((words >> np.uint32(8 * byte)).astype(np.uint8), minlength=256)
        yield f"byte {byte} of the words", float(stats.chisquare(counts).pvalue)
    ones = np.array([int(((words >> np.uint32(bit)) & np.uint32(1)).sum()) for bit in range(32)])
    yield "bits of the words", float(stats.chi2.sf(((ones - count / 2) ** 2 / (count / 4)).sum(), 32))
    top = (words >> np.uint32(24)).astype(np.int64)
    pairs = np.bincount(top[:-1:2] * 256 + top[1::2], minlength=65536)
    yield "pairs of upper bytes", float(stats.chisquare(pairs).pvalue)


def raw(gibibytes: int) -> None:
    """Write the words of one name after another to standard output."""
    for block in range(gibibytes * 2**8):
        words = streams.words(
            streams.key(0, f"layers.{block // 64}.weight"), np.array([block % 64 * 2**20], np.uint64), 2**20
        )
        sys.stdout.buffer.write(words.astype("<u4").tobytes())


def main() -> None:
    """Print the worst rows of each family, and leave with 1 if one is beyond its bound."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--millions", type=int, default=16)
    arguments.add_argument("--raw", type=int, metavar="GIB")
    options = arguments.parse_args()
    if options.raw:
        raw(options.raw)
        return
    count, bad = options.millions * 10**6, 0
    for family, rows in (
        ("moments", moments(count)),
        ("tails", tails(count)),
        ("correlations", neighbours(count // 16)),
    ):
        found = sorted(rows, key=lambda row: -abs(row[1]))
        bad += sum(abs(z) > 4.5 for _, z in found)
        print(f"{family}: {len(found)} z-scores, the largest: {found[0][0]}, z = {found[0][1]:+.2f}")
    found = sorted(distributions(count), key=lambda row: row[1])
    bad += sum(p < 1e-4 for _, p in found)
    print(f"distributions: {len(found)} p-values, the smallest: {found[0][0]}, p = {found[0][1]:.3g}")
    print("all within their bounds" if not bad else f"{bad} beyond their bounds")
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()
