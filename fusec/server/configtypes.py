"""Types of a model's configuration: the part of Triton's ModelConfig that files here have."""

from fusec.server.schema import parse_schema

__all__ = ["CONFIG", "CONFIG_TYPES"]

CONFIG = "ModelConfig"

CONFIG_TYPES = """
enum DataType: TYPE_INVALID 0; TYPE_BOOL 1; TYPE_UINT8 2; TYPE_UINT16 3; TYPE_UINT32 4;
  TYPE_UINT64 5; TYPE_INT8 6; TYPE_INT16 7; TYPE_INT32 8; TYPE_INT64 9; TYPE_FP16 10; TYPE_FP32
  11; TYPE_FP64 12; TYPE_STRING 13; TYPE_BF16 14
enum InputFormat: FORMAT_NONE 0; FORMAT_NHWC 1; FORMAT_NCHW 2
enum InstanceKind: KIND_AUTO 0; KIND_GPU 1; KIND_CPU 2; KIND_MODEL 3
enum ModelPriority: PRIORITY_DEFAULT 0; PRIORITY_MAX 1; PRIORITY_MIN 2
enum TimeoutAction: REJECT 0; DELAY 1
ModelRateLimiterResource: 1 name string; 2 global bool; 3 count uint32
ModelRateLimiter: 1 resources repeated ModelRateLimiterResource; 2 priority uint32
ModelInstanceGroup: 1 name string; 4 kind InstanceKind; 2 count int32; 6 rate_limiter
  ModelRateLimiter; 3 gpus repeated int32; 5 profile repeated string; 7 passive bool; 9
  host_policy string
ModelTensorReshape: 1 shape repeated int64
ModelInput: 1 name string; 2 data_type DataType; 3 format InputFormat; 4 dims repeated int64; 5
  reshape ModelTensorReshape; 6 is_shape_tensor bool; 7 allow_ragged_batch bool; 8 optional bool;
  9 is_non_linear_format_io bool
ModelOutput: 1 name string; 2 data_type DataType; 3 dims repeated int64; 5 reshape
  ModelTensorReshape; 4 label_filename string; 6 is_shape_tensor bool; 7 is_non_linear_format_io
  bool
VersionLatest: 1 num_versions uint32
VersionAll:
VersionSpecific: 1 versions repeated int64
ModelVersionPolicy: 1 latest VersionLatest /policy; 2 all VersionAll /policy; 3 specific
  VersionSpecific /policy
OptimizationGraph: 1 level int32
PinnedMemoryBuffer: 1 enable bool
Accelerator: 1 name string; 2 parameters map<string,string>
ExecutionAccelerators: 1 gpu_execution_accelerator repeated Accelerator; 2
  cpu_execution_accelerator repeated Accelerator
OptimizationCuda: 1 graphs bool; 2 busy_wait_events bool; 4 output_copy_stream bool
ModelOptimizationPolicy: 1 graph OptimizationGraph; 2 priority ModelPriority; 3 cuda
  OptimizationCuda; 4 execution_accelerators ExecutionAccelerators; 5 input_pinned_memory
  PinnedMemoryBuffer; 6 output_pinned_memory PinnedMemoryBuffer; 7 gather_kernel_buffer_threshold
  uint32; 8 eager_batching bool
ModelQueuePolicy: 1 timeout_action TimeoutAction; 2 default_timeout_microseconds uint64; 3
  allow_timeout_override bool; 4 max_queue_size uint32
ModelDynamicBatching: 1 preferred_batch_size repeated int32; 2 max_queue_delay_microseconds
  uint64; 3 preserve_ordering bool; 4 priority_levels uint64; 5 default_priority_level uint64; 6
  default_queue_policy ModelQueuePolicy; 7 priority_queue_policy map<uint64,ModelQueuePolicy>
ModelParameter: 1 string_value string
WarmupInput: 1 data_type DataType; 2 dims repeated int64; 3 zero_data bool /data; 4 random_data
  bool /data; 5 input_data_file string /data
ModelWarmup: 1 name string; 2 batch_size uint32; 3 inputs map<string,WarmupInput>; 4 count uint32
ModelTransactionPolicy: 1 decoupled bool
ModelResponseCache: 1 enable bool
ModelConfig: 1 name string; 2 platform string; 17 backend string; 25 runtime string; 3
  version_policy ModelVersionPolicy; 4 max_batch_size int32; 5 input repeated ModelInput; 6 output
  repeated ModelOutput; 12 optimization ModelOptimizationPolicy; 11 dynamic_batching
  ModelDynamicBatching; 7 instance_group repeated ModelInstanceGroup; 8 default_model_filename
  string; 10 metric_tags map<string,string>; 14 parameters map<string,ModelParameter>; 16
  model_warmup repeated ModelWarmup; 19 model_transaction_policy ModelTransactionPolicy; 24
  response_cache ModelResponseCache
""".lstrip()
"""See `fusec.server.schema`. Names of nested types are our own; they are not on the wire."""

SCHEMA = parse_schema(CONFIG_TYPES)
