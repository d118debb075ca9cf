# Written by scripts/protos.py from open_inference.proto; do not edit.
"""The types of open_inference.py."""

from abc import ABCMeta
from collections.abc import Callable, Iterable, Mapping, MutableSequence
from typing import Any, Literal, NamedTuple, Self, TypeVar

_K = TypeVar("_K")
_M = TypeVar("_M", bound="Message")

class Message:
    """What every message can do."""

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes: ...
    def ParseFromString(self, data: bytes) -> int: ...
    @classmethod
    def FromString(cls, data: bytes) -> Self: ...
    def ByteSize(self) -> int: ...
    def ListFields(self) -> list[tuple[Any, Any]]: ...
    def CopyFrom(self, other: Self) -> None: ...
    def MergeFrom(self, other: Self) -> None: ...
    def Clear(self) -> None: ...
    def ClearField(self, name: str) -> None: ...

class Messages(MutableSequence[_M], metaclass=ABCMeta):
    """A repeated field of messages."""

    def add(self, **fields: Any) -> _M: ...

class MessageMap(Mapping[_K, _M], metaclass=ABCMeta):
    """A map whose values are messages: reading a key that is not there makes it."""

    def get_or_create(self, key: _K) -> _M: ...

class Method(NamedTuple):
    name: str
    path: str
    request: type[Message]
    response: type[Message]
    streams: bool

SERVICE: str
METHODS: dict[str, Method]
POOL: Any

class DataType:
    TYPE_INVALID: int
    TYPE_BOOL: int
    TYPE_UINT8: int
    TYPE_UINT16: int
    TYPE_UINT32: int
    TYPE_UINT64: int
    TYPE_INT8: int
    TYPE_INT16: int
    TYPE_INT32: int
    TYPE_INT64: int
    TYPE_FP16: int
    TYPE_FP32: int
    TYPE_FP64: int
    TYPE_STRING: int
    TYPE_BF16: int
    @staticmethod
    def Name(number: int) -> str: ...
    @staticmethod
    def Value(name: str) -> int: ...

class ServerLiveRequest(Message):
    pass

class ServerLiveResponse(Message):
    live: bool
    def __init__(self, *, live: bool | None = ...) -> None: ...

class ServerReadyRequest(Message):
    pass

class ServerReadyResponse(Message):
    ready: bool
    def __init__(self, *, ready: bool | None = ...) -> None: ...

class ModelReadyRequest(Message):
    name: str
    version: str
    def __init__(self, *, name: str | None = ..., version: str | None = ...) -> None: ...

class ModelReadyResponse(Message):
    ready: bool
    def __init__(self, *, ready: bool | None = ...) -> None: ...

class ServerMetadataRequest(Message):
    pass

class ServerMetadataResponse(Message):
    name: str
    version: str
    extensions: MutableSequence[str]
    def __init__(
        self, *, name: str | None = ..., version: str | None = ..., extensions: Iterable[str] | None = ...
    ) -> None: ...

class ModelMetadataRequest(Message):
    name: str
    version: str
    def __init__(self, *, name: str | None = ..., version: str | None = ...) -> None: ...

class ModelMetadataResponse(Message):
    class TensorMetadata(Message):
        name: str
        datatype: str
        shape: MutableSequence[int]
        def __init__(
            self, *, name: str | None = ..., datatype: str | None = ..., shape: Iterable[int] | None = ...
        ) -> None: ...

    name: str
    versions: MutableSequence[str]
    platform: str
    inputs: Messages[ModelMetadataResponse.TensorMetadata]
    outputs: Messages[ModelMetadataResponse.TensorMetadata]
    def __init__(
        self,
        *,
        name: str | None = ...,
        versions: Iterable[str] | None = ...,
        platform: str | None = ...,
        inputs: Iterable[ModelMetadataResponse.TensorMetadata] | None = ...,
        outputs: Iterable[ModelMetadataResponse.TensorMetadata] | None = ...,
    ) -> None: ...

class InferParameter(Message):
    bool_param: bool
    int64_param: int
    string_param: str
    double_param: float
    uint64_param: int
    def __init__(
        self,
        *,
        bool_param: bool | None = ...,
        int64_param: int | None = ...,
        string_param: str | None = ...,
        double_param: float | None = ...,
        uint64_param: int | None = ...,
    ) -> None: ...
    def HasField(
        self, name: Literal["bool_param", "int64_param", "string_param", "double_param", "uint64_param"]
    ) -> bool: ...
    def WhichOneof(self, group: Literal["parameter_choice"]) -> str | None: ...

class InferTensorContents(Message):
    bool_contents: MutableSequence[bool]
    int_contents: MutableSequence[int]
    int64_contents: MutableSequence[int]
    uint_contents: MutableSequence[int]
    uint64_contents: MutableSequence[int]
    fp32_contents: MutableSequence[float]
    fp64_contents: MutableSequence[float]
    bytes_contents: MutableSequence[bytes]
    def __init__(
        self,
        *,
        bool_contents: Iterable[bool] | None = ...,
        int_contents: Iterable[int] | None = ...,
        int64_contents: Iterable[int] | None = ...,
        uint_contents: Iterable[int] | None = ...,
        uint64_contents: Iterable[int] | None = ...,
        fp32_contents: Iterable[float] | None = ...,
        fp64_contents: Iterable[float] | None = ...,
        bytes_contents: Iterable[bytes] | None = ...,
    ) -> None: ...

class ModelInferRequest(Message):
    class InferInputTensor(Message):
        name: str
        datatype: str
        shape: MutableSequence[int]
        parameters: MessageMap[str, InferParameter]
        contents: InferTensorContents
        def __init__(
            self,
            *,
            name: str | None = ...,
            datatype: str | None = ...,
            shape: Iterable[int] | None = ...,
            parameters: Mapping[str, InferParameter] | None = ...,
            contents: InferTensorContents | None = ...,
        ) -> None: ...
        def HasField(self, name: Literal["contents"]) -> bool: ...

    class InferRequestedOutputTensor(Message):
        name: str
        parameters: MessageMap[str, InferParameter]
        def __init__(
            self, *, name: str | None = ..., parameters: Mapping[str, InferParameter] | None = ...
        ) -> None: ...

    model_name: str
    model_version: str
    id: str
    parameters: MessageMap[str, InferParameter]
    inputs: Messages[ModelInferRequest.InferInputTensor]
    outputs: Messages[ModelInferRequest.InferRequestedOutputTensor]
    raw_input_contents: MutableSequence[bytes]
    def __init__(
        self,
        *,
        model_name: str | None = ...,
        model_version: str | None = ...,
        id: str | None = ...,
        parameters: Mapping[str, InferParameter] | None = ...,
        inputs: Iterable[ModelInferRequest.InferInputTensor] | None = ...,
        outputs: Iterable[ModelInferRequest.InferRequestedOutputTensor] | None = ...,
        raw_input_contents: Iterable[bytes] | None = ...,
    ) -> None: ...

class ModelInferResponse(Message):
    class InferOutputTensor(Message):
        name: str
        datatype: str
        shape: MutableSequence[int]
        parameters: MessageMap[str, InferParameter]
        contents: InferTensorContents
        def __init__(
            self,
            *,
            name: str | None = ...,
            datatype: str | None = ...,
            shape: Iterable[int] | None = ...,
            parameters: Mapping[str, InferParameter] | None = ...,
            contents: InferTensorContents | None = ...,
        ) -> None: ...
        def HasField(self, name: Literal["contents"]) -> bool: ...

    model_name: str
    model_version: str
    id: str
    parameters: MessageMap[str, InferParameter]
    outputs: Messages[ModelInferResponse.InferOutputTensor]
    raw_output_contents: MutableSequence[bytes]
    def __init__(
        self,
        *,
        model_name: str | None = ...,
        model_version: str | None = ...,
        id: str | None = ...,
        parameters: Mapping[str, InferParameter] | None = ...,
        outputs: Iterable[ModelInferResponse.InferOutputTensor] | None = ...,
        raw_output_contents: Iterable[bytes] | None = ...,
    ) -> None: ...

class ModelStreamInferResponse(Message):
    error_message: str
    infer_response: ModelInferResponse
    def __init__(
        self, *, error_message: str | None = ..., infer_response: ModelInferResponse | None = ...
    ) -> None: ...
    def HasField(self, name: Literal["infer_response"]) -> bool: ...

class ModelConfigRequest(Message):
    name: str
    version: str
    def __init__(self, *, name: str | None = ..., version: str | None = ...) -> None: ...

class ModelConfigResponse(Message):
    config: ModelConfig
    def __init__(self, *, config: ModelConfig | None = ...) -> None: ...
    def HasField(self, name: Literal["config"]) -> bool: ...

class ModelInput(Message):
    FORMAT_NONE: int
    FORMAT_NHWC: int
    FORMAT_NCHW: int
    name: str
    data_type: int
    format: int
    dims: MutableSequence[int]
    optional: bool
    def __init__(
        self,
        *,
        name: str | None = ...,
        data_type: int | None = ...,
        format: int | None = ...,
        dims: Iterable[int] | None = ...,
        optional: bool | None = ...,
    ) -> None: ...

class ModelOutput(Message):
    name: str
    data_type: int
    dims: MutableSequence[int]
    label_filename: str
    def __init__(
        self,
        *,
        name: str | None = ...,
        data_type: int | None = ...,
        dims: Iterable[int] | None = ...,
        label_filename: str | None = ...,
    ) -> None: ...

class ModelInstanceGroup(Message):
    KIND_AUTO: int
    KIND_GPU: int
    KIND_CPU: int
    KIND_MODEL: int
    name: str
    count: int
    gpus: MutableSequence[int]
    kind: int
    def __init__(
        self,
        *,
        name: str | None = ...,
        count: int | None = ...,
        gpus: Iterable[int] | None = ...,
        kind: int | None = ...,
    ) -> None: ...

class ModelVersionPolicy(Message):
    class Latest(Message):
        num_versions: int
        def __init__(self, *, num_versions: int | None = ...) -> None: ...

    class All(Message):
        pass

    class Specific(Message):
        versions: MutableSequence[int]
        def __init__(self, *, versions: Iterable[int] | None = ...) -> None: ...

    latest: ModelVersionPolicy.Latest
    all: ModelVersionPolicy.All
    specific: ModelVersionPolicy.Specific
    def __init__(
        self,
        *,
        latest: ModelVersionPolicy.Latest | None = ...,
        all: ModelVersionPolicy.All | None = ...,
        specific: ModelVersionPolicy.Specific | None = ...,
    ) -> None: ...
    def HasField(self, name: Literal["latest", "all", "specific"]) -> bool: ...
    def WhichOneof(self, group: Literal["policy_choice"]) -> str | None: ...

class ModelDynamicBatching(Message):
    preferred_batch_size: MutableSequence[int]
    max_queue_delay_microseconds: int
    preserve_ordering: bool
    def __init__(
        self,
        *,
        preferred_batch_size: Iterable[int] | None = ...,
        max_queue_delay_microseconds: int | None = ...,
        preserve_ordering: bool | None = ...,
    ) -> None: ...

class ModelParameter(Message):
    string_value: str
    def __init__(self, *, string_value: str | None = ...) -> None: ...

class ModelTransactionPolicy(Message):
    decoupled: bool
    def __init__(self, *, decoupled: bool | None = ...) -> None: ...

class ModelConfig(Message):
    name: str
    platform: str
    backend: str
    runtime: str
    version_policy: ModelVersionPolicy
    max_batch_size: int
    input: Messages[ModelInput]
    output: Messages[ModelOutput]
    dynamic_batching: ModelDynamicBatching
    instance_group: Messages[ModelInstanceGroup]
    default_model_filename: str
    parameters: MessageMap[str, ModelParameter]
    model_transaction_policy: ModelTransactionPolicy
    def __init__(
        self,
        *,
        name: str | None = ...,
        platform: str | None = ...,
        backend: str | None = ...,
        runtime: str | None = ...,
        version_policy: ModelVersionPolicy | None = ...,
        max_batch_size: int | None = ...,
        input: Iterable[ModelInput] | None = ...,
        output: Iterable[ModelOutput] | None = ...,
        dynamic_batching: ModelDynamicBatching | None = ...,
        instance_group: Iterable[ModelInstanceGroup] | None = ...,
        default_model_filename: str | None = ...,
        parameters: Mapping[str, ModelParameter] | None = ...,
        model_transaction_policy: ModelTransactionPolicy | None = ...,
    ) -> None: ...
    def HasField(
        self, name: Literal["version_policy", "dynamic_batching", "model_transaction_policy"]
    ) -> bool: ...
    def WhichOneof(self, group: Literal["scheduling_choice"]) -> str | None: ...

class ModelStatisticsRequest(Message):
    name: str
    version: str
    def __init__(self, *, name: str | None = ..., version: str | None = ...) -> None: ...

class StatisticDuration(Message):
    count: int
    ns: int
    def __init__(self, *, count: int | None = ..., ns: int | None = ...) -> None: ...

class InferStatistics(Message):
    success: StatisticDuration
    fail: StatisticDuration
    queue: StatisticDuration
    compute_input: StatisticDuration
    compute_infer: StatisticDuration
    compute_output: StatisticDuration
    cache_hit: StatisticDuration
    cache_miss: StatisticDuration
    def __init__(
        self,
        *,
        success: StatisticDuration | None = ...,
        fail: StatisticDuration | None = ...,
        queue: StatisticDuration | None = ...,
        compute_input: StatisticDuration | None = ...,
        compute_infer: StatisticDuration | None = ...,
        compute_output: StatisticDuration | None = ...,
        cache_hit: StatisticDuration | None = ...,
        cache_miss: StatisticDuration | None = ...,
    ) -> None: ...
    def HasField(
        self,
        name: Literal[
            "success",
            "fail",
            "queue",
            "compute_input",
            "compute_infer",
            "compute_output",
            "cache_hit",
            "cache_miss",
        ],
    ) -> bool: ...

class InferResponseStatistics(Message):
    compute_infer: StatisticDuration
    compute_output: StatisticDuration
    success: StatisticDuration
    fail: StatisticDuration
    empty_response: StatisticDuration
    cancel: StatisticDuration
    def __init__(
        self,
        *,
        compute_infer: StatisticDuration | None = ...,
        compute_output: StatisticDuration | None = ...,
        success: StatisticDuration | None = ...,
        fail: StatisticDuration | None = ...,
        empty_response: StatisticDuration | None = ...,
        cancel: StatisticDuration | None = ...,
    ) -> None: ...
    def HasField(
        self, name: Literal["compute_infer", "compute_output", "success", "fail", "empty_response", "cancel"]
    ) -> bool: ...

class InferBatchStatistics(Message):
    batch_size: int
    compute_input: StatisticDuration
    compute_infer: StatisticDuration
    compute_output: StatisticDuration
    def __init__(
        self,
        *,
        batch_size: int | None = ...,
        compute_input: StatisticDuration | None = ...,
        compute_infer: StatisticDuration | None = ...,
        compute_output: StatisticDuration | None = ...,
    ) -> None: ...
    def HasField(self, name: Literal["compute_input", "compute_infer", "compute_output"]) -> bool: ...

class MemoryUsage(Message):
    type: str
    id: int
    byte_size: int
    def __init__(
        self, *, type: str | None = ..., id: int | None = ..., byte_size: int | None = ...
    ) -> None: ...

class ModelStatistics(Message):
    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: InferStatistics
    batch_stats: Messages[InferBatchStatistics]
    memory_usage: Messages[MemoryUsage]
    response_stats: MessageMap[str, InferResponseStatistics]
    def __init__(
        self,
        *,
        name: str | None = ...,
        version: str | None = ...,
        last_inference: int | None = ...,
        inference_count: int | None = ...,
        execution_count: int | None = ...,
        inference_stats: InferStatistics | None = ...,
        batch_stats: Iterable[InferBatchStatistics] | None = ...,
        memory_usage: Iterable[MemoryUsage] | None = ...,
        response_stats: Mapping[str, InferResponseStatistics] | None = ...,
    ) -> None: ...
    def HasField(self, name: Literal["inference_stats"]) -> bool: ...

class ModelStatisticsResponse(Message):
    model_stats: Messages[ModelStatistics]
    def __init__(self, *, model_stats: Iterable[ModelStatistics] | None = ...) -> None: ...

class ModelRepositoryParameter(Message):
    bool_param: bool
    int64_param: int
    string_param: str
    bytes_param: bytes
    def __init__(
        self,
        *,
        bool_param: bool | None = ...,
        int64_param: int | None = ...,
        string_param: str | None = ...,
        bytes_param: bytes | None = ...,
    ) -> None: ...
    def HasField(self, name: Literal["bool_param", "int64_param", "string_param", "bytes_param"]) -> bool: ...
    def WhichOneof(self, group: Literal["parameter_choice"]) -> str | None: ...

class RepositoryIndexRequest(Message):
    repository_name: str
    ready: bool
    def __init__(self, *, repository_name: str | None = ..., ready: bool | None = ...) -> None: ...

class RepositoryIndexResponse(Message):
    class ModelIndex(Message):
        name: str
        version: str
        state: str
        reason: str
        def __init__(
            self,
            *,
            name: str | None = ...,
            version: str | None = ...,
            state: str | None = ...,
            reason: str | None = ...,
        ) -> None: ...

    models: Messages[RepositoryIndexResponse.ModelIndex]
    def __init__(self, *, models: Iterable[RepositoryIndexResponse.ModelIndex] | None = ...) -> None: ...

class RepositoryModelLoadRequest(Message):
    repository_name: str
    model_name: str
    parameters: MessageMap[str, ModelRepositoryParameter]
    def __init__(
        self,
        *,
        repository_name: str | None = ...,
        model_name: str | None = ...,
        parameters: Mapping[str, ModelRepositoryParameter] | None = ...,
    ) -> None: ...

class RepositoryModelLoadResponse(Message):
    pass

class RepositoryModelUnloadRequest(Message):
    repository_name: str
    model_name: str
    parameters: MessageMap[str, ModelRepositoryParameter]
    def __init__(
        self,
        *,
        repository_name: str | None = ...,
        model_name: str | None = ...,
        parameters: Mapping[str, ModelRepositoryParameter] | None = ...,
    ) -> None: ...

class RepositoryModelUnloadResponse(Message):
    pass

class SystemSharedMemoryStatusRequest(Message):
    name: str
    def __init__(self, *, name: str | None = ...) -> None: ...

class SystemSharedMemoryStatusResponse(Message):
    class RegionStatus(Message):
        name: str
        key: str
        offset: int
        byte_size: int
        def __init__(
            self,
            *,
            name: str | None = ...,
            key: str | None = ...,
            offset: int | None = ...,
            byte_size: int | None = ...,
        ) -> None: ...

    regions: MessageMap[str, SystemSharedMemoryStatusResponse.RegionStatus]
    def __init__(
        self, *, regions: Mapping[str, SystemSharedMemoryStatusResponse.RegionStatus] | None = ...
    ) -> None: ...

class SystemSharedMemoryRegisterRequest(Message):
    name: str
    key: str
    offset: int
    byte_size: int
    def __init__(
        self,
        *,
        name: str | None = ...,
        key: str | None = ...,
        offset: int | None = ...,
        byte_size: int | None = ...,
    ) -> None: ...

class SystemSharedMemoryRegisterResponse(Message):
    pass

class SystemSharedMemoryUnregisterRequest(Message):
    name: str
    def __init__(self, *, name: str | None = ...) -> None: ...

class SystemSharedMemoryUnregisterResponse(Message):
    pass

class CudaSharedMemoryStatusRequest(Message):
    name: str
    def __init__(self, *, name: str | None = ...) -> None: ...

class CudaSharedMemoryStatusResponse(Message):
    class RegionStatus(Message):
        name: str
        device_id: int
        byte_size: int
        def __init__(
            self, *, name: str | None = ..., device_id: int | None = ..., byte_size: int | None = ...
        ) -> None: ...

    regions: MessageMap[str, CudaSharedMemoryStatusResponse.RegionStatus]
    def __init__(
        self, *, regions: Mapping[str, CudaSharedMemoryStatusResponse.RegionStatus] | None = ...
    ) -> None: ...

class CudaSharedMemoryRegisterRequest(Message):
    name: str
    raw_handle: bytes
    device_id: int
    byte_size: int
    def __init__(
        self,
        *,
        name: str | None = ...,
        raw_handle: bytes | None = ...,
        device_id: int | None = ...,
        byte_size: int | None = ...,
    ) -> None: ...

class CudaSharedMemoryRegisterResponse(Message):
    pass

class CudaSharedMemoryUnregisterRequest(Message):
    name: str
    def __init__(self, *, name: str | None = ...) -> None: ...

class CudaSharedMemoryUnregisterResponse(Message):
    pass

class TraceSettingRequest(Message):
    class SettingValue(Message):
        value: MutableSequence[str]
        def __init__(self, *, value: Iterable[str] | None = ...) -> None: ...

    settings: MessageMap[str, TraceSettingRequest.SettingValue]
    model_name: str
    def __init__(
        self,
        *,
        settings: Mapping[str, TraceSettingRequest.SettingValue] | None = ...,
        model_name: str | None = ...,
    ) -> None: ...

class TraceSettingResponse(Message):
    class SettingValue(Message):
        value: MutableSequence[str]
        def __init__(self, *, value: Iterable[str] | None = ...) -> None: ...

    settings: MessageMap[str, TraceSettingResponse.SettingValue]
    def __init__(self, *, settings: Mapping[str, TraceSettingResponse.SettingValue] | None = ...) -> None: ...

class LogSettingsRequest(Message):
    class SettingValue(Message):
        bool_param: bool
        uint32_param: int
        string_param: str
        def __init__(
            self,
            *,
            bool_param: bool | None = ...,
            uint32_param: int | None = ...,
            string_param: str | None = ...,
        ) -> None: ...
        def HasField(self, name: Literal["bool_param", "uint32_param", "string_param"]) -> bool: ...
        def WhichOneof(self, group: Literal["parameter_choice"]) -> str | None: ...

    settings: MessageMap[str, LogSettingsRequest.SettingValue]
    def __init__(self, *, settings: Mapping[str, LogSettingsRequest.SettingValue] | None = ...) -> None: ...

class LogSettingsResponse(Message):
    class SettingValue(Message):
        bool_param: bool
        uint32_param: int
        string_param: str
        def __init__(
            self,
            *,
            bool_param: bool | None = ...,
            uint32_param: int | None = ...,
            string_param: str | None = ...,
        ) -> None: ...
        def HasField(self, name: Literal["bool_param", "uint32_param", "string_param"]) -> bool: ...
        def WhichOneof(self, group: Literal["parameter_choice"]) -> str | None: ...

    settings: MessageMap[str, LogSettingsResponse.SettingValue]
    def __init__(self, *, settings: Mapping[str, LogSettingsResponse.SettingValue] | None = ...) -> None: ...

class Stub:
    def __init__(self, channel: Any) -> None: ...
    ServerLive: Callable[..., Any]
    ServerReady: Callable[..., Any]
    ModelReady: Callable[..., Any]
    ServerMetadata: Callable[..., Any]
    ModelMetadata: Callable[..., Any]
    ModelInfer: Callable[..., Any]
    ModelStreamInfer: Callable[..., Any]
    ModelConfig: Callable[..., Any]
    ModelStatistics: Callable[..., Any]
    RepositoryIndex: Callable[..., Any]
    RepositoryModelLoad: Callable[..., Any]
    RepositoryModelUnload: Callable[..., Any]
    SystemSharedMemoryStatus: Callable[..., Any]
    SystemSharedMemoryRegister: Callable[..., Any]
    SystemSharedMemoryUnregister: Callable[..., Any]
    CudaSharedMemoryStatus: Callable[..., Any]
    CudaSharedMemoryRegister: Callable[..., Any]
    CudaSharedMemoryUnregister: Callable[..., Any]
    TraceSetting: Callable[..., Any]
    LogSettings: Callable[..., Any]
