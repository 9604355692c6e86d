"""An Open Inference Protocol server (KServe v2, as Triton speaks it) over REST and gRPC.

bytes -> codec -> InferRequest -> Service: model, version, checks -> runtime -> answer -> bytes
"""
