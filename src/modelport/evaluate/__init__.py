"""How good is this bundle on data with known answers? Metrics, their intervals, and every item's outcome.

`modelport.evaluate` is this package and, in the public interface, the function that evaluates a bundle: the
import system puts the package there under that name, so the package can be called as the function.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .values import Evaluation


class _CallablePackage(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Evaluation:
        from .run import evaluate

        return evaluate(*arguments, **options)


sys.modules[__name__].__class__ = _CallablePackage
