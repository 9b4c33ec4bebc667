"""Names and values that have a grammar: DNS labels, subdomains, label keys and values, ports,
percentages.

Plays k8s.io/apimachinery/pkg/util/validation and .../api/validation's name functions. Each check
returns the messages upstream would print (empty: valid). Label keys and values repeat in every
object, so their verdicts are remembered.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

Messages = tuple[str, ...]
NameCheck = Callable[[str], Messages]
OK: Messages = ()

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_UNDERSCORE = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_SUBDOMAIN_UNDERSCORE = rf"{_LABEL_UNDERSCORE}(\.{_LABEL_UNDERSCORE})*"
_DNS1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_WILDCARD = rf"\*\.{_SUBDOMAIN}"
_ENV_NAME = "[-._a-zA-Z][-._a-zA-Z0-9]*"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_PERCENT = "[0-9]+%"
_HEADER = "[-A-Za-z0-9]+"
_C_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"

_is_label = re.compile(_LABEL).fullmatch
_is_subdomain = re.compile(_SUBDOMAIN).fullmatch
_is_subdomain_underscore = re.compile(_SUBDOMAIN_UNDERSCORE).fullmatch
_is_dns1035 = re.compile(_DNS1035).fullmatch
_is_qualified = re.compile(_QUALIFIED).fullmatch
_is_wildcard = re.compile(_WILDCARD).fullmatch
_is_config_key = re.compile(_CONFIG_KEY).fullmatch
_is_percent = re.compile(_PERCENT).fullmatch
_is_header = re.compile(_HEADER).fullmatch
_is_c_identifier = re.compile(_C_IDENTIFIER).fullmatch
_is_port_charset = re.compile("[-a-z0-9]+").fullmatch
_has_letter = re.compile("[a-z]").search

_QUALIFIED_MESSAGE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character"
)
_LABEL_VALUE_MESSAGE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character"
)
_LABEL_MESSAGE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters "
    "or '-', and must "
    "start and end with an alphanumeric character"
)
_SUBDOMAIN_MESSAGE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric "
    "characters, '-' or '.', "
    "and must start and end with an alphanumeric character"
)
_SUBDOMAIN_UNDERSCORE_MESSAGE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric "
    "characters, '_', '-' or "
    "'.', and must start and end with an alphanumeric character"
)
_DNS1035_MESSAGE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character"
)
_WILDCARD_MESSAGE = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS "
    "subdomain, which must "
    "consist of lower case alphanumeric characters, '-' or '.' and end with an "
    "alphanumeric character"
)


def max_length(limit: int) -> str:
    return f"must be no more than {limit} bytes"


def in_range(low: int, high: int) -> str:
    return f"must be between {low} and {high}, inclusive"


def regex_message(text: str, pattern: str, *examples: str) -> str:
    """Upstream's RegexError, its two spaces before 'or' included."""
    if not examples:
        return f"{text} (regex used for validation is '{pattern}')"
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{text} (e.g. {shown}regex used for validation is '{pattern}')"


@lru_cache(maxsize=8192)
def dns_label(value: str) -> Messages:
    """RFC 1123 label: names of namespaces, containers, volumes."""
    if len(value) <= 63 and _is_label(value):
        return OK
    messages = [max_length(63)] if len(value) > 63 else []
    if not _is_label(value):
        if _is_subdomain(value):
            messages.append("must not contain dots")
        else:
            messages.append(regex_message(_LABEL_MESSAGE, _LABEL, "my-name", "123-abc"))
    return tuple(messages)


@lru_cache(maxsize=8192)
def dns_subdomain(value: str) -> Messages:
    """RFC 1123 subdomain: names of most kinds."""
    return _matching(
        value, 253, _is_subdomain(value), _SUBDOMAIN_MESSAGE, _SUBDOMAIN, "example.com"
    )


def dns_subdomain_underscore(value: str) -> Messages:
    matched = _is_subdomain_underscore(value)
    return _matching(
        value, 253, matched, _SUBDOMAIN_UNDERSCORE_MESSAGE, _SUBDOMAIN_UNDERSCORE, "example.com"
    )


def dns1035_label(value: str) -> Messages:
    """RFC 1035 label: names of Services."""
    matched = _is_dns1035(value)
    return _matching(value, 63, matched, _DNS1035_MESSAGE, _DNS1035, "my-name", "abc-123")


def wildcard_subdomain(value: str) -> Messages:
    matched = _is_wildcard(value)
    return _matching(value, 253, matched, _WILDCARD_MESSAGE, _WILDCARD, "*.example.com")


def path_segment(value: str) -> Messages:
    """Names of RBAC objects: anything that is one segment of a URL path."""
    if value in (".", ".."):
        return (f"may not be '{value}'",)
    return tuple(f"may not contain '{bad}'" for bad in ("/", "%") if bad in value)


def prefix_of(check: NameCheck, value: str) -> Messages:
    """`check` for a generateName: a dash at its end will be followed by something."""
    if len(value) > 1 and value.endswith("-"):
        value = value[:-2] + "a"
    return check(value)


@lru_cache(maxsize=8192)
def qualified_name(value: str) -> Messages:
    """Key of a label, name of a resource or finalizer: `[prefix/]name`."""
    prefix, slash, name = value.partition("/")
    if not slash:
        prefix, name = "", value
    elif "/" in name:
        message = "a valid label key " + regex_message(
            _QUALIFIED_MESSAGE, _QUALIFIED, "MyName", "my.name", "123-abc"
        )
        return (
            f"{message} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
        )
    messages: list[str] = []
    if slash:
        if not prefix:
            messages.append("prefix part must be non-empty")
        else:
            messages += [f"prefix part {message}" for message in dns_subdomain(prefix)]
    if not name:
        messages.append("name part must be non-empty")
    elif len(name) > 63:
        messages.append(f"name part {max_length(63)}")
    if not _is_qualified(name):
        shown = regex_message(_QUALIFIED_MESSAGE, _QUALIFIED, "MyName", "my.name", "123-abc")
        messages.append(f"name part {shown}")
    return tuple(messages)


@lru_cache(maxsize=8192)
def label_value(value: str) -> Messages:
    if not value or (len(value) <= 63 and _is_qualified(value)):
        return OK
    pattern = f"({_QUALIFIED})?"
    matched = _is_qualified(value)
    examples = ("MyValue", "my_value", "12345")
    return _matching(value, 63, matched, _LABEL_VALUE_MESSAGE, pattern, *examples)


@lru_cache(maxsize=1024)
def port_name(value: str) -> Messages:
    """An IANA service name, as ports and probes use it."""
    messages: list[str] = []
    if len(value) > 15:
        messages.append(max_length(15))
    if not _is_port_charset(value):
        messages.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not _has_letter(value):
        messages.append("must contain at least one letter (a-z)")
    if "--" in value:
        messages.append("must not contain consecutive hyphens")
    if value.startswith("-") or value.endswith("-"):
        messages.append("must not begin or end with a hyphen")
    return tuple(messages)


def env_name(value: str) -> Messages:
    """A relaxed environment variable name: printable ASCII without `=`."""
    if not value:
        return ("environment variable name must be non-empty",)
    if value.isascii() and value.isprintable() and "=" not in value:
        return OK
    return (
        "a valid environment variable name must consist only of printable ASCII characters other "
        "than '='",
    )


def config_key(value: str) -> Messages:
    """A key of a ConfigMap or Secret."""
    messages: list[str] = []
    if len(value) > 253:
        messages.append(max_length(253))
    if not _is_config_key(value):
        text = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        examples = ("key.name", "KEY_NAME", "key-name")
        messages.append(regex_message(text, _CONFIG_KEY, *examples))
    if value in (".", ".."):
        messages.append(f"must not be '{value}'")
    elif value.startswith(".."):
        messages.append("must not start with '..'")
    return tuple(messages)


def percent(value: str) -> Messages:
    if _is_percent(value):
        return OK
    text = "a valid percent string must be a numeric string followed by an ending '%'"
    return (regex_message(text, _PERCENT, "1%", "93%"),)


def header_name(value: str) -> Messages:
    if _is_header(value):
        return OK
    text = "a valid HTTP header must consist of alphanumeric characters or '-'"
    return (regex_message(text, _HEADER, "X-Header-Name"),)


def c_identifier(value: str) -> Messages:
    if _is_c_identifier(value):
        return OK
    text = (
        "a valid C identifier must start with alphabetic character or '_', followed by a string of "
        "alphanumeric characters or '_'"
    )
    return (regex_message(text, _C_IDENTIFIER, "my_name", "MY_NAME", "MyName"),)


def _matching(
    value: str, limit: int, matched: object, text: str, pattern: str, *examples: str
) -> Messages:
    if matched and len(value) <= limit:
        return OK
    messages = [max_length(limit)] if len(value) > limit else []
    if not matched:
        messages.append(regex_message(text, pattern, *examples))
    return tuple(messages)
