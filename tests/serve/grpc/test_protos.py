"""The messages are the protocol's: compared with those that Triton's own client brings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2, service_pb2

from modelport.protos import open_inference as oi

ROOT = Path(__file__).resolve().parents[3]
THEIRS = {
    name: message
    for module in (service_pb2, model_config_pb2)
    for name, message in module.DESCRIPTOR.message_types_by_name.items()
}
OURS = oi.POOL.FindFileContainingSymbol(oi.SERVICE)


def kind(field: Any) -> tuple[object, ...]:
    message = field.message_type.full_name if field.message_type else None
    enum = field.enum_type.full_name if field.enum_type else None
    oneof = field.containing_oneof.name if field.containing_oneof else None
    return field.number, field.type, field.is_repeated, message, enum, oneof


def compare(ours: Any, theirs: Any) -> int:
    """Every field of ours is there with the same number and type; how many there are."""
    known = {field.name: field for field in theirs.fields}
    for field in ours.fields:
        assert kind(field) == kind(known[field.name]), field.full_name
    for nested in ours.nested_types:
        compare(nested, theirs.nested_types_by_name[nested.name])
    for enum in ours.enum_types:
        assert_same_enum(enum, theirs.enum_types_by_name[enum.name])
    return len(ours.fields)


def assert_same_enum(ours: Any, theirs: Any) -> None:
    assert {v.name: v.number for v in ours.values} == {v.name: v.number for v in theirs.values}


@pytest.mark.parametrize("name", OURS.message_types_by_name)
def test_a_message_is_that_of_the_protocol(name: str) -> None:
    ours, theirs = OURS.message_types_by_name[name], THEIRS[name]
    fields = compare(ours, theirs)
    if theirs.file.name == "grpc_service.proto":
        assert fields == len(theirs.fields), "a field is missing"


def test_methods_and_datatypes_are_those_of_the_protocol() -> None:
    service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert {m.name: (m.input_type.name, m.output_type.name) for m in service.methods} == {
        m.name: (m.request.DESCRIPTOR.name, m.response.DESCRIPTOR.name) for m in oi.METHODS.values()
    }
    assert [m.name for m in oi.METHODS.values() if m.streams] == ["ModelStreamInfer"]
    assert service.full_name == oi.SERVICE
    assert_same_enum(OURS.enum_types_by_name["DataType"], model_config_pb2.DataType.DESCRIPTOR)


def test_a_message_goes_there_and_back_through_the_others_classes() -> None:
    ours = oi.ModelInferRequest(model_name="m", raw_input_contents=[b"\0\1"])
    ours.inputs.add(name="x", datatype="UINT8", shape=[1, 2])
    ours.parameters["timeout"].int64_param = 5
    theirs = service_pb2.ModelInferRequest.FromString(ours.SerializeToString())
    assert theirs.inputs[0].shape == [1, 2] and theirs.parameters["timeout"].int64_param == 5
    assert oi.ModelInferRequest.FromString(theirs.SerializeToString()) == ours


def test_what_is_not_named_here_is_carried_along() -> None:
    full = model_config_pb2.ModelConfig(name="m", metric_tags={"a": "b"})
    kept = oi.ModelConfig.FromString(full.SerializeToString()).SerializeToString()
    assert model_config_pb2.ModelConfig.FromString(kept) == full


def test_the_compiled_files_are_up_to_date() -> None:
    pytest.importorskip("grpc_tools", reason="needs grpcio-tools")
    command = [sys.executable, ROOT / "scripts" / "protos.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
