"""Messages of the gRPC service, and classes for them from a pool of our own.

Generated code would register its types in the process's one pool, where a client library that is
loaded beside it has types of the same names; a private pool never meets them.
"""

from functools import cache
from typing import Any

from fusec.ir.frozen import dataclass
from fusec.server.configtypes import CONFIG_TYPES
from fusec.server.schema import SCALARS, Field, Schema, parse_schema

__all__ = ["SERVICE", "Types", "types"]

SERVICE = "inference.GRPCInferenceService"

_TYPES = """
ServerLiveRequest:
ServerLiveResponse: 1 live bool
ServerReadyRequest:
ServerReadyResponse: 1 ready bool
ModelReadyRequest: 1 name string; 2 version string
ModelReadyResponse: 1 ready bool
ServerMetadataRequest:
ServerMetadataResponse: 1 name string; 2 version string; 3 extensions repeated string
ModelMetadataRequest: 1 name string; 2 version string
TensorMetadata: 1 name string; 2 datatype string; 3 shape repeated int64
ModelMetadataResponse: 1 name string; 2 versions repeated string; 3 platform string;
  4 inputs repeated TensorMetadata; 5 outputs repeated TensorMetadata
InferParameter: 1 bool_param bool /value; 2 int64_param int64 /value; 3 string_param string /value;
  4 double_param double /value; 5 uint64_param uint64 /value
InferTensorContents: 1 bool_contents repeated bool; 2 int_contents repeated int32;
  3 int64_contents repeated int64; 4 uint_contents repeated uint32;
  5 uint64_contents repeated uint64; 6 fp32_contents repeated float;
  7 fp64_contents repeated double; 8 bytes_contents repeated bytes
InferInputTensor: 1 name string; 2 datatype string; 3 shape repeated int64;
  4 parameters map<string,InferParameter>; 5 contents InferTensorContents
InferRequestedOutputTensor: 1 name string; 2 parameters map<string,InferParameter>
ModelInferRequest: 1 model_name string; 2 model_version string; 3 id string;
  4 parameters map<string,InferParameter>; 5 inputs repeated InferInputTensor;
  6 outputs repeated InferRequestedOutputTensor; 7 raw_input_contents repeated bytes
InferOutputTensor: 1 name string; 2 datatype string; 3 shape repeated int64;
  4 parameters map<string,InferParameter>; 5 contents InferTensorContents
ModelInferResponse: 1 model_name string; 2 model_version string; 3 id string;
  4 parameters map<string,InferParameter>; 5 outputs repeated InferOutputTensor;
  6 raw_output_contents repeated bytes
ModelStreamInferResponse: 1 error_message string; 2 infer_response ModelInferResponse
ModelConfigRequest: 1 name string; 2 version string
ModelConfigResponse: 1 config ModelConfig
ModelStatisticsRequest: 1 name string; 2 version string
StatisticDuration: 1 count uint64; 2 ns uint64
InferStatistics: 1 success StatisticDuration; 2 fail StatisticDuration; 3 queue StatisticDuration;
  4 compute_input StatisticDuration; 5 compute_infer StatisticDuration;
  6 compute_output StatisticDuration; 7 cache_hit StatisticDuration; 8 cache_miss StatisticDuration
InferResponseStatistics: 1 compute_infer StatisticDuration; 2 compute_output StatisticDuration;
  3 success StatisticDuration; 4 fail StatisticDuration; 5 empty_response StatisticDuration;
  6 cancel StatisticDuration
InferBatchStatistics: 1 batch_size uint64; 2 compute_input StatisticDuration;
  3 compute_infer StatisticDuration; 4 compute_output StatisticDuration
MemoryUsage: 1 type string; 2 id int64; 3 byte_size uint64
ModelStatistics: 1 name string; 2 version string; 3 last_inference uint64; 4 inference_count uint64;
  5 execution_count uint64; 6 inference_stats InferStatistics;
  7 batch_stats repeated InferBatchStatistics; 8 memory_usage repeated MemoryUsage;
  9 response_stats map<string,InferResponseStatistics>
ModelStatisticsResponse: 1 model_stats repeated ModelStatistics
ModelRepositoryParameter: 1 bool_param bool /value; 2 int64_param int64 /value;
  3 string_param string /value; 4 bytes_param bytes /value
RepositoryIndexRequest: 1 repository_name string; 2 ready bool
ModelIndex: 1 name string; 2 version string; 3 state string; 4 reason string
RepositoryIndexResponse: 1 models repeated ModelIndex
RepositoryModelLoadRequest: 1 repository_name string; 2 model_name string;
  3 parameters map<string,ModelRepositoryParameter>
RepositoryModelLoadResponse:
RepositoryModelUnloadRequest: 1 repository_name string; 2 model_name string;
  3 parameters map<string,ModelRepositoryParameter>
RepositoryModelUnloadResponse:
SystemSharedMemoryStatusRequest: 1 name string
SystemSharedMemoryStatusResponse:
CudaSharedMemoryStatusRequest: 1 name string
CudaSharedMemoryStatusResponse:
TraceSettingValue: 1 value repeated string
TraceSettingRequest: 1 settings map<string,TraceSettingValue>; 2 model_name string
TraceSettingResponse: 1 settings map<string,TraceSettingValue>
LogSettingValue: 1 bool_param bool /value; 2 uint32_param uint32 /value;
  3 string_param string /value
LogSettingsRequest: 1 settings map<string,LogSettingValue>
LogSettingsResponse: 1 settings map<string,LogSettingValue>
HealthCheckRequest: 1 service string
HealthCheckResponse: 1 status uint32
""".lstrip()
"""See `fusec.server.schema`. Nested types stand at the top; their names are not on the wire."""

_MESSAGE, _ENUM = 11, 14
_OPTIONAL, _REPEATED = 1, 3


@dataclass(frozen=True, slots=True)
class Types:
    """Message classes by name."""

    classes: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        """Give a class."""
        return self.classes[name]


@cache
def types() -> Types:
    """Make the classes, once; needs protobuf.

    Cost: 5 ms.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    schema = parse_schema(_TYPES + CONFIG_TYPES)
    file = descriptor_pb2.FileDescriptorProto(
        name="fusec_inference.proto", package="inference", syntax="proto3"
    )
    for name, values in schema.enums.items():
        enum = file.enum_type.add(name=name)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    for name, fields in schema.messages.items():
        message = file.message_type.add(name=name)
        for field in fields.values():
            _add(message, field, name, schema)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return Types(
        {
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}"))
            for name in schema.messages
        }
    )


def _add(message: Any, field: Field, name: str, schema: Schema) -> None:
    if field.key is not None:
        entry = message.nested_type.add(name=f"{field.name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _put(entry, 1, "key", field.key, schema, repeated=False)
        _put(entry, 2, "value", field.type, schema, repeated=False)
        made = message.field.add(number=field.number, name=field.name, label=_REPEATED)
        made.type, made.type_name = _MESSAGE, f".inference.{name}.{entry.name}"
        return
    made = _put(message, field.number, field.name, field.type, schema, repeated=field.repeated)
    if field.choice is not None:
        names = [choice.name for choice in message.oneof_decl]
        if field.choice not in names:
            message.oneof_decl.add(name=field.choice)
            names.append(field.choice)
        made.oneof_index = names.index(field.choice)


def _put(message: Any, number: int, name: str, kind: str, schema: Schema, *, repeated: bool) -> Any:
    label = _REPEATED if repeated else _OPTIONAL
    made = message.field.add(number=number, name=name, label=label)
    if kind in SCALARS:
        made.type = SCALARS[kind]
    else:
        made.type = _ENUM if kind in schema.enums else _MESSAGE
        made.type_name = f".inference.{kind}"
    return made
