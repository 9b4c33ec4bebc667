"""Defaults of every built-in kind, filled in before validation.

Plays pkg/apis/*/v*/defaults.go (and the defaults its generated code takes from field tags). Each
function changes the object in place and does nothing the second time. As upstream, a quantity is
stored in its canonical form and a field that an empty Go struct would write out (`resources: {}`)
is written out.
"""

from cluster.api.defaults.table import defaulter

__all__ = ["defaulter"]
