"""The protocol over gRPC, and its errors there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..rpc import CONTENTS, Refusal, Rpc, offered, read_outputs, refused_call, worked
from ..subject import Subject
from ..tensors import DATATYPES, Array, edges, same, texts
from ..verdict import NotOffered, Wrong, check, expect
from .basics import UNKNOWN

PART, ERRORS, MORE = "gRPC", "gRPC errors", "gRPC extensions"


def rpc_of(subject: Subject) -> Rpc:
    """The server's gRPC side."""
    if subject.rpc is None:
        raise NotOffered("no gRPC address was given")
    return subject.rpc


def _infer(subject: Subject, **more: Any) -> dict[str, Array]:
    rpc = rpc_of(subject)
    message = rpc.infer_request(subject.model, subject.model.given, **more)
    return read_outputs(worked(rpc.call, "ModelInfer", message))


def _agrees(told: Mapping[str, Array], wanted: Mapping[str, Array]) -> None:
    expect(set(told) == set(wanted), f"outputs are {sorted(told)}, over REST {sorted(wanted)}")
    for name, array in wanted.items():
        expect(same(told[name], array), f"output {name!r} differs from the answer over REST")


@check(PART, "ServerLive, ServerReady and ModelReady say true")
def health(subject: Subject) -> None:
    rpc = rpc_of(subject)
    expect(worked(rpc.call, "ServerLive").live, "ServerLive says false")
    expect(worked(rpc.call, "ServerReady").ready, "ServerReady says false")
    expect(worked(rpc.call, "ModelReady", name=subject.model.name).ready, "ModelReady says false")


@check(PART, "ServerMetadata says what v2 says over REST")
def server_metadata(subject: Subject) -> None:
    told = worked(rpc_of(subject).call, "ServerMetadata")
    expect(bool(told.name) and bool(told.version), f"name {told.name!r}, version {told.version!r}")
    rest = subject.link.get("v2").json()
    expect(told.name == rest["name"], f"name {told.name!r}, over REST {rest['name']!r}")
    expect(set(told.extensions) == subject.extensions, f"extensions {sorted(told.extensions)}", should=True)


@check(PART, "ModelMetadata says what the model's metadata says over REST")
def model_metadata(subject: Subject) -> None:
    model = subject.model
    told = worked(rpc_of(subject).call, "ModelMetadata", name=model.name)
    expect(told.name == model.name, f"name {told.name!r}")
    for have, want in ((told.inputs, model.inputs), (told.outputs, model.outputs)):
        here = [(each.name, each.datatype, tuple(each.shape)) for each in have]
        there = [(each.name, each.datatype, each.shape) for each in want]
        expect(here == there, f"{here} over gRPC, {there} over REST"[:200])


@check(PART, "ModelInfer with raw_input_contents gives the answer that REST gives")
def raw(subject: Subject) -> None:
    _agrees(_infer(subject), subject.answer.outputs)


@check(PART, "ModelInfer with typed contents gives the same")
def typed(subject: Subject) -> None:
    _agrees(_infer(subject, raw=False), subject.answer.outputs)


@check(
    PART,
    "the answer to a raw request is raw: Triton's clients read nothing else",
    source="Triton",
    should=True,
)
def raw_answer(subject: Subject) -> None:
    rpc = rpc_of(subject)
    told = worked(rpc.call, "ModelInfer", rpc.infer_request(subject.model, subject.model.given))
    expect(len(told.raw_output_contents) == len(told.outputs) > 0, "the answer has no raw_output_contents")


@check(PART, "an id is returned as it was given, with the model's name")
def identity(subject: Subject) -> None:
    rpc = rpc_of(subject)
    message = rpc.infer_request(subject.model, subject.model.given, id="id-42")
    told = worked(rpc.call, "ModelInfer", message)
    expect(told.id == "id-42", f"id {told.id!r}")
    expect(told.model_name == subject.model.name, f"model_name {told.model_name!r}")


@check(PART, "an id may be any text", should=True)
def identity_in_any_script(subject: Subject) -> None:
    rpc = rpc_of(subject)
    message = rpc.infer_request(subject.model, subject.model.given, id="Nº 日本")
    told = worked(rpc.call, "ModelInfer", message)
    expect(told.id == "Nº 日本", f"id {told.id!r}")


@check(PART, "where raw contents are given, typed contents must not be")
def one_form(subject: Subject) -> None:
    rpc = rpc_of(subject)
    for raw in (True, False):
        message = rpc.infer_request(subject.model, subject.model.given, raw=raw)
        told = worked(rpc.call, "ModelInfer", message)
        typed = [output.name for output in told.outputs if output.contents.ByteSize()]
        expect(not (typed and told.raw_output_contents), f"{typed} have raw and typed contents")


@check(PART, "outputs that are named are returned, and no others")
def chosen_outputs(subject: Subject) -> None:
    rpc = rpc_of(subject)
    for tensor in subject.model.outputs:
        message = rpc.infer_request(subject.model, subject.model.given)
        message.outputs.add(name=tensor.name)
        told = read_outputs(worked(rpc.call, "ModelInfer", message))
        expect(list(told) == [tensor.name], f"asked for {tensor.name!r}, got {sorted(told)}")


@check(PART, "a version can be named, and the answer says which it was")
def version(subject: Subject) -> None:
    if not subject.model.versions:
        raise NotOffered("the model names no versions")
    rpc = rpc_of(subject)
    wanted = subject.model.versions[-1]
    message = rpc.infer_request(subject.model, subject.model.given, model_version=wanted)
    told = worked(rpc.call, "ModelInfer", message)
    expect(told.model_version == wanted, f"model_version {told.model_version!r}, asked for {wanted!r}")


def _echoed(subject: Subject, raw: bool) -> Iterator[str]:
    """The datatypes that came back otherwise than they were sent, and how; empty text for one that did."""
    rpc = rpc_of(subject)
    for datatype in DATATYPES:
        try:
            model, name = subject.echo(datatype)
        except NotOffered:
            continue
        if not raw and any(tensor.datatype not in CONTENTS for tensor in model.inputs):
            continue
        shape = model.given[name].shape
        if datatype == "BYTES":
            sent = (
                texts([b"a", b"", "é".encode(), b"x" * 300] * shape[0], shape) if shape[1:] == (4,) else None
            )
        else:
            sent = edges(datatype, shape)
        value = model.given[name] if sent is None else sent
        message = rpc.infer_request(model, {**model.given, name: value}, raw=raw)
        try:
            back = read_outputs(worked(rpc.call, "ModelInfer", message))[model.echoes[name]]
            yield "" if same(back, value) else f"{datatype} came back as {back.ravel()[:4].tolist()}"
        except (Wrong, KeyError) as problem:
            yield f"{datatype}: {problem}"


def _every_datatype(subject: Subject, raw: bool) -> None:
    found = list(_echoed(subject, raw))
    if not found:
        raise NotOffered("no model here gives an input back")
    wrong = [text for text in found if text]
    expect(not wrong, "; ".join(wrong)[:300])


@check(PART, "every datatype comes back with its extremes, raw")
def datatypes_raw(subject: Subject) -> None:
    _every_datatype(subject, True)


@check(PART, "every datatype but FP16 comes back with its extremes, in typed contents")
def datatypes_typed(subject: Subject) -> None:
    _every_datatype(subject, False)


def _bad(
    name: str, what: str, change: Callable[[Rpc, Any], None], *, raw: bool = True, should: bool = False
) -> None:
    """A check that a request, right but for a change, is refused."""

    def refuses(subject: Subject) -> None:
        rpc = rpc_of(subject)
        message = rpc.infer_request(subject.model, subject.model.given, raw=raw)
        change(rpc, message)
        refused_call(what, rpc.call, "ModelInfer", message)

    refuses.__name__ = name
    check(ERRORS, f"other codes than OK indicate failure: {what}", should=should)(refuses)


def _set(message: Any, **fields: Any) -> None:
    for key, value in fields.items():
        setattr(message.inputs[0], key, value)


def _shape(*shape: int) -> Callable[[Rpc, Any], None]:
    def change(rpc: Rpc, message: Any) -> None:
        message.inputs[0].shape[:] = shape

    return change


def _empty_claim(rpc: Rpc, message: Any) -> None:
    message.inputs[0].shape[:] = (2**62, 4)
    message.raw_input_contents[0] = b""


def _twice(rpc: Rpc, message: Any) -> None:
    message.inputs.append(message.inputs[0])
    message.raw_input_contents.append(message.raw_input_contents[0])


def _both_forms(rpc: Rpc, message: Any) -> None:
    typed = rpc.messages.InferTensorContents(fp32_contents=[1.0])
    message.inputs[0].contents.CopyFrom(typed)


def _resize(by: int) -> Callable[[Rpc, Any], None]:
    def change(rpc: Rpc, message: Any) -> None:
        data = message.raw_input_contents[0]
        message.raw_input_contents[0] = data[:by] if by < 0 else data + bytes(by)

    return change


def _drop_inputs(rpc: Rpc, message: Any) -> None:
    message.ClearField("inputs")
    message.ClearField("raw_input_contents")


def _drop_contents(rpc: Rpc, message: Any) -> None:
    for tensor in message.inputs:
        tensor.ClearField("contents")


_bad("unknown_model", "a model that is not there", lambda r, m: setattr(m, "model_name", UNKNOWN))
_bad(
    "no_inputs",
    "no inputs",
    _drop_inputs,
)
_bad("unknown_input", "an input of another name", lambda r, m: _set(m, name="no_such_input"))
_bad("duplicate_input", "an input given twice", _twice, should=True)
_bad("unknown_datatype", "a datatype that there is not", lambda r, m: _set(m, datatype="FP31"))
_bad(
    "wrong_datatype",
    "another datatype of the same size than the model's",
    lambda r, m: _set(m, datatype=_twin(m)),
    should=True,
)
_bad("unknown_output", "an output that there is not", lambda r, m: m.outputs.add(name="no_such") and None)
_bad("negative_dimensions", "negative dimensions whose product fits", lambda r, m: _negated(m))
_bad("overflowing_dimensions", "dimensions whose product overflows", _shape(2**62, 4))
_bad("overflow_to_empty", "the same with no bytes", _empty_claim)
_bad("huge_claim", "a shape that claims a huge tensor", _shape(2**31, 2**20))
_bad("raw_too_short", "raw contents one element short", _resize(-1))
_bad("raw_too_long", "raw contents that are too long", _resize(8))
_bad("raw_missing", "fewer raw contents than inputs", lambda r, m: m.raw_input_contents.pop() and None)
_bad("raw_extra", "more raw contents than inputs", lambda r, m: m.raw_input_contents.append(b"1234"))
_bad("both_forms", "raw and typed contents at once", _both_forms)
_bad("no_contents", "no contents at all", _drop_contents, raw=False)


def _twin(message: Any) -> str:
    twins = {"FP32": "INT32", "INT32": "FP32", "FP64": "INT64", "INT64": "FP64", "UINT8": "INT8"}
    return twins.get(message.inputs[0].datatype, "UINT8")


def _negated(message: Any) -> None:
    shape = [-size for size in message.inputs[0].shape]
    message.inputs[0].shape[:] = shape if len(shape) % 2 == 0 else [-1, -1, *(-size for size in shape)]


@check(ERRORS, "other codes than OK indicate failure: a version that is not there")
def unknown_version(subject: Subject) -> None:
    if not subject.model.versions:
        raise NotOffered("the model names no versions")
    rpc = rpc_of(subject)
    message = rpc.infer_request(subject.model, subject.model.given, model_version="9876")
    refused_call("a version that is not there", rpc.call, "ModelInfer", message)


@check(ERRORS, "metadata and readiness of a model that is not there are failures, or not ready")
def unknown_metadata(subject: Subject) -> None:
    rpc = rpc_of(subject)
    refused_call("metadata of an unknown model", rpc.call, "ModelMetadata", name=UNKNOWN)
    try:
        expect(not rpc.call("ModelReady", name=UNKNOWN).ready, "an unknown model is ready")
    except Refusal as problem:
        expect(problem.code not in ("INTERNAL", "UNKNOWN"), f"ModelReady: {problem}", should=True)


@check(ERRORS, "a model that is not there is NOT_FOUND", source="gRPC status codes", should=True)
def not_found(subject: Subject) -> None:
    try:
        rpc_of(subject).call("ModelMetadata", name=UNKNOWN)
    except Refusal as problem:
        expect(problem.code == "NOT_FOUND", str(problem))
        return
    raise Wrong("OK")


@check(ERRORS, "a message that is no protobuf is refused", source="gRPC status codes", should=True)
def garbage(subject: Subject) -> None:
    rpc = rpc_of(subject)
    path = rpc.messages.METHODS["ModelInfer"].path
    try:
        rpc.send(path, b"\xff\xff\xff\xff garbage")
    except Refusal as problem:
        expect(problem.code in ("INTERNAL", "INVALID_ARGUMENT"), str(problem))  # gRPC's own code for it
        return
    raise Wrong("OK")


@check(ERRORS, "a method that there is not is UNIMPLEMENTED", source="gRPC status codes")
def unknown_method(subject: Subject) -> None:
    try:
        rpc_of(subject).send("/inference.GRPCInferenceService/NoSuchMethod", b"")
    except Refusal as problem:
        expect(problem.code == "UNIMPLEMENTED", str(problem))
        return
    raise Wrong("OK")


@check(ERRORS, "right requests are answered after all of these")
def still_there(subject: Subject) -> None:
    _agrees(_infer(subject), subject.answer.outputs)


@check(MORE, "RepositoryIndex lists the model", source="Triton")
def repository_index(subject: Subject) -> None:
    told = offered(rpc_of(subject).call, "RepositoryIndex")
    expect(subject.model.name in [each.name for each in told.models], "the model is not listed")


@check(MORE, "ModelConfig names the model", source="Triton")
def model_config(subject: Subject) -> None:
    told = offered(rpc_of(subject).call, "ModelConfig", name=subject.model.name)
    expect(told.config.name == subject.model.name, f"name {told.config.name!r}")


@check(MORE, "ModelStatistics counts", source="Triton")
def model_statistics(subject: Subject) -> None:
    rpc = rpc_of(subject)
    _infer(subject)
    told = offered(rpc.call, "ModelStatistics", name=subject.model.name)
    mine = [each for each in told.model_stats if each.name == subject.model.name]
    expect(bool(mine) and mine[-1].inference_stats.success.count > 0, "nothing was counted")


@check(MORE, "ModelStreamInfer answers each request of a stream; an error is an answer too", source="Triton")
def stream(subject: Subject) -> None:
    rpc = rpc_of(subject)
    names = ("1", "2", "3")
    messages = [rpc.infer_request(subject.model, subject.model.given, id=each) for each in names]
    messages[1].model_name = UNKNOWN
    told = offered(rpc.stream, messages)
    expect(len(told) == 3, f"{len(told)} answers to 3 requests")
    right = {each.infer_response.id: each.infer_response for each in told if not each.error_message}
    expect(set(right) == {"1", "3"}, f"answered were {sorted(right)}")
    for each in right.values():
        _agrees(read_outputs(each), subject.answer.outputs)
