"""How often intervals hold the truth, and how often the test rejects equal rows, in simulated videos.

``python experiments/interval_coverage.py``; two minutes. Each data set draws videos from one population: AUs
with rates and difficulties of their own, which vary between videos as well, so that frames of a video are
alike. Of means of scores, as of attention, also seeds of networks, which differ in how well they score.
"""

import time

import numpy as np
import numpy.typing as npt

from aunet.metrics import f1_per_au
from aunet.statistics import au_intervals, compare, f1_interval, mean_intervals, video_counts

NUM_AUS, FRAMES = 12, 40

Frames = tuple[npt.NDArray[np.float64], npt.NDArray[np.int8], npt.NDArray[np.int64]]


def population(rng: np.random.Generator, videos: int) -> Frames:
    """Logits, labels and video of the frames of some videos of the population."""
    fixed = np.random.default_rng(7)
    base, hard = fixed.normal(-1.2, 0.7, NUM_AUS), fixed.normal(1.2, 0.3, NUM_AUS)
    video = np.repeat(np.arange(videos), FRAMES)
    rate = 1 / (1 + np.exp(-(base + rng.normal(0, 1.0, (videos, NUM_AUS)))))
    labels = (rng.random((len(video), NUM_AUS)) < rate[video]).astype(np.int8)
    skill, bias = hard + rng.normal(0, 0.5, rate.shape), rng.normal(0, 0.5, rate.shape)
    logits = skill[video] * (2 * labels - 1) + bias[video] + rng.normal(0, 1, labels.shape)
    return logits, labels, video


def coverage(videos: int, data_sets: int, resamples: int) -> float:
    """Share of the data sets whose 95% interval holds the population's macro F1."""
    rng = np.random.default_rng(videos)
    many = [video_counts(*_probs(population(rng, 500))).sum(0) for _ in range(20)]
    truth = f1_per_au(np.sum(many, 0)).mean()
    hits = 0
    for _ in range(data_sets):
        estimate = f1_interval(video_counts(*_probs(population(rng, videos))), resamples=resamples)
        hits += estimate.low <= truth <= estimate.high
    return hits / data_sets


def rejections(videos: int, data_sets: int, resamples: int) -> float:
    """Share of the data sets in which a 5% test tells two rows apart that are equally good."""
    rng = np.random.default_rng((videos, 1))
    rejected = 0
    for _ in range(data_sets):
        logits, labels, video = population(rng, videos)
        rows = []
        for _ in range(2):
            own = rng.normal(0, 0.7, (videos, NUM_AUS))[video] + rng.normal(0, 1, logits.shape)
            rows.append(video_counts(*_probs((logits + own, labels, video))))
        rejected += compare(*rows, resamples=resamples).p <= 0.05
    return rejected / data_sets


def scored(
    rng: np.random.Generator, videos: int, aus: int = 3
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Sums and counts (videos, aus) of a score with mean 0.4; the number of frames varies with the video."""
    counts = rng.poisson(rng.gamma(1.0, 2.0, (videos, aus)))
    means = rng.beta(2, 3, (videos, aus))
    return means * counts + rng.normal(0, 0.2, means.shape) * np.sqrt(counts), counts


def mean_coverage(
    videos: int, seeds: int, spread: float, data_sets: int
) -> tuple[float, npt.NDArray[np.float64]]:
    """The same for the mean of a score, where networks of other seeds differ by ``spread``; and widths."""
    rng = np.random.default_rng((videos, seeds))
    hits, widths = 0, np.empty(data_sets)
    for number in range(data_sets):
        sums, counts = scored(rng, videos)
        of_seeds = sums + rng.normal(0, spread, (seeds, 1, 1)) * counts
        (estimate,) = mean_intervals(of_seeds[None], counts, resamples=500, bounds=(-9, 9))
        hits += estimate.low <= 0.4 <= estimate.high
        widths[number] = estimate.high - estimate.low
    return hits / data_sets, widths


def _probs(frames: Frames) -> Frames:
    logits, labels, video = frames
    return 1 / (1 + np.exp(-logits)), labels, video


def main() -> None:
    """Prints the figures."""
    print("| videos | 95% intervals that hold the truth | 5% tests that reject equal rows |")
    print("| --: | --: | --: |")
    for videos in (27, 41, 105):
        print(f"| {videos} | {coverage(videos, 2000, 500):.1%} | {rejections(videos, 1000, 500):.1%} |")
    print("\n| videos | seeds | they differ by | 95% intervals of a mean score that hold the truth |")
    print("| --: | --: | --: | --: |")
    for videos in (27, 105):
        for seeds, spread in ((1, 0.0), *((s, d) for s in (2, 3, 5) for d in (0.0, 0.03, 0.2))):
            print(f"| {videos} | {seeds} | {spread} | {mean_coverage(videos, seeds, spread, 2000)[0]:.1%} |")
    counts = video_counts(*_probs(population(np.random.default_rng(0), 105)))
    started = time.perf_counter()
    f1_interval(counts)
    au_intervals(counts)
    print(f"\n105 videos, 12 AUs, 10,000 resamples, macro and per AU: {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
