"""The network as it is, run by another runtime or with other settings."""

from __future__ import annotations

from typing import ClassVar

import msgspec
import onnx

from ... import plugins
from ...errors import ModelportError
from ...runtimes.session import Runtime, Settings, check_settings
from ..calibration import Calibration
from ..candidate import Candidate, Made, NotApplicable


def check_here(runtime: str) -> str:
    """What a runtime says of itself.

    Raises:
        NotApplicable: it is not installed, with the command that installs it.
    """
    try:
        engine: Runtime = plugins.load("runtimes", runtime)()
        return engine.describe()
    except ModelportError as problem:
        hint = f"; {problem.hint}" if problem.hint else ""
        raise NotApplicable(f"{problem.message}{hint}") from problem


class OnRuntime(msgspec.Struct, frozen=True):
    """Another engine, or other settings of the same."""

    name: ClassVar[str] = "on"
    runtime: str
    settings: Settings = {}

    @property
    def id(self) -> str:
        said = [f"{key}-{str(value).lower()}" for key, value in sorted(self.settings.items())]
        return "-".join([self.name, self.runtime, *said])

    @property
    def title(self) -> str:
        said = [f"{key} {str(value).lower()}" for key, value in sorted(self.settings.items())]
        return f"on {self.runtime}" + (f" ({', '.join(said)})" if said else "")

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        about = check_here(self.runtime)
        engine: Runtime = plugins.load("runtimes", self.runtime)()
        try:
            check_settings(self.runtime, self.settings, engine.settings)
            engine.open(network.SerializeToString(), settings=self.settings).close()
        except ModelportError as problem:
            hint = f"; {problem.hint}" if problem.hint else ""
            raise NotApplicable(f"{problem.message}{hint}") from problem
        return Made(network, (f"{self.runtime} {about}",), self.runtime, self.settings, machine_bound=True)

    def of(self, candidate: Candidate) -> Candidate:
        """A candidate's own network on this runtime; its bundle is the same."""
        return msgspec.structs.replace(
            candidate.then(self.id, self.title),
            runtime=self.runtime,
            settings=dict(self.settings),
            machine_bound=True,
        )
