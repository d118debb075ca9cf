"""scikit-learn's trees and forests, and boosted ones of it and of others inside a pipeline, as ONNX nodes."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from .boosted import Boosted, boosted
from .converter import NotConverted
from .frames import Array
from .onnx_writer import Block, Frame, Writer
from .trees import LEQ, Tree, leaf_values, rounded, tree_sum

SINGLE = ("DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor")
FORESTS = ("RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor")
BOOSTED = ("GradientBoostingClassifier", "GradientBoostingRegressor")
BINNED = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")
TREES = (*SINGLE, *FORESTS, *BOOSTED, *BINNED)


def tree_model(writer: Writer, model: Any, frame: Frame, name: str) -> Block:
    """Scores or values of a model of trees.

    Raises:
        NotConverted: a loss, a link or a start that is not known here.
    """
    if name in BINNED:
        return _binned(writer, model, frame)
    if name in BOOSTED:
        return _boosted(writer, model, writer.matrix(frame))
    if name in TREES:
        return _forest(writer, model, writer.matrix(frame))
    return boosted(writer, reader_of(model), frame)


def reader_of(model: Any) -> Boosted:
    """The trees of a model of XGBoost, LightGBM or CatBoost.

    Raises:
        NotConverted: an objective or a kind of feature that is not known here.
    """
    if hasattr(model, "boosted_trees"):
        return cast("Boosted", model.boosted_trees())
    name = type(model).__name__
    if name.startswith("XGB"):
        from .xgboost_trees import of_model as read
    elif name.startswith("LGBM"):
        from .lightgbm_trees import of_model as read
    else:
        from .catboost_trees import of_model as read
    return read(model)


def _forest(writer: Writer, model: Any, block: Block) -> Block:
    members = getattr(model, "estimators_", [model])
    if isinstance(getattr(model, "classes_", None), list):
        raise NotConverted("a forest with several outputs of classes is not converted", "fit one for each")
    tables = [_table(each.tree_) for each in members]
    name = leaf_values(writer, rounded(writer, block), [_indexed(each.tree_) for each in members], tables)
    if len(members) > 1:
        name = writer.op("Div", name, writer.constant(float(len(members))))
    return Block(name, False, tables[0].shape[1])


def _table(tree: Any) -> Array:
    """What each node holds: shares of the classes, or a value for each target."""
    held = np.asarray(tree.value, np.float64)
    return held[:, 0, :] if held.shape[1] == 1 else held[:, :, 0]


def _indexed(tree: Any) -> Tree:
    """A tree whose leaves hold their own index; rows are float32 there, and so are at most `threshold`."""
    missing = getattr(tree, "missing_go_to_left", np.zeros(tree.node_count))
    inner = tree.children_left >= 0
    return Tree(
        feature=np.where(inner, tree.feature, -1).tolist(),
        mode=[LEQ] * tree.node_count,
        threshold=np.where(inner, tree.threshold, 0.0).tolist(),
        left=tree.children_left.tolist(),
        right=tree.children_right.tolist(),
        missing_left=[bool(left) for left in missing],
        value=[float(index) for index in range(tree.node_count)],
    )


def _boosted(writer: Writer, model: Any, block: Block) -> Block:
    if model.init_ not in (None, "zero") and type(model.init_).__name__ not in (
        "DummyClassifier",
        "DummyRegressor",
    ):
        raise NotConverted(f"{type(model).__name__} that starts from {type(model.init_).__name__}")
    outputs = model.estimators_.shape[1]
    start = np.asarray(model._raw_predict_init(np.zeros((1, block.width), np.float32)), np.float64)[0]
    trees, targets = [], []
    for stage in model.estimators_:
        for target, each in enumerate(stage):
            tree = _indexed(each.tree_)
            tree.value = (model.learning_rate * each.tree_.value[:, 0, 0]).tolist()
            trees.append(tree)
            targets.append(target)
    raw = writer.cast(tree_sum(writer, rounded(writer, block), trees, targets, outputs), "float64")
    raw = writer.op("Add", raw, writer.constant(start.reshape(1, -1)))
    if not hasattr(model, "classes_"):
        return Block(raw, False, 1)
    if model.loss == "exponential":
        return _probabilities(writer, writer.op("Mul", raw, writer.constant(2.0)), outputs)
    return _probabilities(writer, raw, outputs)


def _probabilities(writer: Writer, raw: str, outputs: int) -> Block:
    if outputs > 1:
        return Block(writer.op("Softmax", raw, axis=1), False, outputs)
    second = writer.op("Sigmoid", raw)
    first = writer.op("Sub", writer.constant(1.0), second)
    return Block(writer.op("Concat", first, second, axis=1), False, 2)


def _binned(writer: Writer, model: Any, frame: Frame) -> Block:
    """Histogram-based boosting: compares in float64, knows categories, and sends missing ones their way."""
    from .sklearn_steps import transform

    if model._preprocessor is not None:
        frame = transform(writer, model._preprocessor, frame)
    block = writer.matrix(frame)
    known_bits, places = model._bin_mapper.make_known_categories_bitsets()
    trees, targets = [], []
    for stage in model._predictors:
        for target, each in enumerate(stage):
            trees.append(_of_nodes(each, known_bits, places))
            targets.append(target)
    outputs = len(model._predictors[0])
    start = np.broadcast_to(np.asarray(model._baseline_prediction, np.float64).reshape(-1), (outputs,))
    raw = writer.cast(tree_sum(writer, block.name, trees, targets, outputs), "float64")
    raw = writer.op("Add", raw, writer.constant(start.reshape(1, -1)))
    if hasattr(model, "classes_"):
        return _probabilities(writer, raw, outputs)
    link = type(model._loss.link).__name__
    if link == "LogLink":
        raw = writer.op("Exp", raw)
    elif link != "IdentityLink":
        raise NotConverted(f"{type(model).__name__} with {link} is not converted")
    return Block(raw, False, 1)


def _of_nodes(predictor: Any, known_bits: Array, places: Array) -> Tree:
    nodes = predictor.nodes
    tree = Tree()
    # Children come behind their parents, so that going backwards finds them made.
    made: dict[int, int] = {}
    for index in range(len(nodes) - 1, -1, -1):
        node = nodes[index]
        if node["is_leaf"]:
            made[index] = tree.leaf(float(node["value"]))
            continue
        left, right = made[int(node["left"])], made[int(node["right"])]
        feature, missing_left = int(node["feature_idx"]), bool(node["missing_go_to_left"])
        if node["is_categorical"]:
            chosen = _bits(predictor.raw_left_cat_bitsets[int(node["bitset_idx"])])
            others = _bits(known_bits[int(places[feature])]) - chosen
            # Values that were not seen in training go where missing ones go.
            if missing_left:
                made[index] = tree.one_of(feature, sorted(others), right, left)
            else:
                made[index] = tree.one_of(feature, sorted(chosen), left, right)
        else:
            made[index] = tree.split(feature, LEQ, float(node["num_threshold"]), missing_left)
            tree.branches(made[index], left, right)
    return tree.rooted(made[0])


def _bits(words: Array) -> set[float]:
    return {
        float(word * 32 + bit) for word, held in enumerate(words) for bit in range(32) if int(held) >> bit & 1
    }
