"""EAS's protobuf messages by protobuf's own library: what the tests' client writes and reads."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": Field.TYPE_STRING,
    "bytes": Field.TYPE_BYTES,
    "float": Field.TYPE_FLOAT,
    "double": Field.TYPE_DOUBLE,
    "int32": Field.TYPE_INT32,
    "int64": Field.TYPE_INT64,
    "bool": Field.TYPE_BOOL,
}

ARRAY = "dtype=1 int32, array_shape=2 Shape, float_val=3 float*, double_val=4 double*, int_val=5 int32*, \
string_val=6 bytes*, int64_val=7 int64*, bool_val=8 bool*"
MESSAGES = {
    "Shape": "dim=1 int64*",
    "Array": ARRAY,
    "Entry": "key=1 string, value=2 Array",
    "TensorflowRequest": "signature_name=1 string, inputs=2 Entry*, output_filter=3 string*",
    "TensorflowReply": "outputs=1 Entry*",
    "TorchRequest": "inputs=1 Array*, output_filter=2 int32*, map_inputs=3 Entry*, debug_level=100 int32",
    "TorchReply": "outputs=1 Array*, map_outputs=2 Entry*",
    "Tensor": "name=1 string, dims=2 int64*, data_type=3 int32, raw_data=5 bytes",
    "Data": "tensors=1 Tensor*",
}
"""Message -> its fields; a map is on the wire what a repeated entry is, an enumeration what an int32 is."""


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="eas.proto", package="eas", syntax="proto3")
    for name, words in MESSAGES.items():
        message = file.message_type.add(name=name)
        for word in words.split(","):
            field, kind = word.split()
            label, number = field.split("=")
            repeated = kind.endswith("*")
            kind = kind.rstrip("*")
            made = message.field.add(name=label, number=int(number))
            made.label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
            if kind in _SCALARS:
                made.type = _SCALARS[kind]
            else:
                made.type, made.type_name = Field.TYPE_MESSAGE, f".eas.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"eas.{name}")) for name in MESSAGES
    }


CLASSES = _classes()


def message(name: str, /, **fields: Any) -> Any:
    """A message with these fields."""
    return CLASSES[name](**fields)


def read(name: str, data: bytes) -> Any:
    """A message from its bytes."""
    return CLASSES[name].FromString(data)
