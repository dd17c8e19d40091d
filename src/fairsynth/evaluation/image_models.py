"""The networks of an image evaluation: small and convolutional, plain as users train them, or balanced as a judge.

A *classifier* learns the label from images as they are, shortcuts and all: it shows what anybody's model would learn
from the set. The *reader* looks at images on the evaluation's behalf: it learns label and sensitive attribute together,
from batches in which every combination of the two is equally frequent, so that neither can stand in for the other,
and its last hidden layer is where distances between sets are measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fairsynth.metrics.image_features import exchange_colours
from fairsynth.nn.threads import threads as torch_threads
from fairsynth.nn.training import Plan, build, train
from fairsynth.progress import Progress, sub

if TYPE_CHECKING:
    from fairsynth.data.images import ImageSet

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Pixels = NDArray[np.uint8]

#: Width of the last hidden layer: the features. Few, because FID's bias grows with their number.
FEATURES = 64
BATCH = 64
RATE = 2e-3
#: The sensitive attribute is taken for a colour when so many images are read as of their colour's group, and reading
#: images in their own colours suffers by no more than this.
FOLLOWS, CLOSE = 0.7, 0.05
#: Most images at a time when nothing is learned, and most values.
READ, READ_VALUES = 512, 2**25


class ImageNetwork(nn.Module):
    """Convolutions of stride 2 down to about 4 × 4, a hidden layer of features, and a linear head for each question.

    Parameters
    ----------
    shape : tuple of int
        Height, width, channels.
    heads : mapping of str to int
        Question → number of answers.
    """

    def __init__(self, shape: tuple[int, int, int], heads: Mapping[str, int]) -> None:
        super().__init__()
        height, width, channels = shape
        side = (height, width)
        layers: list[nn.Module] = []
        into, out, stride = channels, 32, 1 if min(side) <= 16 else 2
        while True:
            layers += [nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            side = (math.ceil(side[0] / stride), math.ceil(side[1] / stride))
            if max(side) <= 4 or min(side) <= 2:
                break
            into, out, stride = out, min(2 * out, 128), 2
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.hidden = nn.Sequential(nn.Linear(out * side[0] * side[1], FEATURES), nn.ReLU())
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURES, size) for name, size in heads.items()})

    def features(self, images: Tensor) -> Tensor:
        """Return features (n, 64) of images float (n, channels, height, width) in [0, 1]."""
        hidden: Tensor = self.hidden(self.body(images))
        return hidden

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the logits of every head, (n, answers) each."""
        hidden = self.features(images)
        return {name: head(hidden) for name, head in self.heads.items()}


def read_size(shape: tuple[int, ...]) -> int:
    """Return how many images of a shape (height, width, channels) are looked at a time: fewer where they are large."""
    return int(np.clip(READ_VALUES // math.prod(shape), 8, READ))


def as_tensor(images: Pixels) -> Tensor:
    """Turn uint8 (n, h, w, c) into float32 (n, c, h, w) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(255)


def steps_for(n: int, steps: int | None) -> int:
    """Return the optimiser's steps: thirty passes, from 500 to 2,000 steps, unless they are given."""
    return steps if steps is not None else int(np.clip(30 * n // BATCH, 500, 2000))


def new_network(images: ImageSet, heads: Mapping[str, int], seed: int) -> ImageNetwork:
    """Make an untrained network for a set; global chance is put back, so call it from one thread."""
    network: ImageNetwork = build(seed, lambda: ImageNetwork(images.shape, heads))
    return network


def train_classifier(
    network: ImageNetwork,
    images: ImageSet,
    *,
    seed: int = 0,
    steps: int | None = None,
    stage: str = "train classifier",
    progress: Progress | None = None,
) -> None:
    """Train a network with the head ``"label"`` on a set as it is."""
    labels = torch.from_numpy(images.labels)

    def loss(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        logits = network(as_tensor(images.read(rows.numpy())))["label"]
        return cross_entropy(logits, labels[rows]), {}

    _train(network, loss, images, seed, steps, stage, progress)


def train_reader(
    network: ImageNetwork,
    images: ImageSet,
    *,
    exchange: bool = False,
    seed: int = 0,
    steps: int | None = None,
    stage: str = "train reader",
    progress: Progress | None = None,
) -> None:
    """Train heads ``"label"`` and ``"sensitive"`` on batches that hold every combination of the two equally often.

    Where the label goes with the sensitive attribute, a network trained on the set as it is reads the one off the
    other, and then sees in a generated image what it expects instead of what is there.

    Parameters
    ----------
    network : ImageNetwork
        With both heads.
    images : ImageSet
        What it learns from.
    exchange : bool, default=False
        Whether every other image is shown in the colour of another one of the batch, with its own label and the other's
        group: right where the sensitive attribute lies in colour, wrong elsewhere (see `choose_reader`).
    seed, steps, stage, progress
        As of `train_classifier`.
    """
    labels, groups = torch.from_numpy(images.labels), torch.from_numpy(images.groups)
    weights = torch.from_numpy(balancing_weights(images.labels, images.groups))

    def loss(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        drawn = torch.multinomial(weights, len(rows), replacement=True, generator=generator)
        pixels, group = images.read(drawn.numpy()), groups[drawn]
        if exchange:
            half = len(drawn) // 2  # the first half in the colours of the second
            pixels = pixels.copy()
            pixels[:half] = exchange_colours(pixels[:half], pixels[-half:])
            group[:half] = group[-half:].clone()
        logits = network(as_tensor(pixels))
        return cross_entropy(logits["label"], labels[drawn]) + cross_entropy(logits["sensitive"], group), {}

    _train(network, loss, images, seed, steps, stage, progress)


def choose_reader(
    images: ImageSet, *, seed: int = 0, steps: int | None = None, progress: Progress | None = None
) -> tuple[ImageNetwork, dict[str, float | bool]]:
    """Train the reader with and without exchanged colours, and let images that were set aside say which one to keep.

    The data says whether the sensitive attribute is a colour. A seventh of the train images is set aside. The reader
    with exchanged colours is kept if (1) the plain one, shown images that were set aside in another one's colour, sees
    the other one's group in at least seven of ten, and (2) the exchanged one reads images as they are about as well:
    the mean accuracy of label and sensitive attribute, every combination of the two counted alike, is at most .05
    lower. (Of the rarest combinations few images are set aside; the better of two close numbers would be chance.) Gray
    images have the plain reader.

    Returns
    -------
    network : ImageNetwork
        With heads ``"label"`` and ``"sensitive"``.
    found : dict
        ``"exchange"`` (what was kept); where both were tried, the two accuracies ``"plain"`` and ``"exchanged"``, and
        ``"follows"``, the share of (1).
    """
    heads = {"label": len(images.classes), "sensitive": len(images.levels)}
    if images.shape[2] == 1:
        network = new_network(images, heads, seed)
        train_reader(network, images, seed=seed, steps=steps, progress=progress)
        return network, {"exchange": False}
    learned, aside = images.split(1 / 7, seed=seed)
    weights = balancing_weights(aside.labels, aside.groups)
    tried: list[tuple[float, ImageNetwork]] = []
    for exchange in (False, True):
        network = new_network(images, heads, seed)
        part = sub(progress, "train reader", int(exchange), 2)
        train_reader(network, learned, exchange=exchange, seed=seed, steps=steps, progress=part)
        right = sum(
            probabilities_of(network, aside, head).argmax(axis=1) == truth
            for head, truth in (("label", aside.labels), ("sensitive", aside.groups))
        )
        tried.append((float((weights * right).sum() / 2), network))
    (plain, first), (exchanged, second) = tried
    follows = _follows_colour(first, aside, seed)
    better = follows >= FOLLOWS and exchanged >= plain - CLOSE
    found: dict[str, float | bool] = {"plain": plain, "exchanged": exchanged, "follows": follows}
    return (second if better else first), {"exchange": better, **found}


def _follows_colour(network: ImageNetwork, images: ImageSet, seed: int) -> float:
    """Return how often an image in the colour of one of another group is read as of that group."""
    donors = np.random.default_rng(seed).permutation(len(images))
    pairs = np.flatnonzero(images.groups != images.groups[donors])[:READ]
    if not len(pairs):
        return 0.0
    changed = exchange_colours(images.read(pairs), images.read(donors[pairs]))
    seen = probabilities(network, changed, "sensitive").argmax(axis=1)
    return float((seen == images.groups[donors[pairs]]).mean())


def balancing_weights(labels: Ints, groups: Ints) -> Floats:
    """Return weights under which every combination of label and group that occurs is drawn equally often.

    Returns
    -------
    ndarray of float64, shape (n,)
        They sum to 1.
    """
    cells = np.unique(labels * (int(groups.max()) + 1) + groups, return_inverse=True)[1].reshape(-1)
    counts = np.bincount(cells)
    weights: Floats = 1.0 / (counts[cells] * len(counts))
    return weights


def _train(
    network: ImageNetwork,
    loss: object,
    images: ImageSet,
    seed: int,
    steps: int | None,
    stage: str,
    progress: Progress | None,
) -> None:
    plan = Plan(steps=steps_for(len(images), steps), batch_size=BATCH, learning_rate=RATE, weight_decay=1e-3)
    with torch_threads(1):
        train(network, loss, n_rows=len(images), plan=plan, seed=seed, stage=stage, progress=progress)  # type: ignore[arg-type]


def probabilities(network: ImageNetwork, images: Pixels, head: str = "label") -> Floats:
    """Return the probabilities of one head, float64 (n, answers)."""
    parts, size = [], read_size(images.shape[1:])
    with torch.inference_mode():
        for start in range(0, len(images), size):
            logits = network(as_tensor(images[start : start + size]))[head]
            parts.append(logits.double().softmax(dim=1).numpy())
    return np.concatenate(parts)


def features(network: ImageNetwork, images: Pixels) -> Floats:
    """Return the last hidden layer, float64 (n, 64)."""
    parts, size = [], read_size(images.shape[1:])
    with torch.inference_mode():
        for start in range(0, len(images), size):
            parts.append(network.features(as_tensor(images[start : start + size])).double().numpy())
    return np.concatenate(parts)


def probabilities_of(network: ImageNetwork, images: ImageSet, head: str = "label") -> Floats:
    """Return the probabilities of one head for a whole set, read in batches; float64 (n, answers)."""
    size = read_size(images.shape)
    return np.concatenate([probabilities(network, pixels, head) for _, pixels in images.batches(size)])


def over_images(images: ImageSet, index: Ints, work: Callable[[Pixels], Any]) -> NDArray[Any]:
    """Apply a function to some images of a set, a few at a time, and join what it gives along the first axis."""
    size = read_size(images.shape)
    return np.concatenate(
        [np.asarray(work(images.read(index[i : i + size]))) for i in range(0, len(index), size)]
    )
