"""Which resources the API server serves, as it says itself: for controllers that treat every type
alike.

Plays client-go/discovery (ServerPreferredResources). Asked again from time to time, so that types
of CustomResourceDefinitions come and go.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import orjson

from cluster.api.meta import GVR, Object
from cluster.client import Client


@dataclass(frozen=True, slots=True)
class ApiResource:
    """One served resource, in its group's preferred version."""

    gvr: GVR
    kind: str
    namespaced: bool
    verbs: frozenset[str]

    @property
    def api_version(self) -> str:
        return self.gvr.api_version


class DiscoveryFailed(Exception):
    """Some group version did not answer."""


async def discover(client: Client) -> list[ApiResource]:
    """Every resource once, in its preferred version. Raises DiscoveryFailed."""
    groups = (await _read(client, "/apis")).get("groups") or []
    versions: list[tuple[str, str]] = [("", "v1")]
    for group in groups:
        preferred = (group.get("preferredVersion") or {}).get("version", "")
        named = [v["version"] for v in group.get("versions") or ()]
        ordered = [v for v in named if v == preferred] + [v for v in named if v != preferred]
        versions.extend((group["name"], v) for v in ordered)
    paths = [f"/apis/{g}/{v}" if g else f"/api/{v}" for g, v in versions]
    documents = await asyncio.gather(*(_read(client, p) for p in paths))
    found: dict[tuple[str, str], ApiResource] = {}
    for (group_name, version), document in zip(versions, documents, strict=True):
        for entry in document.get("resources") or ():
            if "/" in entry["name"] or (group_name, entry["name"]) in found:
                continue
            found[group_name, entry["name"]] = ApiResource(
                GVR(group_name, version, entry["name"]),
                entry["kind"],
                bool(entry["namespaced"]),
                frozenset(entry.get("verbs") or ()),
            )
    return list(found.values())


async def _read(client: Client, path: str) -> Object:
    status, body = await client.raw("GET", path)
    if status != 200:
        raise DiscoveryFailed(f"{path} answered {status}")
    document: Object = orjson.loads(body)
    return document
