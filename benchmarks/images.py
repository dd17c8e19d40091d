"""What the generators of images must show: colour and digit go together in training, and not in what is generated.

The plain classifier here has two convolutions (5×5, stride 2, 16 and 32 channels) and one linear layer, and goes
over its images once (batch 128, Adam 1e-3), whatever they are; beside it stands the same after five passes. Density and
coverage are measured on the features of the evaluation's reader, which learns from the real training images and is told
to look at digit and colour alike.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.common import RESULTS, alone, data_folder, keep

#: Splits on which classifiers are judged.
JUDGED = ("test", "decorrelated", "reversed")
#: Images on either side of density and coverage.
CLOUD = 10_000
#: Images drawn to find the rate.
MANY = 50_000


def run(*, correlation: float, seeds: int, methods: list[str], images: int | None, threads: int) -> None:
    """Fit every method to Colored MNIST, draw as many images as it learned from, and judge them.

    What was measured of other methods before stays in the file.
    """
    name = f"images-mnist-{correlation:g}" + ("" if images is None else f"-{images}")
    lines = _kept(name, correlation, images, threads)
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as place:
            for method in ["real", *methods]:
                line = alone(_one, method, correlation, seed, images, place, threads)
                told = {"method": method, "seed": seed, "day": time.strftime("%Y-%m-%d"), **line}
                print(told, flush=True)
                lines = [one for one in lines if (one["method"], one["seed"]) != (method, seed)] + [told]
                settings = {"correlation": correlation, "images": images, "threads": threads}
                keep(name, {**settings, "lines": lines})


def _kept(name: str, correlation: float, images: int | None, threads: int) -> list[dict[str, Any]]:
    """Return the lines of a file of the same settings, if there is one."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return []
    told = json.loads(path.read_text())
    same = (told["correlation"], told["images"], told["threads"]) == (correlation, images, threads)
    return list(told["lines"]) if same else []


def _sets(correlation: float, images: int | None) -> dict[str, Any]:
    import fairsynth as fs

    sets = {
        split: fs.load_images("colored-mnist", split=split, correlation=correlation, folder=data_folder())
        for split in ("train", *JUDGED)
    }
    if images is not None:
        sets["train"] = sets["train"].subset(np.arange(min(images, len(sets["train"]))))
    return sets


def _one(
    method: str, correlation: float, seed: int, images: int | None, place: str, threads: int
) -> dict[str, Any]:
    sets = _sets(correlation, images)
    train = sets["train"]
    if method == "real":
        return {**_accuracies(train, sets, seed, (1, 5)), "reader": _reader_accuracy(sets, place)}
    began, busy = time.perf_counter(), time.process_time()
    model = _fitted(method, train, seed, Path(place), threads)
    fitting, fitting_busy = time.perf_counter() - began, time.process_time() - busy
    model.sample(4096, seed=seed)
    began, busy = time.perf_counter(), time.process_time()
    for _ in model.iter_batches(MANY, seed=seed):
        pass
    drawing, drawing_busy = time.perf_counter() - began, time.process_time() - busy
    drawn = model.sample(len(train), seed=seed + 1)
    told = {
        "fit_seconds": round(fitting, 1),
        "fit_seconds_of_one_core": round(fitting_busy, 1),
        "images_per_second": round(MANY / drawing),
        "images_per_second_of_one_core": round(MANY / drawing_busy),
        "load": [round(value, 1) for value in os.getloadavg()],
        **_accuracies(drawn, sets, seed, (1, 5) if method == "fairvae" else (1,)),
        **_fidelity(drawn, sets, place),
    }
    net = model.net_
    if hasattr(net, "encoder"):
        told["encoder_parameters"] = sum(p.numel() for p in net.encoder.parameters())
    return told


def _fitted(method: str, train: Any, seed: int, place: Path, threads: int) -> Any:
    from fairsynth import images

    file = place / "teacher.fairsynth"
    if method == "fairvae":
        model = images.FairVAE(seed=seed, threads=threads).fit(train)
        model.save(file)
        return model
    if method == "fair4free":
        return images.Fair4Free(seed=seed).distill(file)
    name, _, kind = method.partition(":")
    settings: dict[str, Any] = {"seed": seed, "teacher": str(file)}
    if kind:
        settings["kind"] = kind
    return images.get_generator_class(name)(**settings).fit(train)


def plain_classifier(images: Any, seed: int, passes: int = 1) -> Callable[[Any], np.ndarray]:
    """Train the plain small classifier, and return what predicts the class of every image of a set."""
    from fairsynth.nn.convolutions import to_float
    from fairsynth.nn.training import build

    height, width, channels = images.shape
    flat = 32 * ((height + 3) // 4) * ((width + 3) // 4)
    net = build(
        seed,
        lambda: nn.Sequential(
            nn.Conv2d(channels, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 5, 2, 2), nn.ReLU(), nn.Flatten(),
            nn.Linear(flat, len(images.classes)),
        ),
    )  # fmt: skip
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    for turn in range(passes):
        for rows, pixels in images.batches(128, seed=seed * 1000 + turn):
            wanted = torch.from_numpy(images.labels[rows])
            loss = nn.functional.cross_entropy(net(to_float(torch.from_numpy(pixels))), wanted)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    @torch.no_grad()
    def predict(others: Any) -> np.ndarray:
        parts = [
            net(to_float(torch.from_numpy(pixels))).argmax(1).numpy() for _, pixels in others.batches(1000)
        ]
        return np.concatenate(parts)

    return predict


def _accuracies(images: Any, sets: dict[str, Any], seed: int, turns: tuple[int, ...]) -> dict[str, Any]:
    """Return accuracies of the plain classifier, after so many passes, on every real test set."""
    told: dict[str, Any] = {}
    torch.set_num_threads(1)
    for passes in turns:
        predict = plain_classifier(images, seed, passes)
        told[f"accuracy_{passes}"] = {
            split: round(float((predict(sets[split]) == sets[split].labels).mean()), 4) for split in JUDGED
        }
    return told


def _reader(sets: dict[str, Any], place: str) -> Any:
    """Return the reader of the real training images; the same one for all methods."""
    from safetensors.numpy import load_file, save_file

    from fairsynth.evaluation.image_models import new_network, train_reader

    train = sets["train"]
    reader = new_network(train, {"label": len(train.classes), "sensitive": len(train.levels)}, 0)
    path = Path(place) / "reader.safetensors"
    if path.exists():
        reader.load_state_dict({name: torch.from_numpy(array) for name, array in load_file(path).items()})
    else:
        train_reader(reader, train)
        save_file({name: value.numpy() for name, value in reader.state_dict().items()}, path)
    return reader.eval()


def _reader_accuracy(sets: dict[str, Any], place: str) -> dict[str, float]:
    from fairsynth.evaluation.image_models import probabilities_of

    real, reader = sets["decorrelated"], _reader(sets, place)
    return {
        "digit": round(float((probabilities_of(reader, real).argmax(1) == real.labels).mean()), 4),
        "colour": round(
            float((probabilities_of(reader, real, "sensitive").argmax(1) == real.groups).mean()), 4
        ),
    }


#: Of a trial: digits of the training part that are kept to choose by, classifier steps, images of a cloud.
KEPT, TRIAL_STEPS, TRIAL_CLOUD = 10_000, 600, 5_000


def trial(settings: dict[str, Any], *, images: int, temperatures: tuple[float, ...]) -> None:
    """Fit the teacher to part of the training digits and judge it on the last of them, recoloured; print what came."""
    from fairsynth.evaluation.image_models import (
        features,
        new_network,
        probabilities_of,
        train_classifier,
        train_reader,
    )  # fmt: skip
    from fairsynth.images import FairVAE
    from fairsynth.metrics.manifold import density_coverage

    train = _recoloured(np.arange(60_000 - KEPT), "train")
    judged = {split: _recoloured(np.arange(60_000 - KEPT, 60_000), split) for split in JUDGED[1:]}
    reader = new_network(train, {"label": 10, "sensitive": 10}, 0)
    train_reader(reader, train)
    real = features(reader, judged["decorrelated"].read(np.arange(TRIAL_CLOUD)))
    began = time.process_time()
    model = FairVAE(**settings).fit(train.subset(np.arange(images)))
    print(
        {"settings": settings, "fit_seconds_of_one_core": round(time.process_time() - began, 1)}, flush=True
    )
    for temperature in temperatures:
        model.set_params(temperature=temperature)
        drawn = model.sample(10_000, seed=1)
        net = new_network(drawn, {"label": 10}, 0)
        train_classifier(net, drawn, steps=TRIAL_STEPS)
        told = {
            s: (probabilities_of(net, part).argmax(1) == part.labels).mean() for s, part in judged.items()
        }
        some = drawn.subset(np.arange(TRIAL_CLOUD))
        scores = density_coverage(real, features(reader, some.read(np.arange(TRIAL_CLOUD))))
        told |= {"density": scores.density, "coverage": scores.coverage}
        told["read as asked"] = (probabilities_of(reader, some).argmax(1) == some.labels).mean()
        print({"temperature": temperature, **{k: round(float(v), 3) for k, v in told.items()}}, flush=True)


def _recoloured(rows: np.ndarray, split: str) -> Any:
    from fairsynth import ImageSet
    from fairsynth.data.images.named import COLOURS, _mnist, colour_codes
    from fairsynth.data.images.pixels import ArraySource, TintedSource

    strokes, digits = _mnist("train", data_folder())
    codes = colour_codes(digits[rows], 10, split, 0.95, 0)
    source = TintedSource(
        ArraySource(strokes.read(rows)), np.array(list(COLOURS.values()), dtype=np.uint8), codes
    )
    classes = [str(digit) for digit in range(10)]
    return ImageSet(
        source, digits[rows].astype(np.int64), codes, classes=classes, levels=list(COLOURS), label="digit",
        sensitive="colour",
    )  # fmt: skip


def _fidelity(drawn: Any, sets: dict[str, Any], place: str) -> dict[str, Any]:
    """Return density, coverage, precision and recall against test images of the law that was asked for."""
    from fairsynth.evaluation.image_models import features, probabilities_of
    from fairsynth.metrics.manifold import density_coverage

    reader = _reader(sets, place)
    n = min(CLOUD, len(drawn))
    real = sets["decorrelated"].read(np.arange(n))
    some = drawn.subset(np.arange(n))
    scores = density_coverage(features(reader, real), features(reader, some.read(np.arange(n))))
    return {
        "density": round(scores.density, 4),
        "coverage": round(scores.coverage, 4),
        "precision": round(scores.precision, 4),
        "recall": round(scores.recall, 4),
        "read_as_asked": {
            "digit": round(float((probabilities_of(reader, some).argmax(1) == some.labels).mean()), 4),
            "colour": round(
                float((probabilities_of(reader, some, "sensitive").argmax(1) == some.groups).mean()), 4
            ),
        },
    }
