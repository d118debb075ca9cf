"""A network that ends in other values than its own outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto


def ending_in(network: ModelProto, names: Sequence[str]) -> ModelProto:
    """A copy whose outputs are these values, float32; what only its former outputs needed is left out.

    Raises:
        ValueError: there is no such value.
    """
    from onnx import ModelProto, TensorProto, helper
    from onnx.utils import Extractor

    made = {name for node in network.graph.node for name in node.output}
    if missing := [name for name in names if name not in made]:
        raise ValueError(f"the graph has no value {missing[0]!r}")
    own = ModelProto()
    own.CopyFrom(network)
    del own.graph.output[:], own.graph.value_info[:]
    own.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    cut: ModelProto = Extractor(own).extract_model([value.name for value in own.graph.input], list(names))
    del cut.graph.value_info[:]
    cut.graph.name, cut.producer_name = network.graph.name, network.producer_name
    cut.metadata_props.extend(network.metadata_props)
    return cut


def ending_in_bytes(graph: bytes, names: Sequence[str]) -> bytes:
    """`ending_in` of a serialized network."""
    from onnx import ModelProto

    return bytes(ending_in(ModelProto.FromString(graph), names).SerializeToString())
