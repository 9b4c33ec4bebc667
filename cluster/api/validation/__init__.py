"""Validation of every built-in kind, in Kubernetes' own words and field paths.

Plays pkg/apis/*/validation. A check appends `FieldError`s to a list; `create` and `update` choose
the checks of a kind. Where upstream looks at everything on each update, an unchanged part is not
looked at again: it was valid when it was stored. When in doubt, accept: an emulator that refuses
what Kubernetes takes is useless.
"""

from cluster.api.validation.dispatch import create, update

__all__ = ["create", "update"]
