"""Questions and answers on the wire (RFC 1035, 2308, 6891). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from dnslib import CLASS, EDNS0, QTYPE, RCODE, RR, DNSError, DNSHeader, DNSRecord
from dnslib import CNAME as CnameData
from dnslib import NS as NsData
from dnslib import PTR as PtrData
from dnslib import SOA as SoaData
from dnslib import SRV as SrvData
from dnslib import TXT as TxtData
from dnslib import A as AData

from cluster.dns import records
from cluster.dns.records import TTL_SECONDS, Found, Record

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
PLAIN_BYTES, MAX_UDP_BYTES, MAX_TCP_BYTES = 512, 1232, 65_535


@dataclass(frozen=True, slots=True)
class Question:
    """One question. `udp_bytes`: the answer that the client can take by UDP. `edns`: it speaks
    EDNS0."""

    id: int
    name: str
    type: int
    recursion: bool
    udp_bytes: int
    edns: bool
    record: DNSRecord

    @property
    def type_name(self) -> str:
        return str(QTYPE.get(self.type, "other")) if self.type in QTYPE.forward else "other"


class BadQuestion(Exception):
    """Not a question that can be answered; `answer` is what to send back (b'': nothing)."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("bad question")
        self.answer = answer


def parse(data: bytes) -> Question:
    """Raises BadQuestion."""
    if len(data) < 12 or data[2] & 0x80:
        raise BadQuestion(b"")
    if data[2] >> 3 & 15:
        raise BadQuestion(_bare(data, NOTIMP))
    try:
        record = DNSRecord.parse(data)
    except (DNSError, ValueError, IndexError, UnicodeDecodeError):
        raise BadQuestion(_bare(data, FORMERR)) from None
    if len(record.questions) != 1:
        raise BadQuestion(_bare(data, FORMERR))
    asked = record.q
    if asked.qclass not in (CLASS.IN, 255):
        raise BadQuestion(_bare(data, REFUSED))
    options = [r for r in record.ar if r.rtype == QTYPE.OPT]
    size = min(max(PLAIN_BYTES, options[0].rclass), MAX_UDP_BYTES) if options else PLAIN_BYTES
    return Question(
        record.header.id,
        str(asked.qname),
        asked.qtype,
        bool(record.header.rd),
        size,
        bool(options),
        record,
    )


def encode(
    question: Question, found: Found, domain: str, *, serial: int, tcp: bool, turn: int = 0
) -> bytes:
    """The answer. `turn` rotates the addresses, so that clients spread. What does not fit is cut,
    with the TC bit."""
    code = NOERROR if found.exists else NXDOMAIN
    if not found.mine and not found.answers:
        code = REFUSED
    answer = _reply(question, code, authoritative=found.mine)
    rows = found.answers
    if turn and len(rows) > 1 and rows[0].type != records.CNAME:
        rows = rows[turn % len(rows) :] + rows[: turn % len(rows)]
    for record in rows:
        answer.add_answer(_row(record, domain, serial))
    if found.mine and not rows:
        answer.add_auth(_row(Record(domain, records.SOA, ""), domain, serial))
    for record in found.additional:
        answer.add_ar(_row(record, domain, serial))
    if question.edns:
        answer.add_ar(EDNS0(udp_len=MAX_UDP_BYTES))
    limit = MAX_TCP_BYTES if tcp else question.udp_bytes
    packed = bytes(answer.pack())
    while len(packed) > limit:
        answer.header.tc = 1
        answer.ar = [r for r in answer.ar if r.rtype == QTYPE.OPT]
        spare = max(1, (len(packed) - limit) // 64)
        if not answer.rr:
            break
        if len(packed) > limit:
            del answer.rr[-spare:]
        packed = bytes(answer.pack())
    return packed


def error(question: Question, code: int) -> bytes:
    """An answer that is only a code."""
    answer = _reply(question, code, authoritative=False)
    if question.edns:
        answer.add_ar(EDNS0(udp_len=MAX_UDP_BYTES))
    return bytes(answer.pack())


def rcode_of(answer: bytes) -> str:
    code = answer[3] & 15
    return str(RCODE.get(code)) if code in RCODE.forward else str(code)


def _reply(question: Question, code: int, *, authoritative: bool) -> DNSRecord:
    header = DNSHeader(
        id=question.id, qr=1, aa=int(authoritative), ra=1, rd=int(question.recursion), rcode=code
    )
    return DNSRecord(header, q=question.record.q)


def _row(record: Record, domain: str, serial: int) -> RR:
    data, kind = record.data, record.type
    if kind == records.SRV and isinstance(data, tuple):
        value = SrvData(data[0], data[1], data[2], data[3])
    elif kind == records.A:
        value = AData(data)
    elif kind == records.CNAME:
        value = CnameData(data)
    elif kind == records.PTR:
        value = PtrData(data)
    elif kind == records.NS:
        value = NsData(data)
    elif kind == records.TXT:
        value = TxtData(data)
    else:
        times = (serial, 7200, 1800, 86400, TTL_SECONDS)
        value = SoaData(f"ns.dns.{domain}", f"hostmaster.{domain}", times)
    return RR(record.name, kind, ttl=TTL_SECONDS, rdata=value)


def _bare(data: bytes, code: int) -> bytes:
    """An answer to what could not be read: only the header."""
    return data[:2] + bytes((0x80 | data[2] & 0x79, code)) + b"\0" * 8
