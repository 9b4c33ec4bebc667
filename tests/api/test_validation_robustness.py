"""No object that the schemas let through may crash the strategies: a bad one is refused."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from cluster.api import strategy
from cluster.api.catalogue import Resource
from cluster.api.meta import Object
from tests.api.manifests import NOW, catalogue

WORDS = (
    "",
    "a",
    "a-b",
    "A_b",
    "1",
    "25%",
    "x/y",
    "None",
    "TCP",
    "Always",
    "10.0.0.1",
    "../x",
    "é ",
)
NUMBERS = (0, 1, -1, 80, 70000)
FORMATS = {"date-time": "2026-01-01T00:00:00Z", "byte": "Yg=="}
OBJECTS_PER_KIND = 25


class Generator:
    """Random JSON that fits a schema: each optional field is there half of the time."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.schemas = catalogue().schemas

    def value(self, schema: Any, depth: int) -> Any:
        if str(schema.get("$ref")).endswith("api.resource.Quantity"):
            return self.rng.choice(("1", "100m", "0", "-1", "1.5Gi"))
        schema = self.schemas.resolve(schema)
        if schema.get("format") in FORMATS:
            return FORMATS[schema["format"]]
        if "oneOf" in schema or "anyOf" in schema:
            return self.rng.choice((self.rng.choice(WORDS), self.rng.choice(NUMBERS)))
        kinds = schema.get("type", "object")
        kind = next(k for k in ([kinds] if isinstance(kinds, str) else kinds) if k != "null")
        if kind == "object":
            return self.object(schema, depth)
        if kind == "array":
            length = self.rng.choice((0, 1, 2)) if depth else 0
            return [self.value(schema["items"], depth - 1) for _ in range(length)]
        if kind == "string":
            return self.rng.choice((*WORDS, *schema.get("enum", ())))
        if kind == "boolean":
            return self.rng.random() < 0.5
        return self.rng.choice(NUMBERS)

    def object(self, schema: Any, depth: int) -> Object:
        made: Object = {}
        for name, field in (schema.get("properties") or {}).items():
            needed = name in schema.get("required", ())
            if depth > 0 and (needed or self.rng.random() < 0.5):
                made[name] = self.value(field, depth - 1)
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict) and depth > 0:
            for word in self.rng.sample(WORDS, 2):
                made[word] = self.value(extra, depth - 1)
        return made

    def of_kind(self, resource: Resource) -> Object:
        made = self.value(self.schemas.definition(resource.schema_name), 7)
        metadata = {"name": self.rng.choice(WORDS), "labels": {"a": self.rng.choice(WORDS)}}
        return made | {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": metadata | {"namespace": "default"} if resource.namespaced else metadata,
        }


RESOURCES = [r for r in catalogue().resources if r.schema_name and "update" in r.verbs]


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda r: f"{r.group}/{r.kind}")
def test_random_objects_are_accepted_or_refused_but_never_crash(resource: Resource) -> None:
    generator = Generator(7)
    kind = (resource.group, resource.version, resource.kind)
    previous: Object | None = None
    for _ in range(OBJECTS_PER_KIND):
        made = generator.of_kind(resource)
        catalogue().schemas.decode(resource.schema_name, made, "Ignore")
        strategy.default(kind, made)
        again = orjson.loads(orjson.dumps(made))
        strategy.default(kind, again)
        assert again == made
        made["metadata"]["uid"] = "u"
        strategy.prepare_create(resource, made, now=NOW, new_uid=str)
        for error in strategy.validate_create(resource, made):
            str(error)
        strategy.warnings(resource, made)
        if previous is not None:
            for subresource in ("", "scale", *sorted(resource.subresources)):
                new = orjson.loads(orjson.dumps(made))
                strategy.prepare_update(resource, new, previous, subresource)
                for error in strategy.validate_update(resource, new, previous, subresource):
                    str(error)
        previous = made
