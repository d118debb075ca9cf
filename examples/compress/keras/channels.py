"""Structured pruning: whole filters go, and a smaller network is built of what is left.

For networks that are a chain of layers. Where branches meet, as in residual networks, filters hang together
that lie far apart; the PyTorch recipe has a library that traces them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

Places = npt.NDArray[np.int64]
Importances = Callable[[keras.Model], Mapping[str, npt.NDArray[np.float64]]]

LEAST = 0.1
"""Every layer keeps at least this share of its filters."""
AS_THEY_ARE = (
    *(layers.ReLU, layers.Activation, layers.Dropout, layers.MaxPooling2D, layers.AveragePooling2D),
    *(layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D, layers.LeakyReLU),
)


def fewer_filters(
    model: keras.Model, importances: Importances, times: float, *, rounds: int = 1, multiple: int = 1
) -> Iterator[keras.Model]:
    """Networks with fewer and fewer multiply-adds, the last with `times` fewer than `model`, which stays as
    it is.

    The filters that matter least go first, over all layers together, each layer's importances divided by
    their mean.

    Args:
        model: a chain of layers; the last one keeps its outputs.
        importances: of a model's filters: for the name of each convolution float64 [filters].
        times: at least 1.
        rounds: each makes the network smaller by the same factor; the caller trains what it is given, and the
            next round goes on from there.
        multiple: this many filters of a layer go at a time.
    """
    before = multiply_adds(model)
    for turn in range(1, rounds + 1):
        wanted = before / times ** (turn / rounds)
        model = with_filters(model, _chosen(model, importances(model), wanted, multiple))
        yield model


def _chosen(
    model: keras.Model, importances: Mapping[str, npt.NDArray[np.float64]], wanted: float, multiple: int
) -> dict[str, Places]:
    """The places of the filters to keep, by layer, so that at most `wanted` multiply-adds are left."""
    groups = []
    order = {name: np.argsort(found, kind="stable") for name, found in importances.items()}
    for name, found in importances.items():
        most = int(len(found) * (1 - LEAST)) // multiple
        for turn in range(most):
            group = order[name][turn * multiple : (turn + 1) * multiple]
            groups.append((float(found[group].mean() / max(found.mean(), 1e-30)), name))
    gone = dict.fromkeys(importances, 0)
    for _, name in sorted(groups):
        widths = {each: len(order[each]) - count for each, count in gone.items()}
        if multiply_adds(model, widths) <= wanted:
            break
        gone[name] += multiple
    widths = {each: len(order[each]) - count for each, count in gone.items()}
    if multiply_adds(model, widths) > wanted:
        raise SystemExit(f"error: every layer keeps {LEAST:.0%} of its filters: so few are out of reach")
    return {name: np.sort(order[name][count:]) for name, count in gone.items()}


def with_filters(model: keras.Model, kept: Mapping[str, Places]) -> keras.Model:
    """A new network with the filters `kept` of each convolution that is named, their weights copied.

    Raises:
        ValueError: the network is no chain, or a layer is of a kind that is not known here.
    """
    inputs = flow = keras.Input(model.input_shape[1:], name=model.inputs[0].name)
    alive = np.arange(model.input_shape[-1])
    for layer in chain(model):
        settings, weights = layer.get_config(), layer.get_weights()
        if isinstance(layer, layers.Conv2D) and layer.groups == 1:
            places = kept.get(layer.name, np.arange(layer.filters))
            settings["filters"] = len(places)
            weights = [weights[0][:, :, alive][..., places], *(each[places] for each in weights[1:])]
            alive = places
        elif isinstance(layer, layers.BatchNormalization):
            weights = [each[alive] for each in weights]
        elif isinstance(layer, layers.Flatten):
            shape = layer.input.shape[1:]
            alive = np.arange(np.prod(shape)).reshape(shape)[..., alive].ravel()
        elif isinstance(layer, layers.Dense):
            weights = [weights[0][alive], *weights[1:]]
            alive = np.arange(layer.units)
        elif not isinstance(layer, AS_THEY_ARE):
            raise ValueError(
                f"expected a layer that is known here, got {type(layer).__name__} {layer.name!r}"
            )
        made = type(layer).from_config(settings)
        flow = made(flow)
        made.set_weights(weights)
    return keras.Model(inputs, flow, name=model.name)


def chain(model: keras.Model) -> list[keras.Layer]:
    """The layers behind the input, each of which takes what the one before it gives.

    Raises:
        ValueError: they are no chain.
    """
    found = [layer for layer in model.layers if not isinstance(layer, layers.InputLayer)]
    before = model.inputs[0]
    for layer in found:
        if len(layer._inbound_nodes) != 1 or layer.input is not before:
            raise ValueError(
                f"expected a chain of layers, but {layer.name!r} does not follow the one before it"
            )
        before = layer.output
    return found


def multiply_adds(model: keras.Model, widths: Mapping[str, int] | None = None) -> int:
    """Of convolutions and matrices, for one item; with other numbers of filters where `widths` has them."""
    total, inputs = 0, model.input_shape[-1]
    for layer in chain(model):
        if isinstance(layer, layers.Conv2D):
            filters = (widths or {}).get(layer.name, layer.filters)
            total += int(np.prod(layer.output.shape[1:3]) * np.prod(layer.kernel_size)) * inputs * filters
            inputs = filters
        elif isinstance(layer, layers.Flatten):
            inputs *= int(np.prod(layer.input.shape[1:3]))
        elif isinstance(layer, layers.Dense):
            total += inputs * layer.units
            inputs = layer.units
    return total


def sizes_of_weights(model: keras.Model) -> dict[str, npt.NDArray[np.float64]]:
    """Importances by magnitude: the length of each filter's weights."""
    convolutions = [layer for layer in chain(model) if isinstance(layer, layers.Conv2D)]
    return {
        layer.name: np.sqrt(np.square(layer.get_weights()[0].astype(np.float64)).sum((0, 1, 2)))
        for layer in convolutions
    }
