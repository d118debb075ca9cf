"""Are these two the same model? Golden cases and their replay.

`modelport.verify` is this package and, in the public interface, the function that replays a bundle: the
import system puts the package there under that name, so the package can be called as the function.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .replay import Report


class _CallablePackage(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Report:
        from .replay import verify

        return verify(*arguments, **options)


sys.modules[__name__].__class__ = _CallablePackage
