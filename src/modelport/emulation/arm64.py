"""arm64, as in a Raspberry Pi, a phone or a Graviton: ONNX Runtime's library for it, in qemu.

The library comes from the wheel that pip would install there, of the version that is used here; the C and
C++ libraries from Debian's or Ubuntu's packages for cross compiling, which need no rights; the program that
runs the graphs is compiled once by whatever cross compiler there is. All of it is kept.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from ..errors import Unsupported
from ..isolation.installing import OFFLINE
from . import places, qemu

VARIABLE = "MODELPORT_AARCH64_SYSROOT"
"""A folder with `lib/ld-linux-aarch64.so.1` and the C and C++ libraries, in place of Debian's packages."""
PROGRAM = Path(__file__).parent / "child" / "graphs.c"
SYSTEM = Path("/usr/aarch64-linux-gnu")
PACKAGES = ("libc6-arm64-cross", "libstdc++6-arm64-cross", "libgcc-s1-arm64-cross")
LIBRARIES = (
    "ld-linux-aarch64.so.1",
    "libc.so.6",
    "libm.so.6",
    "libdl.so.2",
    "libpthread.so.0",
    "librt.so.1",
    "libstdc++.so.6",
    "libgcc_s.so.1",
)
PLATFORMS = ("manylinux_2_17", "manylinux2014", "manylinux_2_27", "manylinux_2_28", "manylinux_2_34")
COMPILER = "aarch64-linux-gnu-gcc"
ZIG = "ziglang==0.17.1"
LICENCE = "onnxruntime is under MIT, glibc under LGPL-2.1, libstdc++ under GPL-3.0 with its exception"
LIBRARY = "lib/libonnxruntime.so"
OLDER, NEWER = "cortex-a72", "neoverse-n1"
"""As qemu names them."""
FEATURES = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"


class Arm64(msgspec.Struct, frozen=True):
    """Runs a small program of its own with ONNX Runtime's arm64 library."""

    name: str = "aarch64"
    title: str = "an arm64 without dot products, as in a Raspberry Pi 4"
    machine: str = "aarch64"
    cpu: str = OLDER
    megabytes: int = 30
    licence: str = LICENCE

    @property
    def folder(self) -> Path:
        """Where the library, the program and what they need are, or would be."""
        return places.folder("aarch64", _version(), PROGRAM.read_text(), os.environ.get(VARIABLE, ""))

    def reason(self) -> str:
        """Why it cannot be used here; empty where it can."""
        if reason := qemu.refuses("aarch64"):
            return reason
        if self.ready() or _sysroot() is not None or (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            return ""
        return (
            "the C and C++ libraries for arm64 are fetched by apt-get, which is not here: name a folder "
            f"that has {LIBRARIES[0]} and the others in lib/ in {VARIABLE}"
        )

    def ready(self) -> bool:
        """Whether all was fetched and built."""
        return places.made(self.folder)

    def prepare(self, tell: Callable[[str], None]) -> str:
        """Fetch and build what is not there yet.

        Raises:
            Unsupported: one of the tools fails, as where there is no network.
        """
        with places.making(self.folder, tell) as folder:
            if folder is not None:
                tell(f"making what arm64 needs, once (about {self.megabytes} MB in {folder})")
                (folder / "lib").mkdir()
                _libraries(folder / "lib", tell)
                _onnxruntime(folder / LIBRARY, tell)
                _program(folder / "graphs", tell)
                for cpu, (part, features) in CPUS.items():
                    _root(folder / cpu, part, features)
        return f"onnxruntime {_version()}"

    def command(self, jobs: str, seconds: float) -> list[str]:
        """What runs the file of jobs from within its folder."""
        folder = self.folder
        emulated = [qemu.program("aarch64") or "qemu-aarch64", "-cpu", self.cpu, "-L", str(folder / self.cpu)]
        return [*emulated, str(folder / "graphs"), str(folder / LIBRARY), jobs, str(seconds)]


CPUS = {
    "cortex-a72": ("0xd08", FEATURES),
    "neoverse-n1": ("0xd0c", f"{FEATURES} atomics fphp asimdhp asimddp"),
}
"""qemu's name of a processor -> its part number and features, as the system would tell them."""


def _root(place: Path, part: str, features: str) -> None:
    """What a program there finds in place of this machine's own files.

    ONNX Runtime reads /proc/cpuinfo, and does not survive that of another architecture.
    """
    (place / "proc").mkdir(parents=True)
    (place / "lib").symlink_to(Path("..") / "lib")
    (place / "proc" / "cpuinfo").write_text(
        "processor\t: 0\nBogoMIPS\t: 100.00\n"
        f"Features\t: {features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        f"CPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 3\n\n"
    )


def _version() -> str:
    """ONNX Runtime's version here, which arm64 gets too."""
    try:
        return version("onnxruntime")
    except PackageNotFoundError:
        import onnxruntime

        return str(onnxruntime.__version__)


def _sysroot() -> Path | None:
    """A folder of the system's, or the user's, whose lib/ has the libraries."""
    given = os.environ.get(VARIABLE)
    places_of_it = [Path(given)] if given else [SYSTEM]
    whole = (each for each in places_of_it if all((each / "lib" / name).exists() for name in LIBRARIES))
    return next(whole, None)


def _libraries(lib: Path, tell: Callable[[str], None]) -> None:
    """The C and C++ libraries into `lib`."""
    found = _sysroot()
    if found is None and (given := os.environ.get(VARIABLE)):
        raise Unsupported(f"{VARIABLE} is {given}, whose lib/ has not all of {', '.join(LIBRARIES)}")
    if found is not None:
        _copied(found / "lib", lib)
        return
    tell(f"fetching {', '.join(PACKAGES)} with apt-get")
    with tempfile.TemporaryDirectory() as place:
        _run(
            ["apt-get", "download", "-q", *PACKAGES], place, "apt-get could not fetch them", "apt-get update"
        )
        for package in sorted(Path(place).glob("*.deb")):
            _run(["dpkg-deb", "-x", str(package), "root"], place, f"{package.name} cannot be unpacked", "")
        _copied(Path(place) / "root" / "usr" / "aarch64-linux-gnu" / "lib", lib)


def _copied(found: Path, lib: Path) -> None:
    for name in LIBRARIES:
        shutil.copyfile(found / name, lib / name)
    (lib / LIBRARIES[0]).chmod(0o755)


def _onnxruntime(library: Path, tell: Callable[[str], None]) -> None:
    """The library out of the wheel that pip would install on arm64."""
    wanted = f"onnxruntime=={_version()}"
    tell(f"fetching {wanted} for arm64 with pip")
    with tempfile.TemporaryDirectory() as place:
        tags = [word for tag in PLATFORMS for word in ("--platform", f"{tag}_aarch64")]
        _pip(["download", "--no-deps", "--only-binary=:all:", *tags, wanted], place, wanted)
        with zipfile.ZipFile(next(Path(place).glob("*.whl"))) as wheel:
            name = next(name for name in wheel.namelist() if "/capi/libonnxruntime.so." in name)
            with wheel.open(name) as source, library.open("wb") as target:
                shutil.copyfileobj(source, target)


def _program(made: Path, tell: Callable[[str], None]) -> None:
    """The program that runs graphs, compiled."""
    output = ["-O2", str(PROGRAM), "-o", str(made), "-ldl"]
    if compiler := shutil.which(COMPILER):
        _run([compiler, *output], str(made.parent), f"{COMPILER} fails", "")
        return
    with tempfile.TemporaryDirectory() as place:
        environment = dict(os.environ)
        if importlib.util.find_spec("ziglang") is None:
            tell(f"fetching the compiler {ZIG} with pip (100 MB, not kept; {COMPILER} would do as well)")
            _pip(["install", "--no-deps", "--target", place, ZIG], place, ZIG)
            environment["PYTHONPATH"] = place
        environment |= {"ZIG_GLOBAL_CACHE_DIR": f"{place}/cache", "ZIG_LOCAL_CACHE_DIR": f"{place}/cache"}
        tell("compiling the program that runs graphs")
        zig = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-gnu.2.28"]
        _run([*zig, *output], place, "the compiler fails", f"apt install gcc-{COMPILER[:-4]}", environment)


def _pip(words: Sequence[str], place: str, wanted: str) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "-q"]
    _run([*pip, *words], place, f"pip could not fetch {wanted}", "is this machine on line?")


def _run(
    command: Sequence[str], place: str, problem: str, hint: str, environment: dict[str, str] | None = None
) -> None:
    done = subprocess.run(
        command, cwd=place, capture_output=True, text=True, errors="replace", env=environment, check=False
    )
    if not done.returncode:
        return
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if any(OFFLINE.search(line) for line in lines):
        raise Unsupported(
            f"{problem}: no server is reached", hint="go on line and try again, or name a mirror"
        )
    said = [line for line in lines if line.upper().startswith(("E:", "ERROR"))] or lines
    raise Unsupported(f"{problem}: {' | '.join(said[-2:])[:300] or done.returncode}", hint=hint or None)
