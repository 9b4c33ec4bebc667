"""The cluster DNS: CoreDNS's part, after the Kubernetes DNS specification 1.1.0.

`records.py` answers questions (pure), `message.py` speaks the wire format, `server.py` serves
handed-in sockets, `forward.py` asks upstream resolvers. Left out: DNSSEC, zone transfers, IPv6
records.
"""

from cluster.dns.forward import read_resolv_conf
from cluster.dns.records import Found, Names, Record
from cluster.dns.server import DnsServer

__all__ = ["DnsServer", "Found", "Names", "Record", "read_resolv_conf"]
