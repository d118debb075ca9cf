"""An MXNet symbol as its own exporter can take it: heads without labels, present names, defaults written out.

What is rewritten here is proven by running the symbol as it was against the ONNX that comes out.
"""

from __future__ import annotations

import json
from typing import Any

from .converter import NotConverted, Refused

Node = dict[str, Any]

OLD_NAMES = {
    "BatchNorm_v1": "BatchNorm",
    "CuDNNBatchNorm": "BatchNorm",
    "Convolution_v1": "Convolution",
    "Pooling_v1": "Pooling",
    "Softmax": "SoftmaxOutput",
    "LinearRegressionOutput": "identity",
    "MAERegressionOutput": "identity",
    "SVMOutput": "identity",
    "LogisticRegressionOutput": "sigmoid",
    "MakeLoss": "identity",
    "make_loss": "identity",
    "BlockGrad": "identity",
    "IdentityAttachKLSparseReg": "identity",
}
TRAINED_BY = frozenset(
    [
        "SoftmaxOutput",
        "LinearRegressionOutput",
        "MAERegressionOutput",
        "SVMOutput",
        "LogisticRegressionOutput",
    ]
)
"""Heads with a second input, the labels, that the answers do not depend on."""
FOREIGN = frozenset({"Custom", "_Native", "_NDArray", "_CustomFunction"})
"""Operators that call what the program that built them registered, the last three by an address in memory."""
DEFAULTS = {
    "FullyConnected": {"flatten": "True"},
    "BatchNorm": {"fix_gamma": "True"},
    "Deconvolution": {"no_bias": "True"},
}
"""What the exporter takes for false where a symbol leaves it to the framework, which takes it for true."""
WEIGHTS_FROM = {
    "Convolution": 1,
    "Deconvolution": 1,
    "FullyConnected": 1,
    "BatchNorm": 1,
    "InstanceNorm": 1,
    "LayerNorm": 1,
    "LeakyReLU": 1,
    "Embedding": 1,
}
"""Operators whose inputs from this one on are weights, and never the caller's."""


def read_symbol(name: str, text: bytes) -> dict[str, Any]:
    """A symbol's JSON, checked as far as needed to speak of its nodes.

    Raises:
        Refused: cut short, damaged, or no symbol. NotConverted: it calls Python code that it does not hold.
    """
    try:
        held = json.loads(text)
        for node in held["nodes"]:
            if not isinstance(node["op"], str) or not isinstance(node["name"], str):
                raise TypeError("a node without a name")
            if any(not 0 <= int(each[0]) < len(held["nodes"]) for each in node["inputs"]):
                raise IndexError("an input that is no node")
        held["heads"][0][0]
    except (ValueError, RecursionError) as problem:
        raise Refused(f"{name} is cut short or damaged: {problem}") from problem
    except (KeyError, IndexError, TypeError) as problem:
        raise Refused(f"{name} is not a whole MXNet symbol: {problem}") from problem
    for node in held["nodes"]:
        if node["op"] in FOREIGN:
            kind = (node.get("attrs") or node.get("attr") or node.get("param") or {}).get("op_type", "?")
            raise NotConverted(
                f"the layer {node['name']!r} is a {node['op']} operator ({kind}): code that the symbol does "
                "not hold",
                "build the network without it, and do in a recipe's steps what it does",
            )
    return dict(held)


def rewritten(symbol: dict[str, Any]) -> dict[str, Any]:
    """The symbol with the same answers and the names of its nodes, for the exporter.

    Args:
        symbol: as MXNet itself writes it (`tojson`), so of its present form.
    """
    nodes: list[Node] = [_node(node) for node in symbol["nodes"]]
    kept = _reachable(nodes, [head[0] for head in symbol["heads"]])
    place = {old: new for new, old in enumerate(kept)}
    result = [
        {**nodes[old], "inputs": [[place[each[0]], *each[1:]] for each in nodes[old]["inputs"]]}
        for old in kept
    ]
    return {
        "nodes": result,
        "arg_nodes": [index for index, node in enumerate(result) if node["op"] == "null"],
        "heads": [[place[head[0]], *head[1:]] for head in symbol["heads"]],
        "attrs": symbol.get("attrs", {}),
    }


def weights_of(symbol: dict[str, Any]) -> set[str]:
    """The names of inputs that can only be weights, told by the operator that takes them."""
    nodes = symbol["nodes"]
    return {
        nodes[each[0]]["name"]
        for node in nodes
        for each in node["inputs"][WEIGHTS_FROM.get(node["op"], len(node["inputs"])) :]
        if nodes[each[0]]["op"] == "null"
    }


def ones_of(symbol: dict[str, Any]) -> set[str]:
    """The scales of batch norms that MXNet takes for 1 whatever they hold (`fix_gamma`)."""
    nodes = symbol["nodes"]
    return {
        nodes[node["inputs"][1][0]]["name"]
        for node in nodes
        if node["op"] == "BatchNorm" and node["attrs"].get("fix_gamma") == "True"
    }


def indices_of(symbol: dict[str, Any]) -> set[str]:
    """The inputs that are looked up in a table of weights."""
    nodes = symbol["nodes"]
    firsts = [nodes[node["inputs"][0][0]] for node in nodes if node["op"] == "Embedding"]
    return {first["name"] for first in firsts if first["op"] == "null"}


def _node(node: Node) -> Node:
    name: str = node["op"]
    attributes: dict[str, str] = node.get("attrs") or {}
    attributes = {key: SPELT.get(text, text) for key, text in attributes.items()}
    inputs = node["inputs"]
    operator = OLD_NAMES.get(name, name)
    if name in TRAINED_BY or operator in TRAINED_BY:
        inputs = inputs[:1]
    if operator == "SoftmaxOutput":
        operator, attributes = "softmax", {"axis": "1" if _yes(attributes, "multi_output") else "-1"}
    elif operator == "SoftmaxActivation":
        operator, attributes = "softmax", {"axis": "1" if attributes.get("mode") == "channel" else "-1"}
    elif operator in ("identity", "sigmoid"):
        attributes = {}
    elif operator == "LeakyReLU" and attributes.get("act_type") == "rrelu":
        low, high = (float(attributes.get(key, value)) for key, value in RANDOM_SLOPE.items())
        attributes = {"act_type": "leaky", "slope": str((low + high) / 2)}
    elif operator != "null":
        attributes = {**DEFAULTS.get(operator, {}), **attributes}
        for key in DEFAULTS.get(operator, {}):
            attributes[key] = "True" if _yes(attributes, key) else "False"
    return {"op": operator, "name": node["name"], "attrs": attributes, "inputs": inputs}


SPELT = {"true": "True", "false": "False"}
RANDOM_SLOPE = {"lower_bound": 0.125, "upper_bound": 0.334}
"""Of a randomised leaky ReLU, which answers with the mean of the two."""


def _yes(attributes: dict[str, str], key: str) -> bool:
    return attributes.get(key) in ("True", "1")


def _reachable(nodes: list[Node], heads: list[int]) -> list[int]:
    """The nodes that the heads depend on, in the order that they have."""
    found: set[int] = set()
    waiting = list(heads)
    while waiting:
        index = waiting.pop()
        if index not in found:
            found.add(index)
            waiting += [each[0] for each in nodes[index]["inputs"]]
    return sorted(found)
