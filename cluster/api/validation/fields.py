"""The small checks that all kinds share: names, ranges, enumerations, immutability, addresses,
quantities."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from cluster.api import names, quantity
from cluster.api.errors import FieldError, forbidden, invalid, required

Errors = list[FieldError]
Nano = int
"""A quantity in billionths: exact, and an int compares ten times faster than a Fraction."""

ONE: Nano = 10**9

IMMUTABLE = "field is immutable"
NEGATIVE = "must be greater than or equal to 0"
MAX_INT32 = 2**31 - 1
PROTOCOLS = ("SCTP", "TCP", "UDP")
_QUANTITY = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)


def unsupported(path: str, value: object, allowed: Sequence[str]) -> FieldError:
    """NotSupported with the values in the given order: upstream sorts some and not others."""
    shown = ", ".join(f'"{each}"' for each in allowed)
    return FieldError("FieldValueNotSupported", path, value, f"supported values: {shown}")


def one_of(value: object, allowed: Sequence[str], path: str, errors: Errors) -> None:
    """A required enumeration."""
    if value not in allowed:
        errors.append(unsupported(path, value, allowed) if value else required(path))


def name(value: str, check: names.NameCheck, path: str, errors: Errors) -> None:
    for message in check(value):
        errors.append(invalid(path, value, message))


def nonnegative(obj: dict[str, Any], key: str, path: str, errors: Errors) -> None:
    value = obj.get(key)
    if value is not None and value < 0:
        errors.append(invalid(f"{path}.{key}", value, NEGATIVE))


def immutable(new: object, old: object, path: str, errors: Errors) -> None:
    if new != old and (new or old):
        errors.append(invalid(path, new, IMMUTABLE))


def immutable_when(
    flag: str, new: dict[str, Any], old: dict[str, Any], keys: Iterable[str]
) -> Errors:
    """ConfigMaps and Secrets that declare themselves immutable."""
    errors: Errors = []
    if not old.get(flag):
        return errors
    detail = "field is immutable when `immutable` is set"
    if not new.get(flag):
        errors.append(forbidden(flag, detail))
    for key in keys:
        if (new.get(key) or {}) != (old.get(key) or {}):
            errors.append(forbidden(key, detail))
    return errors


def port_number(value: int, path: str, errors: Errors) -> None:
    if not 1 <= value <= 65535:
        errors.append(invalid(path, value, names.in_range(1, 65535)))


def port_number_or_name(value: int | str, path: str, errors: Errors) -> None:
    if isinstance(value, str):
        name(value, names.port_name, path, errors)
    else:
        port_number(value, path, errors)


def protocol(value: str | None, path: str, errors: Errors) -> None:
    one_of(value, PROTOCOLS, path, errors)


def int_or_percent(value: int | str, path: str, errors: Errors) -> None:
    """A non-negative count or a percentage (ValidatePositiveIntOrPercent)."""
    if isinstance(value, str):
        for message in names.percent(value):
            errors.append(invalid(path, value, message))
    elif value < 0:
        errors.append(invalid(path, value, NEGATIVE))


def not_over_100_percent(value: int | str | None, path: str, errors: Errors) -> None:
    if (
        isinstance(value, str)
        and value.endswith("%")
        and value[:-1].isdigit()
        and int(value[:-1]) > 100
    ):
        errors.append(invalid(path, value, "must not be greater than 100%"))


def leading_int(value: int | str | None) -> int:
    """The number of an int-or-percent; 0 for text that is neither."""
    if isinstance(value, str):
        digits = value.removesuffix("%")
        return int(digits) if digits.isdigit() else 0
    return value or 0


def valid_ip(value: str, path: str, errors: Errors) -> None:
    if parse_ip(value) is None:
        detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
        errors.append(invalid(path, value, detail))


def valid_cidr(value: str, path: str, errors: Errors) -> None:
    try:
        ipaddress.ip_interface(value)
        valid = "/" in value
    except ValueError:
        valid = False
    if not valid:
        detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
        errors.append(invalid(path, value, detail))


@lru_cache(maxsize=8192)
def parse_ip(value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address, or None. Leading zeros are read as decimal, as upstream's sloppy parser does."""
    try:
        return ipaddress.ip_address(value)
    except ValueError:
        parts = value.split(".")
        if len(parts) == 4 and all(p.isdigit() and p.isascii() and int(p) <= 255 for p in parts):
            return ipaddress.ip_address(".".join(str(int(p)) for p in parts))
        return None


def ordinary_ip(value: str, path: str, errors: Errors) -> None:
    """No address that means nothing outside its host (ValidateNonSpecialIP)."""
    for message in special_ip(value):
        errors.append(invalid(path, value, message))


@lru_cache(maxsize=8192)
def special_ip(value: str) -> tuple[str, ...]:
    """What is special about an address; empty for the addresses of pods and machines."""
    ip = parse_ip(value)
    if ip is None:
        return ("must be a valid IP address",)
    found = []
    if ip.is_unspecified:
        found.append(f"may not be unspecified ({value})")
    if ip.is_loopback:
        found.append("may not be in the loopback range (127.0.0.0/8, ::1/128)")
    if ip.is_link_local:
        found.append("may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    if value.startswith("224.0.0.") or value.lower().startswith("ff02:"):
        found.append("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
    return tuple(found)


@lru_cache(maxsize=8192)
def amount(value: str | int | float) -> Nano | None:
    """The number of a quantity in billionths, None if it is none."""
    try:
        return int(quantity.parse(value) * ONE)
    except ValueError:
        return None


def checked_amount(value: str | int | float, path: str, errors: Errors) -> Nano | None:
    number = amount(value)
    if number is None:
        errors.append(invalid(path, value, _QUANTITY))
    return number


def relative_path(value: str, path: str, errors: Errors) -> None:
    """A path below some root: relative, without `..`."""
    if value.startswith("/"):
        errors.append(invalid(path, value, "must be a relative path"))
    no_backsteps(value, path, errors)


def no_backsteps(value: str, path: str, errors: Errors) -> None:
    if ".." in value.split("/"):
        errors.append(invalid(path, value, "must not contain '..'"))


def local_path(value: str, path: str, errors: Errors) -> None:
    """A relative path whose name is not one the kubelet keeps for itself."""
    relative_path(value, path, errors)
    if value.startswith("..") and not value.startswith("../") and value != "..":
        errors.append(invalid(path, value, "must not start with '..'"))


def file_mode(value: int | None, path: str, errors: Errors) -> None:
    if value is not None and not 0 <= value <= 0o777:
        detail = "must be a number between 0 and 0777 (octal), both inclusive"
        errors.append(invalid(path, value, detail))
