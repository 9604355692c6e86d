"""Errors that fusec raises, one class per kind of fault.

A message says what, where, got, wanted, and what to do. Expected outcomes (a refused grouping, a
rejected request, a missed deadline) are data, not exceptions.
"""


class FusecError(Exception):
    """Any error that fusec raises on purpose."""


class ConfigError(FusecError):
    """The user's input is wrong: a file, a flag, a name, a shape, a dtype."""


class GuardBroken(ConfigError):
    """A weight does not keep a promise that its template relies on."""


class ImportFailed(FusecError):
    """A model cannot be imported; the message names operator, node, domain and opset or line."""


class UnsupportedError(FusecError):
    """No rule, kernel or dtype for what was asked; the message says what is supported."""


class MergeError(FusecError):
    """A merge was asked for that cannot be right."""


class ArtifactError(FusecError):
    """A plan file is damaged, truncated, foreign or from another format version."""


class KernelError(FusecError):
    """A kernel failed to build, launch or finish."""


class VerifyError(FusecError):
    """An invariant of fusec itself is broken: a bug in fusec, not in the user's model."""


class Rejected(FusecError):
    """A request was not served. Raised by the future of it, never by who submits."""

    def __init__(self, reason: str, result: str = "rejected") -> None:
        """Say why.

        Args:
            reason: for a person.
            result: "rejected" by the policy, "expired" or "full".
        """
        super().__init__(f"{result}: {reason}")
        self.reason, self.result = reason, result
