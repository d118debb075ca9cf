"""The protocol's methods but for inference: one message in, one message out; errors are raised.

The methods carry the names that they have on the wire. Statuses and keys are `server`'s affair, inference
is `answers`' and `stream`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from google.protobuf.json_format import ParseDict

from ...bundle.rules import NETWORK_SUFFIX as NET
from ...engine.entry import Entry
from ...engine.repository import Repository
from ...errors import InputError, NotFound, Unavailable
from ...protos import open_inference as oi
from .. import describe
from ..infer import find
from ..oip import no_shared_memory

M = TypeVar("M")


class OpenInference:
    """inference.GRPCInferenceService over the live models.

    Args:
        state: the application's: `repository`; `stopping()`, whether it is on its way out; and
            `management`, where models may be loaded and unloaded.
    """

    def __init__(self, state: Any) -> None:
        self._state = state
        self.stopping = False

    @property
    def repository(self) -> Repository:
        """The live models."""
        repository: Repository = self._state.repository
        return repository

    def ready(self) -> bool:
        """Whether every model answers and the server is not on its way out."""
        return not self._leaving() and self.repository.ready()

    def answers(self, entry: Entry) -> bool:
        """Whether a version answers now."""
        return entry.model is not None and entry.model.healthy and not self._leaving()

    async def ServerLive(self, request: oi.ServerLiveRequest) -> oi.ServerLiveResponse:
        """Whether the process answers."""
        return oi.ServerLiveResponse(live=True)

    async def ServerReady(self, request: oi.ServerReadyRequest) -> oi.ServerReadyResponse:
        """Whether every model answers."""
        return oi.ServerReadyResponse(ready=self.ready())

    async def ModelReady(self, request: oi.ModelReadyRequest) -> oi.ModelReadyResponse:
        """Whether one version of a model answers; as with Triton, one that is not here is not ready."""
        try:
            entry, _ = self._find(request)
        except NotFound:
            return oi.ModelReadyResponse(ready=False)
        return oi.ModelReadyResponse(ready=self.answers(entry))

    async def ServerMetadata(self, request: oi.ServerMetadataRequest) -> oi.ServerMetadataResponse:
        """Name, version and extensions."""
        return oi.ServerMetadataResponse(**describe.server())

    async def ModelMetadata(self, request: oi.ModelMetadataRequest) -> oi.ModelMetadataResponse:
        """A model's versions, inputs and outputs."""
        entry, net = self._find(request)
        found = describe.model(self.repository, entry, net)
        found.pop("parameters", None)  # the message has no place for options; ModelConfig's has
        return _message(oi.ModelMetadataResponse, found)

    async def ModelConfig(self, request: oi.ModelConfigRequest) -> oi.ModelConfigResponse:
        """A model's configuration."""
        entry, net = self._find(request)
        config = describe.config(entry, net, max_rows=self.repository.settings.max_rows)
        return _message(oi.ModelConfigResponse, {"config": config})

    async def ModelStatistics(self, request: oi.ModelStatisticsRequest) -> oi.ModelStatisticsResponse:
        """What was counted: of one version, of every version of a model, or of everything."""
        found = await describe.statistics(self._state, request.name or None, request.version or None)
        return _message(oi.ModelStatisticsResponse, {"model_stats": found})

    async def RepositoryIndex(self, request: oi.RepositoryIndexRequest) -> oi.RepositoryIndexResponse:
        """Every version of every model and its state."""
        _one_repository(request.repository_name)
        models = describe.index(self.repository, only_ready=request.ready)
        if not request.ready:
            models += describe.broken(self.repository)
        return _message(oi.RepositoryIndexResponse, {"models": models})

    async def RepositoryModelLoad(
        self, request: oi.RepositoryModelLoadRequest
    ) -> oi.RepositoryModelLoadResponse:
        """Load a model, or load it again."""
        _one_repository(request.repository_name)
        self._managed()
        version = _version(request.parameters, "load")
        await self.repository.load(request.model_name.removesuffix(NET), version)
        return oi.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: oi.RepositoryModelUnloadRequest
    ) -> oi.RepositoryModelUnloadResponse:
        """Unload every version of a model, or one; the requests it has taken are finished."""
        _one_repository(request.repository_name)
        self._managed()
        version = _version(request.parameters, "unload", also="unload_dependents")
        await self.repository.unload(request.model_name.removesuffix(NET), version)
        return oi.RepositoryModelUnloadResponse()

    async def TraceSetting(self, request: oi.TraceSettingRequest) -> oi.TraceSettingResponse:
        """Nothing is traced by these settings: `trace_level` is OFF and stays so."""
        for name, setting in request.settings.items():
            describe.check_trace(name, list(setting.value))
        reply = oi.TraceSettingResponse()
        reply.settings["trace_level"].value.append("OFF")
        return reply

    async def LogSettings(self, request: oi.LogSettingsRequest) -> oi.LogSettingsResponse:
        """What is logged; the settings cannot be changed from afar."""
        describe.check_log(request.settings)
        reply = oi.LogSettingsResponse()
        for name, on in describe.log_settings().items():
            reply.settings[name].bool_param = on
        return reply

    async def no_shared_memory(self, request: Any) -> Any:
        """All methods of shared memory: a client may not choose what this process maps."""
        raise no_shared_memory("send tensors in raw_input_contents")

    SystemSharedMemoryStatus = SystemSharedMemoryRegister = SystemSharedMemoryUnregister = no_shared_memory
    CudaSharedMemoryStatus = CudaSharedMemoryRegister = CudaSharedMemoryUnregister = no_shared_memory

    def _leaving(self) -> bool:
        return bool(self.stopping or self._state.stopping())

    def _find(self, request: Any) -> tuple[Entry, bool]:
        return find(self.repository, request.name, request.version or None)

    def _managed(self) -> None:
        if not getattr(self._state, "management", False):
            raise Unavailable(
                "explicit model load / unload is not allowed: the management API is off",
                hint="start the server with the management API on",
            )


def _message(kind: type[M], found: dict[str, Any]) -> M:
    made = kind()
    ParseDict(found, made)
    return made


def _version(parameters: Mapping[str, oi.ModelRepositoryParameter], act: str, also: str = "") -> str | None:
    """The parameter `version`, the only one that means something here.

    Raises:
        InputError: another one. Triton takes configurations and files; here that would be a way in.
    """
    unknown = sorted(set(parameters) - {"version", also})
    if unknown:
        raise InputError(
            f"a model is {act}ed as its bundle is; parameters but `version` are not taken "
            f"({', '.join(unknown)[:100]})",
            at="$.parameters",
            hint="change the bundle, and give it a new version",
        )
    return parameters["version"].string_param or None if "version" in parameters else None


def _one_repository(name: str) -> None:
    if name:
        raise InputError(
            f"there is one repository and it has no name, got {name[:100]!r}", at="$.repository_name"
        )
