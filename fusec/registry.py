"""The plan's mutable owner: members come and go under one lock, what they share is counted.

Adding or removing the N-th member costs the same as the first: nothing is copied or swept.
"""

import threading
from collections import Counter
from collections.abc import Mapping, MutableMapping
from typing import Any, TypeVar

import numpy as np

from fusec.ir.errors import ArtifactError, ConfigError
from fusec.ir.plan import (
    Blob,
    Executor,
    Form,
    Member,
    PlanData,
    Structure,
    Variant,
    WeightStorage,
)
from fusec.ir.template import Template
from fusec.runtime.request import Choice, Target
from fusec.runtime.weights import ALIGN_BYTES, Pages

__all__ = ["Registry"]

T = TypeVar("T")


class Registry:
    """Members, and the forms, templates and weights that at least one of them uses."""

    def __init__(self, data: PlanData) -> None:
        """Take over a plan's data; the mappings are copied, weights are not."""
        self._lock = threading.Lock()
        self._templates = dict(data.templates)
        self._forms = dict(data.forms)
        self._weights = dict(data.weights)
        self._members: dict[str, Member] = {}
        self._targets: dict[str, Target] = {}
        self._uses: Counter[str] = Counter()
        self._structures = dict(data.structures)
        self._executor = data.executor
        self._threads = data.threads
        self._weight_storage = data.weight_storage
        self._version = 0
        for name, member in data.members.items():
            self._enter(name, member)

    def put(
        self,
        name: str,
        member: Member,
        *,
        templates: Mapping[str, Template],
        forms: Mapping[str, Form],
        weights: Mapping[str, Blob],
        structures: Mapping[str, Structure],
        replacing: bool,
    ) -> Target | None:
        """Add or replace a member in one step; running requests keep what they resolved.

        Args:
            name: of the member.
            member: its record.
            templates: new or known templates that it uses.
            forms: new or known forms that it uses.
            weights: new or known blobs that it uses.
            structures: raw structures now known to lead to these forms.
            replacing: the name must be there (True) or must be free (False).

        Returns:
            What requests to the replaced member resolved to.

        Raises:
            ConfigError: the name is taken, or not there.
            ArtifactError: the plan's file has another weight under the hash of one of these.
        """
        with self._lock:
            self.check_name(name, replacing=replacing)
            _check_known(self._weights, weights)
            _add(self._templates, templates)
            _add(self._forms, forms)
            _add(self._weights, weights)
            _add(self._structures, structures)
            old = self._members.get(name)
            gone = self._targets.get(name)
            self._enter(name, member)
            self._version += 1
            if old is not None:
                self._leave(old)
            return gone

    def remove(self, name: str) -> Target:
        """Remove a member and all that nobody else uses; give what its requests resolved to.

        Raises:
            ConfigError: no such member.
        """
        with self._lock:
            self.check_name(name, replacing=True)
            gone = self._targets.pop(name)
            self._version += 1
            self._leave(self._members.pop(name))
            return gone

    def gather(self) -> None:
        """Move all weights together, each member's behind one another: they are read faster so.

        Calls that were planned before keep the weights they have.

        Cost: one copy of all weights; a block's worth of memory while it lasts.
        """
        with self._lock:
            pages = Pages(sum(blob.data.nbytes + ALIGN_BYTES for blob in self._weights.values()))
            moved: set[str] = set()
            for name, member in self._members.items():
                for key in (key for variant in member.variants for key in variant.weights):
                    if key not in moved:
                        moved.add(key)
                        self._weights[key] = pages.put(self._weights[key])
                self._targets[name] = self._target(name, member)
            self._version += 1

    def check_name(self, name: str, *, replacing: bool) -> None:
        """Raise ConfigError unless the name is there (replacing) or free (not replacing)."""
        if not isinstance(name, str) or not name:
            raise ConfigError(f"a model's name must be a non-empty string, got {name!r}")
        if replacing and name not in self._members:
            raise ConfigError(self._unknown(name))
        if not replacing and name in self._members:
            raise ConfigError(f"the plan already has a model {name!r}; use plan.replace")

    def target(self, name: str) -> Target:
        """Resolve a member for a request.

        Raises:
            ConfigError: no such member.
        """
        target = self._targets.get(name)
        if target is None:
            raise ConfigError(self._unknown(name))
        return target

    def structure(self, key: str) -> Structure | None:
        """Give what a raw structure leads to, if it is known."""
        return self._structures.get(key)

    def form(self, key: str) -> Form:
        """Give a form by key."""
        return self._forms[key]

    def has_form(self, key: str) -> bool:
        """Tell whether a form is in the plan."""
        return key in self._forms

    def template(self, key: str) -> Template:
        """Give a template by key."""
        return self._templates[key]

    def data(self) -> PlanData:
        """Give a snapshot of everything."""
        with self._lock:
            return PlanData(
                templates=dict(self._templates),
                forms=dict(self._forms),
                structures=dict(self._structures),
                members=dict(self._members),
                weights=dict(self._weights),
                executor=self._executor,
                threads=self._threads,
                weight_storage=self._weight_storage,
            )

    @property
    def executor(self) -> Executor:
        """How the plan runs."""
        return self._executor

    @property
    def threads(self) -> int | None:
        """Threads while the plan runs; None: as many as there are, or as torch has."""
        return self._threads

    @property
    def weight_storage(self) -> WeightStorage | None:
        """In what packed weights are stored; None: as the models have them."""
        return self._weight_storage

    @property
    def version(self) -> int:
        """Changes whenever a member comes or goes."""
        return self._version

    def __len__(self) -> int:
        return len(self._members)

    def _enter(self, name: str, member: Member) -> None:
        self._members[name] = member
        self._targets[name] = self._target(name, member)
        for variant in member.variants:
            form = self._forms[variant.form]
            self._uses.update([variant.form, form.template, *variant.weights])

    def _target(self, name: str, member: Member) -> Target:
        return Target(name=name, member=member, choices=tuple(map(self._choice, member.variants)))

    def _choice(self, variant: Variant) -> Choice:
        return Choice(
            template=self._templates[self._forms[variant.form].template],
            hashes=variant.weights,
            weights=tuple(self._weights[w] for w in variant.weights),
        )

    def _leave(self, member: Member) -> None:
        for variant in member.variants:
            template = self._forms[variant.form].template
            for weight in variant.weights:
                self._drop(weight, self._weights)
            if self._drop(variant.form, self._forms):
                self._structures = {
                    k: s for k, s in self._structures.items() if variant.form not in s.forms
                }
            self._drop(template, self._templates)

    def _drop(self, key: str, table: MutableMapping[str, Any]) -> bool:
        """Count one use less; tell whether that was the last one."""
        self._uses[key] -= 1
        if self._uses[key] > 0:
            return False
        del self._uses[key]
        del table[key]
        return True

    def _unknown(self, name: str) -> str:
        shown = ", ".join(repr(n) for n in list(self._members)[:5])
        more = ", ..." if len(self._members) > 5 else ""
        return f"the plan has no model {name!r}; it has {len(self._members)}: {shown}{more}"


def _check_known(known: Mapping[str, Blob], new: Mapping[str, Blob]) -> None:
    """Look once at weights that a plan file gave and that new members are about to share.

    Files have checksums against damage only; here one that was made on purpose ends.
    """
    for key, blob in new.items():
        old = known.get(key)
        if old is not None and old.data.readonly and not _same_bytes(old, blob):
            raise ArtifactError(
                f"weight {key} of the plan's file is not what its hash says; compile the plan again"
            )


def _same_bytes(one: Blob, other: Blob) -> bool:
    old, new = (np.frombuffer(blob.data, dtype=np.uint8) for blob in (one, other))
    return np.array_equal(old, new)


def _add(known: dict[str, T], new: Mapping[str, T]) -> None:
    """Add entries; known ones win, so that equal things stay one object in memory."""
    for key, value in new.items():
        known.setdefault(key, value)
