"""LightGBM's trees, from its own dump; values and thresholds are float64 there."""

from __future__ import annotations

from typing import Any

from .boosted import Boosted
from .converter import NotConverted
from .trees import LEQ, Tree

LINKS = {
    "binary": "sigmoid",
    "multiclass": "softmax",
    "multiclassova": "ova",
    "cross_entropy": "sigmoid",
    "cross_entropy_lambda": "softplus",
    "poisson": "exp",
    "gamma": "exp",
    "tweedie": "exp",
}
PLAIN = (
    "regression",
    "regression_l1",
    "huber",
    "fair",
    "quantile",
    "mape",
    "lambdarank",
    "rank_xendcg",
)


def of_model(model: Any) -> Boosted:
    """The trees of a fitted wrapper, up to the best iteration where early stopping found one.

    Raises:
        NotConverted: see `of_booster`.
    """
    found = of_booster(model.booster_)
    if hasattr(model, "n_classes_") and hasattr(model, "classes_"):
        found.classes = int(model.n_classes_)
    return found


def of_booster(booster: Any) -> Boosted:
    """The trees of a booster.

    Raises:
        NotConverted: an objective that is not known here, or linear leaves.
    """
    dumped = booster.dump_model()  # up to the best iteration, as `predict` does it
    words = str(dumped.get("objective", "")).split()
    name = words[0] if words else ""
    if name not in LINKS and name not in PLAIN:
        raise NotConverted(
            f"LightGBM's objective {name or '(one of your own)'} is not converted",
            f"{', '.join([*LINKS, *PLAIN])} are",
        )
    settings = dict(word.split(":") for word in words if ":" in word)
    outputs = int(dumped["num_tree_per_iteration"])
    trees = [_tree(each["tree_structure"]) for each in dumped["tree_info"]]
    if dumped.get("average_output"):
        rounds = max(len(trees) // outputs, 1)
        for tree in trees:
            tree.value = [value / rounds for value in tree.value]
    link = "signed_square" if "sqrt" in words else LINKS.get(name, "none")
    return Boosted(
        trees=trees,
        targets=[index % outputs for index in range(len(trees))],
        start=[0.0] * outputs,
        link=link,
        classes=outputs if name.startswith("multiclass") else 2 if name == "binary" else 0,
        slope=float(settings.get("sigmoid", 1.0)) if name in ("binary", "multiclassova") else 1.0,
        categories=_categories(booster, dumped),
    )


def _categories(booster: Any, dumped: dict[str, Any]) -> dict[int, list[Any]]:
    """The columns that were pandas' categories in training, in the order of the columns."""
    named = booster.pandas_categorical or []
    infos = dumped.get("feature_infos", {})
    names = enumerate(dumped["feature_names"])
    places = [at for at, name in names if infos.get(name, {}).get("values")]
    if named and len(named) != len(places):
        raise NotConverted(
            f"{len(named)} columns were pandas' categories in training, and the model uses {len(places)} as "
            "such, so that it cannot be told which",
            "encode them with OrdinalEncoder before the model",
        )
    return dict(zip(places, named, strict=True)) if named else {}


def _tree(structure: dict[str, Any]) -> Tree:
    tree = Tree()
    made: dict[int, int] = {}
    waiting = [structure]
    while waiting:
        node = waiting[-1]
        if "split_index" not in node:
            if "leaf_coeff" in node:
                raise NotConverted("LightGBM's linear_tree is not converted", "train with linear_tree=False")
            made[id(node)] = tree.leaf(float(node["leaf_value"]))
            waiting.pop()
        elif id(node["left_child"]) not in made or id(node["right_child"]) not in made:
            waiting += [node["left_child"], node["right_child"]]
        else:
            waiting.pop()
            made[id(node)] = _split(tree, node, made[id(node["left_child"])], made[id(node["right_child"])])
    return tree.rooted(made[id(structure)])


def _split(tree: Tree, node: dict[str, Any], left: int, right: int) -> int:
    feature, missing = int(node["split_feature"]), str(node["missing_type"])
    if node["decision_type"] == "==":
        values = [float(value) for value in str(node["threshold"]).split("||")]
        return tree.one_of(feature, values, left, right)
    threshold = float(node["threshold"])
    default_left = bool(node["default_left"])
    # Where training met nothing missing, NaN is taken for zero.
    made = tree.split(feature, LEQ, threshold, threshold >= 0 if missing == "None" else default_left)
    tree.branches(made, left, right)
    if missing == "Zero":
        return tree.one_of(feature, [0.0], left if default_left else right, made)
    return made
