"""Quantities: "250m", "1Gi", "2e3".

Plays k8s.io/apimachinery/pkg/api/resource. Values are exact rationals down to nano; anything finer
is rounded away from zero, as upstream. Parsing is cached: a cluster uses a few hundred distinct
quantities.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache

_GRAMMAR = re.compile(r"([+-]?)([0-9]*)(?:(\.)([0-9]*))?(.*)", re.DOTALL)
_EXPONENT = re.compile(r"[eE]([+-]?[0-9]+)")

FORMAT_WRONG = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)
_NUMERIC = "unable to parse numeric part of quantity"
_SUFFIX = "unable to parse quantity's suffix"

_DECIMAL = {
    "n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18,
}  # fmt: skip
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_NAMES = {exponent: name for name, exponent in _DECIMAL.items()}
_BINARY_NAMES = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_NANO = 10**9
_MAX = (2**63 - 1) * _NANO

Number = str | int | float


def parse(quantity: Number) -> Fraction:
    """The exact value. Raises ValueError with upstream's message."""
    return Fraction(_parsed(_text(quantity))[0], _NANO)


def milli_value(quantity: Number) -> int:
    """Thousandths, rounded up (Quantity.MilliValue)."""
    return _milli(_text(quantity))


def value(quantity: Number) -> int:
    """Whole units, rounded up (Quantity.Value)."""
    return _whole(_text(quantity))


def canonical(quantity: Number) -> str:
    """The text the API server answers with: "1000m" -> "1", "0.5" -> "500m", "1024Mi" -> "1Gi"."""
    return _canonical(_text(quantity))


def format_milli(milli: int) -> str:
    """The canonical decimal text of so many thousandths (resource.NewMilliQuantity)."""
    return _decimal(milli * 1_000_000, "decimal")


def format_value(whole: int, *, binary: bool = False) -> str:
    """The canonical text of so many units (resource.NewQuantity in DecimalSI or BinarySI)."""
    nano = whole * _NANO
    return _format(nano, "binary" if binary else "decimal")


def _text(quantity: Number) -> str:
    if type(quantity) is str:
        return quantity
    if isinstance(quantity, bool):
        raise ValueError(FORMAT_WRONG)
    if isinstance(quantity, float):
        return repr(quantity) if math.isfinite(quantity) else "nan"
    return str(quantity)


@lru_cache(maxsize=8192)
def _milli(text: str) -> int:
    return _divide_up(_parsed(text)[0], 10**6)


@lru_cache(maxsize=8192)
def _whole(text: str) -> int:
    return _divide_up(_parsed(text)[0], _NANO)


@lru_cache(maxsize=8192)
def _canonical(text: str) -> str:
    nano, style = _parsed(text)
    return _format(nano, style)


def _divide_up(number: int, by: int) -> int:
    """Integer division that rounds away from zero."""
    return -(-number // by) if number >= 0 else number // by


@lru_cache(maxsize=8192)
def _parsed(text: str) -> tuple[int, str]:
    """Nano units and the style that the suffix asks for: decimal, binary or exponent."""
    sign, whole, fraction, suffix = _split(text)
    exponent, style = _scale(suffix)
    digits = int((whole + fraction) or "0")
    scale = Fraction(2**exponent) if style == "binary" else Fraction(10) ** exponent
    exact = digits * scale / 10 ** len(fraction) * _NANO
    nano = min(math.ceil(exact), _MAX)
    return (-nano if sign == "-" else nano), style


def _split(text: str) -> tuple[str, str, str, str]:
    if not text or len(text) > 256:
        raise ValueError(FORMAT_WRONG)
    matched = _GRAMMAR.match(text)
    assert matched is not None
    sign, whole, dot, fraction, suffix = (part or "" for part in matched.groups())
    if suffix.strip("eEinumkKMGTP+-0123456789"):
        raise ValueError(FORMAT_WRONG)
    if not whole and not fraction:
        raise ValueError(FORMAT_WRONG if not (sign or dot) or suffix else _NUMERIC)
    if not (whole + fraction).isascii():
        raise ValueError(FORMAT_WRONG)
    return sign, whole, fraction, suffix


def _scale(suffix: str) -> tuple[int, str]:
    if suffix in _DECIMAL:
        return _DECIMAL[suffix], "decimal"
    if suffix in _BINARY:
        return _BINARY[suffix], "binary"
    matched = _EXPONENT.fullmatch(suffix)
    if matched is None or len(suffix) > 6:
        raise ValueError(_SUFFIX)
    return max(-1000, min(1000, int(matched[1]))), "exponent"


def _format(nano: int, style: str) -> str:
    if style == "binary":
        whole, rest = divmod(abs(nano), _NANO)
        if rest == 0 and whole >= 1024:
            return _binary(whole, negative=nano < 0)
        style = "decimal"
    return _decimal(nano, style)


def _binary(whole: int, *, negative: bool) -> str:
    power = 0
    while whole % 1024 == 0 and power < len(_BINARY_NAMES) - 1:
        whole //= 1024
        power += 1
    return f"{'-' if negative else ''}{whole}{_BINARY_NAMES[power]}"


def _decimal(nano: int, style: str) -> str:
    if nano == 0:
        return "0"
    exponent = -9
    while nano % 1000 == 0 and (style == "exponent" or exponent < 18):
        nano //= 1000
        exponent += 3
    if style == "exponent":
        return f"{nano}e{exponent}" if exponent else str(nano)
    return f"{nano}{_DECIMAL_NAMES[exponent]}"
