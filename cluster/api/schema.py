"""Schemas of every built-in kind, per Kubernetes version, and decoding against them.

Plays k8s.io/api's Go types and their JSON decoding: what the API server drops (unknown fields,
nulls, empty lists and maps), what it refuses (wrong JSON types) and in which words. The data is
kubernetes-validate's copy of upstream's OpenAPI definitions, with list types and merge keys.
Decoders are compiled per definition on first use: the hot path is one pass of dict look-ups and
exact type tests; paths and messages are worked out by a second pass only when needed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import orjson

from cluster.api.decoding import Decoder, Mismatch, compile_definition, explain
from cluster.api.errors import BadRequest
from cluster.api.meta import Object

Definition = dict[str, Any]
FieldValidation = Literal["Ignore", "Warn", "Strict"]

VERSIONS: tuple[str, ...] = tuple(f"1.{minor}" for minor in range(28, 38))
"""The Kubernetes versions that this emulator knows."""

_PREFIX = "#/$defs/"
META = "io.k8s.apimachinery.pkg.apis.meta.v1."


class Undecodable(BadRequest):
    """An object that its Go type cannot hold. `problem` is the decoder's own sentence, which PATCH
    wraps in another message than POST and PUT."""

    def __init__(self, message: str, problem: str) -> None:
        super().__init__(message)
        self.problem = problem


def schema_directory() -> Path:
    """Where kubernetes-validate keeps its schemas; the package itself is not imported."""
    spec = importlib.util.find_spec("kubernetes_validate")
    if spec is None or spec.origin is None:
        raise RuntimeError(
            "the package kubernetes-validate is missing: pip install kubernetes-validate"
        )
    return Path(spec.origin).parent / "kubernetes-json-schema"


class Schemas:
    """The definitions of one Kubernetes version, by OpenAPI name ("io.k8s.api.core.v1.Pod")."""

    def __init__(self, version: str = "1.37") -> None:
        """`version` is MAJOR.MINOR. Raises ValueError for one that is not known."""
        minor = ".".join(version.removeprefix("v").split(".")[:2])
        if minor not in VERSIONS:
            raise ValueError(
                f"Kubernetes {version} is not known: choose {VERSIONS[0]} to {VERSIONS[-1]}"
            )
        self.version = minor
        path = schema_directory() / f"v{minor}.0-local" / "_definitions.json"
        self.definitions: dict[str, Definition] = orjson.loads(path.read_bytes())["$defs"]
        self._decoders: dict[str, Decoder] = {}

    def definition(self, name: str) -> Definition:
        """One definition. Raises KeyError."""
        return self.definitions[name]

    def resolve(self, schema: Mapping[str, Any]) -> Definition:
        """The definition behind `schema`: what its $ref points at, or itself."""
        ref = schema.get("$ref")
        return self.definitions[ref[len(_PREFIX) :]] if ref else dict(schema)

    def add(self, name: str, definition: Definition) -> None:
        """Publish a definition that upstream has not (a custom resource's)."""
        self.definitions[name] = definition
        self._decoders.pop(name, None)

    def remove(self, name: str) -> None:
        """Take a published definition back."""
        self.definitions.pop(name, None)
        self._decoders.pop(name, None)

    @cached_property
    def kinds(self) -> dict[tuple[str, str, str], str]:
        """Definition name of each (group, version, kind) that belongs to one group only."""
        found: dict[tuple[str, str, str], str] = {}
        for name, definition in self.definitions.items():
            gvks = definition.get("x-kubernetes-group-version-kind") or []
            if len(gvks) == 1:
                found[gvks[0]["group"], gvks[0]["version"], gvks[0]["kind"]] = name
        return found

    def name_of(self, group: str, version: str, kind: str) -> str | None:
        """Definition name of a kind; also of DeleteOptions and others of all groups."""
        found = self.kinds.get((group, version, kind))
        shared = META + kind
        return found or (shared if shared in self.definitions else None)

    def decoder(self, name: str) -> Decoder:
        """The compiled decoder of a definition."""
        found = self._decoders.get(name)
        if found is None:
            found = compile_definition(name, self.definitions, self._decoders)
        return found

    def decode(
        self,
        schema_name: str,
        obj: Object,
        mode: FieldValidation = "Warn",
        *,
        kind: str = "",
        version: str = "",
    ) -> list[str]:
        """Make `obj` what upstream would hold after decoding it, in place.

        Drops unknown fields, nulls, empty lists and maps; canonicalises quantities and times.
        Returns warnings in mode Warn; raises BadRequest for wrong JSON types, and in mode Strict
        for unknown fields. `kind` and `version` word the message for an object that does not carry
        its own.
        """
        decoder = self._decoders.get(schema_name) or self.decoder(schema_name)
        try:
            outcome = decoder(obj)
        except Mismatch:
            problem, _ = explain(schema_name, self.definitions, obj)
            raise _refusal(
                schema_name, obj, kind, version, problem or "json: invalid object"
            ) from None
        if outcome == 0 or outcome == 2:
            return []
        _, unknown = explain(schema_name, self.definitions, obj)
        if mode == "Ignore" or not unknown:
            return []
        if mode == "Strict":
            listed = ", ".join(unknown)
            raise _refusal(schema_name, obj, kind, version, f"strict decoding error: {listed}")
        return unknown

    def field_schema(self, schema_name: str, path: tuple[str, ...]) -> Definition | None:
        """The schema at `path` below a definition; list items are entered with '[]', map values
        with any key."""
        at: Definition = self.definitions[schema_name]
        for step in path:
            at = self.resolve(at)
            if step == "[]":
                child = at.get("items")
            else:
                child = (at.get("properties") or {}).get(step) or at.get("additionalProperties")
            if not isinstance(child, dict):
                return None
            at = child
        return self.resolve(at)


def _refusal(schema_name: str, obj: Object, kind: str, version: str, problem: str) -> BadRequest:
    wanted = kind or schema_name.rsplit(".", 1)[-1]
    given = obj.get("kind") if isinstance(obj, dict) else None
    api_version = obj.get("apiVersion") if isinstance(obj, dict) else None
    shown_version = str(api_version or version or schema_name.split(".")[-2]).rpartition("/")[2]
    shown_kind = given if isinstance(given, str) and given else wanted
    return Undecodable(
        f'{shown_kind} in version "{shown_version}" cannot be handled as a {wanted}: {problem}',
        problem,
    )
