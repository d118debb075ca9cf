"""CatBoost's trees, from the JSON that it writes of itself; it compares in float32 and adds in float64."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from .boosted import FLOAT32, Boosted
from .converter import NotConverted
from .trees import LEQ, Tree

LINKS = {
    "Logloss": "sigmoid",
    "CrossEntropy": "sigmoid",
    "MultiClass": "softmax",
    "MultiClassOneVsAll": "ova",
}
LINKS |= {"Poisson": "exp", "Tweedie": "exp"}


def of_model(model: Any) -> Boosted:
    """The trees of a fitted model.

    Raises:
        NotConverted: features that are categories, texts or embeddings, which CatBoost hashes.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        held = json.loads(path.read_text())
    features = held["features_info"]
    for kind in ("categorical_features", "text_features", "embedding_features"):
        if features.get(kind):
            raise NotConverted(
                f"a CatBoost model with {kind.replace('_', ' ')} is not converted: it keeps hashes and "
                "statistics of them that ONNX has no operator for",
                "encode them before the model (OrdinalEncoder in a scikit-learn Pipeline)",
            )
    missing_left = {
        int(each["feature_index"]): each.get("nan_value_treatment") != "AsTrue"
        for each in features["float_features"]
    }
    places = {
        int(each["feature_index"]): int(each["flat_feature_index"]) for each in features["float_features"]
    }
    scale, bias = held.get("scale_and_bias", [1, [0]])
    start = [float(each) for each in (bias if isinstance(bias, list) else [bias])]
    trees: list[Tree] = []
    targets: list[int] = []
    for described in held.get("oblivious_trees") or held.get("trees") or []:
        flat = "leaf_values" in described
        values = described["leaf_values"] if flat else None
        outputs = (
            _outputs(described) if values is None else len(values) // (1 << len(described["splits"] or []))
        )
        for target in range(outputs):
            build = _oblivious if flat else _grown
            trees.append(build(described, target, outputs, float(scale), missing_left, places))
            targets.append(target)
    outputs = max(targets, default=0) + 1
    loss = _loss(held, model)
    known = getattr(model, "classes_", None)
    classes = 0 if known is None else len(known)
    return Boosted(
        trees=trees,
        targets=targets,
        start=start if len(start) == outputs else [start[0] if start else 0.0] * outputs,
        link=LINKS.get(loss, "none"),
        classes=classes,
        precision=FLOAT32,
    )


def _loss(held: dict[str, Any], model: Any) -> str:
    about = held.get("model_info", {}).get("params", {})
    if isinstance(about, str):
        about = json.loads(about)
    return str(about.get("loss_function", {}).get("type", ""))


def _oblivious(
    described: dict[str, Any],
    target: int,
    outputs: int,
    scale: float,
    missing_left: dict[int, bool],
    places: dict[int, int],
) -> Tree:
    """A tree whose levels all ask one question: the first is the lowest bit of the leaf's number."""
    splits = described["splits"] or []
    tree = Tree()
    level = [
        tree.leaf(scale * float(described["leaf_values"][leaf * outputs + target]))
        for leaf in range(1 << len(splits))
    ]
    for split in splits:
        above = []
        for pair in range(0, len(level), 2):
            above.append(_ask(tree, split, level[pair], level[pair + 1], missing_left, places))
        level = above
    return tree.rooted(level[0])


def _grown(
    described: dict[str, Any],
    target: int,
    outputs: int,
    scale: float,
    missing_left: dict[int, bool],
    places: dict[int, int],
) -> Tree:
    tree = Tree()
    made: dict[int, int] = {}
    waiting = [described]
    while waiting:
        node = waiting[-1]
        if "split" not in node:
            value = node["value"]
            held = value[target] if isinstance(value, list) else value
            made[id(node)] = tree.leaf(scale * float(held))
            waiting.pop()
        elif id(node["left"]) not in made or id(node["right"]) not in made:
            waiting += [node["left"], node["right"]]
        else:
            waiting.pop()
            left, right = made[id(node["left"])], made[id(node["right"])]
            made[id(node)] = _ask(tree, node["split"], left, right, missing_left, places)
    return tree.rooted(made[id(described)])


def _ask(
    tree: Tree,
    split: dict[str, Any],
    left: int,
    right: int,
    missing_left: dict[int, bool],
    places: dict[int, int],
) -> int:
    if split.get("split_type", "FloatFeature") != "FloatFeature":
        raise NotConverted(f"CatBoost's split {split['split_type']} is not converted")
    feature = int(split["float_feature_index"])
    node = tree.split(places[feature], LEQ, float(split["border"]), missing_left[feature])
    tree.branches(node, left, right)
    return node


def _outputs(described: dict[str, Any]) -> int:
    node = described
    while "split" in node:
        node = node["left"]
    return len(node["value"]) if isinstance(node["value"], list) else 1
