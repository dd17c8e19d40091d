"""The law of the label: boosted trees of depth two, summed up into tables over pairs of columns.

Either side of a tree's first cut asks one column besides the first, so a sum of hundreds of trees is a sum of tables,
one for each pair of columns that some tree asks: a generalized additive model with pairwise interactions (Lou,
Caruana, Gehrke and Hooker, KDD 2013). It tells labels nearly as well as deep boosted trees, takes one gathering a pair
to evaluate, and can be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairsynth._lightgbm import load as load_lightgbm
from fairsynth.trees.bins import Bins

#: Rounds of boosting at most, and without progress on held-back rows before they end: two columns that say something
#: together and nothing alone are come upon by chance. Varied trees rarely do, however long they try.
ROUNDS = 1000
PATIENCE = 100
VARIED_PATIENCE = 25
#: Every so-manieth row is held back to find the number of rounds.
HELD_BACK = 5
LEARNING_RATE = 0.15
MIN_LEAF = 20
#: Boosting of varied trees: random cuts of some of the columns, in smaller and more steps. A tree of one column would
#: know no pair, so each is given two at least, however few there are.
VARIED = {"extra_trees": True, "feature_fraction": 0.3, "learning_rate": 0.1}
PAIR = 2


@dataclass(frozen=True)
class PairScores:
    """Scores of classes as a sum of tables over pairs of parents.

    Attributes
    ----------
    base : np.ndarray
        float64 ``(scores,)``: one score for two classes (log odds of the second), else one a class.
    pairs : tuple of (int, int)
        Lines of bins.
    tables : tuple of np.ndarray
        float32 ``(bins of the first, bins of the second, scores)``.
    """

    base: np.ndarray
    pairs: tuple[tuple[int, int], ...]
    tables: tuple[np.ndarray, ...]

    def check(self, sizes: Sequence[int], n_scores: int) -> None:
        """Raise ValueError if these are no scores over parents of these numbers of bins."""
        ok = (
            self.base.shape == (n_scores,)
            and self.base.dtype == np.float64
            and np.isfinite(self.base).all()
            and len(self.pairs) == len(self.tables)
            and all(0 <= a < len(sizes) and 0 <= b < len(sizes) for a, b in self.pairs)
            and all(
                table.shape == (sizes[a], sizes[b], n_scores)
                and table.dtype == np.float32
                and np.isfinite(table).all()
                for (a, b), table in zip(self.pairs, self.tables, strict=True)
            )
        )
        if not ok:
            raise ValueError("the scores of the label do not fit the columns")

    def scores(self, lines: Sequence[np.ndarray], n: int) -> np.ndarray:
        """Return the scores of rows, float32 ``(n, scores)``, given lines of bins int64 ``(n,)`` by parent."""
        total = np.empty((n, len(self.base)), dtype=np.float32)
        total[:] = self.base
        for (a, b), table in zip(self.pairs, self.tables, strict=True):
            place = lines[a] * table.shape[1]
            place += lines[b]
            if len(self.base) == 1:
                total[:, 0] += table.ravel().take(place, mode="clip")
            else:
                total += table.reshape(-1, len(self.base)).take(place, axis=0, mode="clip")
        return total


def learn_scores(
    lines: Sequence[np.ndarray],
    bins: Sequence[Bins],
    labels: np.ndarray,
    n_labels: int,
    *,
    seed: int,
    varied: bool = False,
) -> PairScores:
    """Learn the scores of labels int64 ``(n,)`` from lines of bins int64 ``(n,)``.

    Labels that no row has get a score that is never drawn. Trees may be `varied`, as extremely randomized ones are
    (Geurts, Ernst and Wehenkel, 2006): on some hundred rows the best cut of all is mostly chance.
    """
    lightgbm = load_lightgbm()
    seen, coded = np.unique(labels, return_inverse=True)
    coded = coded.reshape(-1)
    n_scores = 1 if n_labels == 2 else n_labels
    if len(seen) == 1:
        base = np.full(n_scores, -30.0)
        base[0 if n_labels == 2 else seen[0]] = 30.0 if n_labels > 2 or seen[0] == 1 else -30.0
        return PairScores(base, (), ())
    binary = n_labels == 2
    matrix = np.stack(lines, axis=1).astype(np.float32)
    unordered = [i for i, own in enumerate(bins) if not own.ordered and own.size > 2]
    settings: dict[str, Any] = {
        "objective": "binary" if len(seen) == 2 else "multiclass",
        "num_leaves": 4,
        "max_depth": 2,
        "learning_rate": LEARNING_RATE,
        "min_data_in_leaf": MIN_LEAF,
        "lambda_l2": 1.0,
        "min_data_per_group": MIN_LEAF,
        "max_bin": 255,
        "seed": seed,
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    if varied:
        settings |= {**VARIED, "feature_fraction_seed": seed, "extra_seed": seed}
        settings["feature_fraction"] = min(max(VARIED["feature_fraction"], PAIR / max(len(lines), 1)), 1.0)
    if len(seen) > 2:
        settings["num_class"] = len(seen)
    back = np.arange(len(coded)) % HELD_BACK == HELD_BACK - 1
    rounds = 30
    if np.array_equal(np.unique(coded[~back]), np.arange(len(seen))) and back.sum() >= 2 * MIN_LEAF:
        own = lightgbm.Dataset(matrix[~back], coded[~back], categorical_feature=unordered)
        other = lightgbm.Dataset(matrix[back], coded[back], reference=own, categorical_feature=unordered)
        stop = lightgbm.early_stopping(VARIED_PATIENCE if varied else PATIENCE, verbose=False)
        tried = lightgbm.train(
            settings, own, ROUNDS, valid_sets=[other], callbacks=[stop], keep_training_booster=True
        )
        rounds = tried.best_iteration
    rounds = max(rounds, 1)
    data = lightgbm.Dataset(matrix, coded, categorical_feature=unordered)
    trees = lightgbm.train(settings, data, rounds, keep_training_booster=True).dump_model()["tree_info"]
    n_fitted = 1 if len(seen) == 2 else len(seen)
    sizes = [own.size for own in bins]
    pairs: dict[tuple[int, int], np.ndarray] = {}
    alone: dict[int, np.ndarray] = {}
    fitted = np.zeros(n_fitted)
    for number, tree in enumerate(trees):
        _add(tree["tree_structure"], sizes, pairs, alone, fitted, number % n_fitted)
    for parent, effect in alone.items():
        found = next((pair for pair in sorted(pairs) if parent in pair), None)
        if found is None:
            found = (parent, parent)
            pairs[found] = np.zeros((sizes[parent], sizes[parent], n_fitted))
        pairs[found] += effect[:, None] if found[0] == parent else effect[None]
    # LightGBM's first tree holds the mean; labels that were not seen stay out of reach.
    base = np.full(n_scores, -30.0)
    if binary or len(seen) == n_labels:
        base = fitted
        spread = pairs
    elif n_fitted == 1:
        base[seen] = 0.0
        base[seen[1]] = fitted[0]
        spread = {}
        for key, table in pairs.items():
            spread[key] = np.zeros((*table.shape[:2], n_scores))
            spread[key][..., seen[1]] = table[..., 0]
    else:
        base[seen] = fitted
        spread = {}
        for key, table in pairs.items():
            spread[key] = np.zeros((*table.shape[:2], n_scores))
            spread[key][..., seen] = table
    ordered = sorted(spread)
    return PairScores(base, tuple(ordered), tuple(spread[key].astype(np.float32) for key in ordered))


def _add(
    root: dict[str, Any],
    sizes: list[int],
    pairs: dict[tuple[int, int], np.ndarray],
    alone: dict[int, np.ndarray],
    base: np.ndarray,
    score: int,
) -> None:
    """Add one tree of depth two to the tables: what either side of its first cut says is a sum of its own."""
    if "split_feature" not in root:
        base[score] += root["leaf_value"]
        return
    a = root["split_feature"]
    left = _goes_left(root, sizes[a])
    for here, side in ((left, root["left_child"]), (~left, root["right_child"])):
        b = side.get("split_feature", a)
        if b == a:
            alone.setdefault(a, np.zeros((sizes[a], len(base))))[:, score] += here * _values(side, sizes[a])
            continue
        table = here[:, None] * _values(side, sizes[b])[None]
        key = (min(a, b), max(a, b))
        pairs.setdefault(key, np.zeros((sizes[key[0]], sizes[key[1]], len(base))))
        pairs[key][..., score] += table if key == (a, b) else table.T


def _values(side: dict[str, Any], size: int) -> np.ndarray:
    """Return the value of a leaf, or of a node with two leaves, by bin of the column asked, ``(size,)``."""
    if "split_feature" not in side:
        return np.full(size, side["leaf_value"])
    left, right = side["left_child"]["leaf_value"], side["right_child"]["leaf_value"]
    return np.where(_goes_left(side, size), left, right)


def _goes_left(node: dict[str, Any], size: int) -> np.ndarray:
    """Return which bins of the column go left, bool ``(size,)``."""
    if node["decision_type"] == "<=":
        return np.asarray(np.arange(size) <= float(node["threshold"]))
    return np.isin(np.arange(size), [int(part) for part in str(node["threshold"]).split("||")])
