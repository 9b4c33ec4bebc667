"""Label and field selectors: which objects a list, a watch or a controller means.

Plays k8s.io/apimachinery/pkg/labels and pkg/fields. A selector is parsed once and compiled into a
plain predicate, because a watch asks it for every event. Messages are upstream's. Unlike
Kubernetes: a field selector also knows `path in (a,b)`, for kubelets that share one watch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cluster.api.errors import BadRequest
from cluster.api.meta import Object
from cluster.api.names import label_value, qualified_name

Labels = Mapping[str, str]
Predicate = Callable[[Labels], bool]

_TOKEN = re.compile(r"\s*(==|!=|[()=!,<>]|[^\s()=!,<>]+)")
_BINARY_OPERATORS = ("in", "notin", "=", "==", "!=", "gt", "lt")
_SPELLING = {"=": "=", "==": "=", "!=": "!=", "in": "in", "notin": "notin", ">": ">", "<": "<"}
_SYMBOLS = frozenset((")", "(", "=", "==", "!=", ",", "!", "<", ">"))


@dataclass(frozen=True, slots=True)
class LabelRequirement:
    """One clause. `operator` is one of: = != in notin exists ! > <"""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.operator == "exists":
            return self.key
        if self.operator == "!":
            return f"!{self.key}"
        if self.operator in ("in", "notin"):
            return f"{self.key} {self.operator} ({','.join(sorted(self.values))})"
        return f"{self.key}{self.operator}{self.values[0] if self.values else ''}"

    def predicate(self) -> Predicate:
        """This clause as a function of the labels."""
        key, values = self.key, frozenset(self.values)
        match self.operator:
            case "=" | "in" if len(values) == 1:
                (only,) = values
                return lambda labels: labels.get(key) == only
            case "=" | "in":
                return lambda labels: labels.get(key) in values
            case "!=" | "notin":
                return lambda labels: labels.get(key) not in values
            case "exists":
                return lambda labels: key in labels
            case "!":
                return lambda labels: key not in labels
            case ">" | "<":
                return _comparison(key, int(self.values[0]), greater=self.operator == ">")
        raise AssertionError(self.operator)


def _comparison(key: str, bound: int, *, greater: bool) -> Predicate:
    def compare(labels: Labels) -> bool:
        try:
            number = int(labels[key])
        except (KeyError, ValueError):
            return False
        return number > bound if greater else number < bound

    return compare


class LabelSelector:
    """A conjunction of requirements, or nothing at all (`nothing`)."""

    __slots__ = ("_predicates", "nothing", "requirements")

    def __init__(
        self, requirements: Iterable[LabelRequirement] = (), *, nothing: bool = False
    ) -> None:
        self.requirements = tuple(sorted(requirements, key=lambda r: r.key))
        self.nothing = nothing
        self._predicates = tuple(r.predicate() for r in self.requirements)

    @classmethod
    def parse(cls, text: str) -> LabelSelector:
        """The selector of a query parameter. Raises BadRequest with upstream's words."""
        return cls(_Parser(text).parse()) if text else _EVERYTHING

    @classmethod
    def from_dict(cls, selector: Mapping[str, Any] | None) -> LabelSelector:
        """metav1.LabelSelector: None selects nothing, {} everything (LabelSelectorAsSelector)."""
        if selector is None:
            return cls(nothing=True)
        requirements = [
            LabelRequirement(k, "=", (v,)) for k, v in (selector.get("matchLabels") or {}).items()
        ]
        for expression in selector.get("matchExpressions") or ():
            operator = _OPERATORS.get(expression.get("operator", ""))
            if operator is None:
                raise BadRequest(
                    f'"{expression.get("operator", "")}" is not a valid label selector operator'
                )
            requirements.append(
                LabelRequirement(expression["key"], operator, tuple(expression.get("values") or ()))
            )
        return cls(requirements)

    @classmethod
    def from_map(cls, labels: Mapping[str, str] | None) -> LabelSelector:
        """Exactly these labels (labels.SelectorFromSet): an empty map selects everything."""
        return cls(LabelRequirement(k, "=", (v,)) for k, v in (labels or {}).items())

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        if self.nothing:
            return False
        labels = labels or {}
        return all(predicate(labels) for predicate in self._predicates)

    def empty(self) -> bool:
        """Does it select everything?"""
        return not self.requirements and not self.nothing

    def exact(self) -> dict[str, str]:
        """The labels that a match must carry with exactly one value: what an index can use."""
        return {
            r.key: r.values[0]
            for r in self.requirements
            if r.operator in ("=", "in") and len(set(r.values)) == 1
        }

    def __str__(self) -> str:
        return ",".join(str(r) for r in self.requirements)

    def __repr__(self) -> str:
        return f"LabelSelector({str(self)!r}{', nothing=True' if self.nothing else ''})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, LabelSelector)
            and self.requirements == other.requirements
            and self.nothing == other.nothing
        )

    def __hash__(self) -> int:
        return hash((self.requirements, self.nothing))


_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}
_EVERYTHING = LabelSelector()


class _Parser:
    """Recursive descent over the tokens of a label selector (labels.Parser)."""

    def __init__(self, text: str) -> None:
        self._tokens = _TOKEN.findall(text)
        self._at = 0

    def parse(self) -> list[LabelRequirement]:
        requirements: list[LabelRequirement] = []
        while True:
            token = self._peek()
            if token == "":
                return requirements
            if token in _SYMBOLS and token != "!":
                raise BadRequest(f"found '{token}', expected: !, identifier, or 'end of string'")
            try:
                requirements.append(self._requirement())
            except ValueError as error:
                raise BadRequest(f"unable to parse requirement: {error}") from error
            token = self._next()
            if token == "":
                return requirements
            if token != ",":
                raise BadRequest(f"found '{token}', expected: ',' or 'end of string'")
            token = self._peek()
            if token == "" or (token in _SYMBOLS and token != "!"):
                raise BadRequest(f"found '{token}', expected: identifier after ','")

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _requirement(self) -> LabelRequirement:
        absent = self._peek() == "!"
        if absent:
            self._at += 1
        key = self._next()
        if key == "" or key in _SYMBOLS:
            raise ValueError(f"found '{key}', expected: identifier")
        _check_key(key)
        if absent:
            return LabelRequirement(key, "!")
        if self._peek() in ("", ","):
            return LabelRequirement(key, "exists")
        spelled = self._next()
        operator = _SPELLING.get(spelled)
        if operator is None:
            raise ValueError(f"found '{spelled}', expected: {', '.join(_BINARY_OPERATORS)}")
        values = self._list() if operator in ("in", "notin") else (self._value(),)
        _check_values(key, operator, values)
        return LabelRequirement(key, operator, tuple(sorted(set(values))))

    def _value(self) -> str:
        """One exact value; `key=` means the empty one."""
        token = self._peek()
        if token in ("", ","):
            return ""
        self._at += 1
        if token in _SYMBOLS:
            raise ValueError(f"found '{token}', expected: identifier")
        return token

    def _list(self) -> tuple[str, ...]:
        token = self._next()
        if token != "(":
            raise ValueError(f"found '{token}' expected: '('")
        values: list[str] = []
        while True:
            token = self._next()
            if token == ")":
                return (*values, "")
            if token == ",":
                values.append("")
                continue
            if token == "" or token in _SYMBOLS:
                raise ValueError(f"found '{token}', expected: ',', ')' or identifier")
            values.append(token)
            token = self._next()
            if token == ")":
                return tuple(values)
            if token != ",":
                raise ValueError(f"found '{token}', expected: ',' or ')'")
            if self._peek() == ")":
                self._at += 1
                return (*values, "")


def _check_key(key: str) -> None:
    problems = qualified_name(key)
    if problems:
        raise ValueError(f'key: Invalid value: "{key}": {"; ".join(problems)}')


def _check_values(key: str, operator: str, values: tuple[str, ...]) -> None:
    if operator in (">", "<"):
        try:
            int(values[0])
        except ValueError:
            raise ValueError(
                f"values[0]: Invalid value: \"{values[0]}\": for 'Gt', 'Lt' operators, "
                "the value must be an integer"
            ) from None
    for i, value in enumerate(values):
        problems = label_value(value)
        if problems:
            raise ValueError(f'values[{i}][{key}]: Invalid value: "{value}": {"; ".join(problems)}')


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """A conjunction over single fields. A requirement is (path, operator, value): operators = and
    !=, and our own `in`, whose value is a comma-separated list."""

    requirements: tuple[tuple[str, str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> FieldSelector:
        """The selector of a query parameter. Raises BadRequest."""
        return cls(tuple(_field_requirement(text, part) for part in _split_terms(text) if part))

    def matches(self, get: Callable[[str], str]) -> bool:
        """Does it hold, where `get` gives a field's value by path?"""
        for path, operator, wanted in self.requirements:
            actual = get(path)
            if operator == "=":
                if actual != wanted:
                    return False
            elif operator == "!=":
                if actual == wanted:
                    return False
            elif actual not in _members(wanted):
                return False
        return True

    def empty(self) -> bool:
        return not self.requirements

    def exact(self, path: str) -> str | None:
        """The one value that `path` must have, if the selector says so (RequiresExactMatch)."""
        for where, operator, value in self.requirements:
            if where == path and operator == "=":
                return value
        return None

    def check_supported(self, group: str, plural: str) -> None:
        """Raise BadRequest, in upstream's words, for a field that `plural` does not offer."""
        for path, _, _ in self.requirements:
            allowed = supported_fields(group, plural)
            if path in allowed:
                continue
            if (group, plural) in SUPPORTED_FIELDS:
                raise BadRequest(f"field label not supported: {path}")
            raise BadRequest(
                f'"{path}" is not a known field selector: '
                'only "metadata.name", "metadata.namespace"'
            )

    def __str__(self) -> str:
        return ",".join(
            f"{path} in ({value})" if operator == "in" else f"{path}{operator}{_escape(value)}"
            for path, operator, value in self.requirements
        )


@lru_cache(maxsize=256)
def _members(listed: str) -> frozenset[str]:
    """The names of an `in` list; an empty list has no members, so that it matches nothing."""
    return frozenset(listed.split(",")) if listed else frozenset()


_IN = re.compile(r"\s*([\w.\-/]+)\s+in\s+\(([^()]*)\)\s*")


def _split_terms(text: str) -> list[str]:
    """Split at commas that are neither escaped nor inside parentheses."""
    terms, start, depth, i = [], 0, 0, 0
    while i < len(text):
        char = text[i]
        if char == "\\":
            i += 1
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
        elif char == "," and depth <= 0:
            terms.append(text[start:i])
            start = i + 1
        i += 1
    terms.append(text[start:])
    return terms


def _field_requirement(whole: str, term: str) -> tuple[str, str, str]:
    listed = _IN.fullmatch(term)
    if listed:
        names = [name.strip() for name in listed[2].split(",")]
        return listed[1], "in", ",".join(name for name in names if name)
    for i in range(len(term)):
        for spelled, operator in (("!=", "!="), ("==", "="), ("=", "=")):
            if term.startswith(spelled, i):
                return term[:i], operator, _unescape(term[i + len(spelled) :])
    raise BadRequest(f"invalid selector: '{whole}'; can't understand '{term}'")


def _unescape(value: str) -> str:
    if "\\" not in value and "," not in value and "=" not in value:
        return value
    out, i = [], 0
    while i < len(value):
        char = value[i]
        if char == "\\":
            i += 1
            if i == len(value) or value[i] not in "\\,=":
                shown = value[i - 1 :] if i == len(value) else value[i - 1 : i + 1]
                raise BadRequest(f"invalid field selector: invalid escape sequence: {shown}")
            char = value[i]
        elif char in ",=":
            raise BadRequest(
                f'invalid field selector: unescaped character in value: "{value}": {char}'
            )
        out.append(char)
        i += 1
    return "".join(out)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


_META = ("metadata.name", "metadata.namespace")
_EVENT_FIELDS = (
    *_META,
    "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
    "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath",
    "reason", "reportingComponent", "source", "type",
)  # fmt: skip

SUPPORTED_FIELDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "pods"): (
        *_META,
        "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
        "spec.hostNetwork", "status.phase", "status.podIP", "status.podIPs",
        "status.nominatedNodeName",
    ),
    ("", "nodes"): ("metadata.name", "spec.unschedulable"),
    ("", "events"): _EVENT_FIELDS,
    ("events.k8s.io", "events"): (
        *_META,
        "regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid",
        "regarding.apiVersion", "regarding.resourceVersion", "regarding.fieldPath",
        "reason", "reportingController", "type",
    ),
    ("", "namespaces"): ("metadata.name", "status.phase"),
    ("", "secrets"): (*_META, "type"),
    ("", "services"): (*_META, "spec.clusterIP", "spec.type"),
    ("", "replicationcontrollers"): (*_META, "status.replicas"),
    ("apps", "replicasets"): (*_META, "status.replicas"),
    ("batch", "jobs"): (*_META, "status.successful"),
    ("certificates.k8s.io", "certificatesigningrequests"): ("metadata.name", "spec.signerName"),
    ("certificates.k8s.io", "clustertrustbundles"): ("metadata.name", "spec.signerName"),
    ("certificates.k8s.io", "podcertificaterequests"): (*_META, "spec.signerName", "spec.nodeName"),
    ("resource.k8s.io", "resourceslices"): ("metadata.name", "spec.nodeName", "spec.driver"),
}  # fmt: skip
"""Field labels that a list or watch of (group, plural) may select on; others: the _META."""


def supported_fields(group: str, plural: str) -> tuple[str, ...]:
    """The field labels of a resource."""
    return SUPPORTED_FIELDS.get((group, plural), _META)


def field_value(obj: Object, path: str) -> str:
    """The text that a field selector compares, as upstream computes it: '' when absent."""
    special = _COMPUTED.get(path)
    if special is not None:
        return special(obj)
    at: Any = obj
    for step in path.split("."):
        if not isinstance(at, dict):
            return ""
        at = at.get(step)
    if at is None:
        return ""
    if at is True or at is False:
        return "true" if at else "false"
    return str(at)


def _source(event: Object) -> str:
    component = (event.get("source") or {}).get("component")
    return str(component or event.get("reportingComponent") or "")


def _flag(section: str, name: str) -> Callable[[Object], str]:
    return lambda obj: "true" if (obj.get(section) or {}).get(name) else "false"


def _count(section: str, name: str) -> Callable[[Object], str]:
    return lambda obj: str((obj.get(section) or {}).get(name) or 0)


def _pod_ips(pod: Object) -> str:
    ips = (pod.get("status") or {}).get("podIPs") or ()
    return ",".join(entry.get("ip", "") for entry in ips)


_COMPUTED: dict[str, Callable[[Object], str]] = {
    "source": _source,
    "spec.hostNetwork": _flag("spec", "hostNetwork"),
    "spec.unschedulable": _flag("spec", "unschedulable"),
    "status.replicas": _count("status", "replicas"),
    "status.successful": _count("status", "succeeded"),
    "status.podIPs": _pod_ips,
}
