"""OpenCV 4, which still runs Caffe and Darknet: one row of a batch after another, as plainly as it can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .converter import NotConverted
from .frames import Array


class OpenCvNetwork:
    """A network held by OpenCV."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        """Read it.

        Args:
            read: gets `cv2`, and gives what its reader makes.

        Raises:
            NotConverted: OpenCV cannot read it, so nothing can be compared with.
        """
        import cv2

        self.version = str(cv2.__version__)
        self._error = cv2.error
        try:
            self._network = read(cv2)
            # Faster ways of computing, which round in another order.
            self._network.enableFusion(False)
            self._network.enableWinograd(False)
        except cv2.error as problem:
            raise NotConverted(
                f"OpenCV {self.version}, which is to prove the conversion, cannot read it: {_said(problem)}"
            ) from problem

    def run(self, inputs: Mapping[str, Array], layers: Sequence[str]) -> list[list[Array]]:
        """The outputs of layers for one row: for each layer, all its outputs."""
        try:
            for name, array in inputs.items():
                self._network.setInput(np.ascontiguousarray(array, np.float32), name)
            found = self._network.forwardAndRetrieve(list(layers))
        except self._error as problem:
            raise NotConverted(f"OpenCV {self.version} cannot compute it: {_said(problem)}") from problem
        return [[np.array(array) for array in each] for each in found]

    def named(self, *names: str) -> str:
        """The first of these names that a layer has.

        Raises:
            NotConverted: there is none.
        """
        there = set(self._network.getLayerNames())
        for name in names:
            if name in there:
                return name
        raise NotConverted(
            f"OpenCV {self.version}, which is to prove the conversion, has no layer {names[0]!r}"
        )

    def last(self) -> str:
        """The name of the layer that a network with one output ends in."""
        return str(self._network.getUnconnectedOutLayersNames()[-1])


def _said(problem: Exception) -> str:
    """The message without the place in OpenCV's source."""
    text = " ".join(str(getattr(problem, "err", "") or problem).split())
    return text[:200]
