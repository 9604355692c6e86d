"""Attributes of ONNX nodes as Python values, with references to function attributes resolved."""

from collections.abc import Mapping
from typing import Any

import onnx
from onnx import AttributeProto, NodeProto, numpy_helper

from fusec.importers.onnx.values import Array, from_sparse, numpy_dtype
from fusec.ir.errors import ImportFailed

_A = AttributeProto


def plain_attribute(attr: AttributeProto) -> Any:
    """Return a number, string, list or proto attribute as a Python value."""
    match attr.type:
        case _A.FLOAT:
            return float(attr.f)
        case _A.INT:
            return int(attr.i)
        case _A.STRING:
            return _text(attr.s)
        case _A.FLOATS:
            return list(attr.floats)
        case _A.INTS:
            return list(attr.ints)
        case _A.STRINGS:
            return [_text(item) for item in attr.strings]
        case _A.TENSORS:
            return [numpy_helper.to_array(item) for item in attr.tensors]
        case _A.TYPE_PROTO:
            return attr.tp
        case _A.TYPE_PROTOS:
            return list(attr.type_protos)
    raise ImportFailed(f"attribute '{attr.name}' has type {attr.type}, which no operator here uses")


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def bound_attributes(proto: NodeProto, bound: Mapping[str, AttributeProto]) -> list[AttributeProto]:
    """Return a node's attributes with references to function attributes resolved."""
    found = []
    for attr in proto.attribute:
        if not attr.ref_attr_name:
            found.append(attr)
        elif attr.ref_attr_name in bound:
            copy = AttributeProto()
            copy.CopyFrom(bound[attr.ref_attr_name])
            copy.name = attr.name
            found.append(copy)
    return found


def dense(sparse: onnx.SparseTensorProto) -> Array:
    """Return a sparse tensor written out in full."""
    return from_sparse(
        numpy_helper.to_array(sparse.values),
        numpy_helper.to_array(sparse.indices),
        tuple(sparse.dims),
        numpy_dtype(sparse.values.data_type),
    )
