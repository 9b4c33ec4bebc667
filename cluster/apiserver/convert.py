"""Resources served in a version other than the one that is stored: who needs converting, and how
selectors are translated. The conversions themselves are cluster.api.convert's."""

from __future__ import annotations

from cluster.api.catalogue import Catalogue, Resource


def stored_resource(catalogue: Catalogue, served: Resource) -> Resource:
    """The resource in whose form objects of `served` lie in the store (often itself)."""
    try:
        return catalogue.storage_version(served.group, served.plural)
    except KeyError:
        return served


def stored_selector(served: Resource, field_selector: str) -> str:
    """Field labels of `served` as the stored form names them."""
    if (served.group, served.plural) != ("events.k8s.io", "events"):
        return field_selector
    return field_selector.replace("regarding.", "involvedObject.").replace(
        "reportingController", "reportingComponent"
    )
