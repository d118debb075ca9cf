"""A detector is packed with a form that ends where its decoding begins, which `post` does for a few places.

It is the same file: the form names the values that it ends in, and has a `post` of its own. Where the answers
of the recorded cases are not the same, there is no such form.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import msgspec
import onnx

from ..bundle.manifest import Manifest, Variant
from ..runtimes.onnxruntime import OnnxRuntime
from ..runtimes.outputs import ending_in
from ..steps.compile import compile_post
from ..steps.heads import YoloV5, YoloV8
from ..steps.step import PostStep
from ..verify.detections import compare_detections, thresholds_of
from ..verify.replay import end_to_end_tolerance
from .decoding import OtherDecoding, undecoded
from .golden import Recorded
from .source import Imported

NAME = "heads"
POST = f"post.{NAME}.onnx"


class Early(msgspec.Struct, frozen=True):
    """The form, its files, and what is to be said of it."""

    variant: Variant
    files: dict[str, bytes]
    told: str


def ending_early(
    imported: Imported,
    steps: Sequence[PostStep],
    labels: Sequence[str],
    manifest: Manifest,
    recorded: Sequence[Recorded],
) -> Early | None:
    """The form that ends where the decoding begins; None where the network does not end so.

    Args:
        imported, steps, labels: the network, the steps of `post`, and the class names.
        manifest: with the tolerances of the cases.
        recorded: the cases, from the source framework.
    """
    if imported.function is not None or not any(isinstance(step, YoloV5 | YoloV8) for step in steps):
        return None
    network, graphs = onnx.load_model_from_string(imported.onnx), manifest.graphs
    own = {spec.name for spec in graphs.net.signature.outputs}
    carried = tuple(spec for spec in graphs.post.signature.inputs if spec.name not in own)
    try:
        found = undecoded(network, steps, [case.pre for case in recorded])
    except OtherDecoding:
        return None
    names = tuple(spec.name for spec in found.outputs)
    cut = ending_in(network, names)
    post = compile_post(found.steps, (*found.outputs, *carried), labels)
    if not _same(cut.SerializeToString(), post.data, [spec.name for spec in carried], manifest, recorded):
        return None
    variant = Variant(NAME, graphs.net.file, outputs=names, post=POST, chosen=True)
    spared = len(network.graph.node) - len(cut.graph.node)
    told = (
        f"{spared} of the network's {len(network.graph.node)} nodes decode boxes, nearly all of them of "
        "nothing: the variant heads leaves them out, and post decodes what is over the threshold"
    )
    return Early(variant, {POST: post.data}, told)


def _same(
    network: bytes, post: bytes, carried: Sequence[str], manifest: Manifest, recorded: Sequence[Recorded]
) -> bool:
    """Whether the recorded cases get their answers."""
    assert manifest.golden is not None
    tolerance = end_to_end_tolerance(manifest.golden)
    thresholds = thresholds_of({option.name: option.default for option in manifest.options})
    taken = [spec.name for spec in manifest.graphs.net.signature.inputs]
    with closing(OnnxRuntime().open(network)) as net, closing(OnnxRuntime().open(post)) as end:
        for case in recorded:
            raw = net.run({name: case.pre[name][None] for name in taken})
            got = end.run(raw | {name: case.pre[name][None] for name in carried})
            found = compare_detections(got, case.answer, tolerance, thresholds)
            if not all(parity.ok for parity in found.values()):
                return False
    return True
