"""XGBoost's trees, from the JSON that it writes of itself."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np

from .boosted import FLOAT32, Boosted
from .converter import NotConverted
from .trees import LT, Tree

LINKS = {
    "binary:logistic": "sigmoid",
    "reg:logistic": "sigmoid",
    "multi:softprob": "softmax",
    "multi:softmax": "softmax",
    "count:poisson": "exp",
    "reg:gamma": "exp",
    "reg:tweedie": "exp",
    "survival:cox": "exp",
    "survival:aft": "exp",
}
PLAIN = (
    "reg:squarederror",
    "reg:linear",
    "reg:squaredlogerror",
    "reg:absoluteerror",
    "reg:pseudohubererror",
    "reg:quantileerror",
    "reg:expectileerror",
    "rank:pairwise",
    "rank:ndcg",
    "rank:map",
)


def of_model(model: Any) -> Boosted:
    """The trees of a fitted wrapper, up to the best iteration where early stopping found one.

    Raises:
        NotConverted: see `of_booster`.
    """
    booster = model.get_booster()
    best = _best(model)
    found = of_booster(booster if best is None else booster[: best + 1])
    if hasattr(model, "n_classes_"):
        found.classes = int(model.n_classes_)
    missing = getattr(model, "missing", np.nan)
    if missing is not None and not np.isnan(missing):
        found.missing = float(missing)
    return found


def of_booster(booster: Any) -> Boosted:
    """The trees of a booster.

    Raises:
        NotConverted: an objective or a kind of booster that is not known here.
    """
    learner = json.loads(booster.save_raw("json"))["learner"]
    objective = str(learner["objective"]["name"])
    if objective not in LINKS and objective not in PLAIN:
        raise NotConverted(
            f"XGBoost's objective {objective} is not converted", f"{', '.join([*LINKS, *PLAIN])} are"
        )
    machine = learner["gradient_booster"]
    weights = None
    if machine["name"] == "dart":
        weights, machine = machine["weight_drop"], machine["gbtree"]
    if machine["name"] != "gbtree":
        raise NotConverted(f"XGBoost's booster {machine['name']} is not converted", "gbtree and dart are")
    described = machine["model"]["trees"]
    shares = weights if weights is not None else [1.0] * len(described)
    trees = [_tree(each, share) for each, share in zip(described, shares, strict=True)]
    targets = [int(target) for target in machine["model"]["tree_info"]]
    about = learner["learner_model_param"]
    outputs = max(int(about.get("num_class", 0)), int(about.get("num_target", 1)), 1)
    classes = outputs if objective.startswith("multi:") else 2 if objective == "binary:logistic" else 0
    return Boosted(
        trees=trees,
        targets=targets,
        start=_start(str(about["base_score"]), objective, outputs),
        link=LINKS.get(objective, "none"),
        classes=classes,
        precision=FLOAT32,
        categories=_named_categories(machine["model"].get("cats") or {}),
        takes_unseen=False,
    )


def _named_categories(held: dict[str, Any]) -> dict[int, list[Any]]:
    """The columns that were pandas' categories in training: texts as bytes one after another, or numbers.

    Raises:
        NotConverted: names that are not ASCII.
    """
    found: dict[int, list[Any]] = {}
    for at, each in enumerate(held.get("enc") or []):
        values, offsets = each.get("values") or [], each.get("offsets") or []
        if offsets:
            if any(not 0 <= value < 128 for value in values):
                # Their places are counted in letters there and their values in bytes, the last ones lost.
                raise NotConverted(
                    f"column {at} has categories with letters beyond ASCII, which XGBoost cuts short",
                    "encode them with OrdinalEncoder in a scikit-learn Pipeline, or rename them",
                )
            data = bytes(values)
            found[at] = [data[start:end].decode() for start, end in pairwise(offsets)]
        elif values:
            found[at] = list(values)
    return found


def _best(model: Any) -> int | None:
    if getattr(model, "early_stopping_rounds", None) is None:
        return None
    try:
        return int(model.best_iteration)
    except AttributeError:
        return None


def _start(text: str, objective: str, outputs: int) -> list[float]:
    """What the sums begin with; the file has it behind the link, one or one for each output."""
    value = np.array(json.loads(text) if text.startswith("[") else [float(text)], np.float64)
    link = LINKS.get(objective, "none")
    if link == "sigmoid":
        value = np.log(value / (1 - value))
    elif link == "exp":
        value = np.log(value)
    return [float(each) for each in np.broadcast_to(value, (outputs,))]


def _tree(described: dict[str, Any], share: float) -> Tree:
    if int(described["tree_param"].get("size_leaf_vector", 1)) > 1:
        raise NotConverted(
            "XGBoost's trees with a vector in each leaf are not converted",
            "train with multi_strategy='one_output_per_tree'",
        )
    left, right = described["left_children"], described["right_children"]
    values = np.asarray(described["split_conditions"], np.float32).astype(np.float64)
    kinds = described.get("split_type") or [0] * len(left)
    groups = _categories(described)
    tree = Tree()
    made: dict[int, int] = {}
    waiting = [0]
    while waiting:
        node = waiting[-1]
        if node in made:
            waiting.pop()
        elif left[node] < 0:
            made[node] = tree.leaf(float(values[node]) * float(share))
        elif left[node] not in made or right[node] not in made:
            waiting += [left[node], right[node]]
        else:
            feature, missing_left = (
                int(described["split_indices"][node]),
                bool(described["default_left"][node]),
            )
            if kinds[node]:
                sides = made[left[node]], made[right[node]]
                made[node] = _category_split(tree, feature, groups[node], missing_left, *sides)
            else:
                made[node] = tree.split(feature, LT, float(values[node]), missing_left)
                tree.branches(made[node], made[left[node]], made[right[node]])
    return tree.rooted(made[0])


def _category_split(
    tree: Tree, feature: int, values: list[float], missing_left: bool, left: int, right: int
) -> int:
    """Listed categories go right, others left; what is missing goes its own way, which is asked first."""
    following = tree.one_of(feature, values, right, left)
    if missing_left:
        return following
    # No number is above infinity: only what is missing takes the first branch.
    asked = tree.split(feature, LT, -np.inf, True)
    tree.branches(asked, right, following)
    return asked


def _categories(described: dict[str, Any]) -> dict[int, list[float]]:
    starts, sizes = described.get("categories_segments", []), described.get("categories_sizes", [])
    held = described.get("categories", [])
    nodes = described.get("categories_nodes", [])
    return {
        int(node): [float(value) for value in held[int(start) : int(start) + int(size)]]
        for node, start, size in zip(nodes, starts, sizes, strict=True)
    }
