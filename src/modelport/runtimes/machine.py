"""What this machine's processor can do that decides how fast, and how, 8-bit networks run; in a word."""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import cache

from ..bundle.manifest import Manifest, Variant
from ..errors import NotFound, did_you_mean

ANY = ""
"""The class of what runs alike everywhere."""
PACKED = "packed"
"""In place of a variant's name: the network as it was packed."""

# From the most to the least; the first that a processor has names its class.
LEVELS = {
    "amx_int8": "amx",
    "avx512_vnni": "avx512vnni",
    "avx_vnni": "avxvnni",
    "avx512f": "avx512",
    "avx2": "avx2",
    "i8mm": "i8mm",
    "asimddp": "dotprod",
}


@cache
def cpu_flags() -> frozenset[str]:
    """The instruction sets that the system names; empty where it does not say."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            line = next((each for each in file if each.startswith(("flags", "Features"))), "")
    except OSError:
        return frozenset()
    return frozenset(line.partition(":")[2].split())


def machine_class() -> str:
    """The architecture and the widest integer arithmetic: `x86_64-avx512vnni`, `aarch64-dotprod`."""
    flags = cpu_flags()
    level = next((name for flag, name in LEVELS.items() if flag in flags), "")
    machine = platform.machine().lower().replace("amd64", "x86_64").replace("arm64", "aarch64")
    return f"{machine}-{level}" if level else machine


def choose_variant(
    manifest: Manifest, wanted: str | None, usable: Callable[[Variant], bool] = lambda variant: True
) -> Variant | None:
    """The form of the network to run; None for the one that was packed.

    Args:
        wanted: a variant's name; "" or "packed" for none; None for the first chosen for this class.
        usable: whether what was chosen can run; what is wanted by name is not asked.

    Raises:
        NotFound: there is none of this name.
    """
    if wanted is None:
        classes = (ANY, machine_class())
        fitting = (each for each in manifest.variants if each.chosen and each.machine in classes)
        return next(filter(usable, fitting), None)
    if wanted in ("", PACKED):
        return None
    names = [each.name for each in manifest.variants]
    if wanted not in names:
        raise NotFound(
            f"{manifest.name} {manifest.version} has no variant {wanted!r}",
            hint=did_you_mean(wanted, [PACKED, *names])
            if names
            else f"it has none but {PACKED}, the network as it is; modelport optimize makes them",
        )
    return manifest.variants[names.index(wanted)]
