"""What tests share: the accuracy rule and golden text."""

from fusec_testing.accuracy import assert_no_worse
from fusec_testing.golden import Golden, golden_path

__all__ = ["Golden", "assert_no_worse", "golden_path"]
