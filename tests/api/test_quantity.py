"""Quantities against upstream's table of canonical forms."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.api.quantity import FORMAT_WRONG, canonical, format_value, milli_value, parse, value

CANONICAL = {
    "0": "0", "0Ki": "0", "0.0": "0", "1000m": "1", "0.5": "500m", "100m": "100m", "1.5": "1500m",
    "1024Mi": "1Gi", "1000Ki": "1000Ki", "512Ki": "512Ki", "0.5Gi": "512Mi", "1.1Ki": "1126400m",
    "1000k": "1M", "123456k": "123456k", "1e3": "1e3", "12E6": "12e6", "1E": "1E", "1000": "1k",
    "129M": "129M", "1n": "1n", "0.1n": "1n", "-1500m": "-1500m", "+2": "2", ".5": "500m",
    "5.": "5", "-1024Ki": "-1Mi", "1023": "1023", "1048576": "1048576", "100u": "100u",
    "1e-3": "1e-3", "2Ti": "2Ti", "9Ei": "9223372036854775807",
}  # fmt: skip


@pytest.mark.parametrize(("given_text", "shown"), CANONICAL.items())
def test_a_quantity_is_answered_in_its_canonical_form(given_text: str, shown: str) -> None:
    assert canonical(given_text) == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", FORMAT_WRONG),
        ("1.1.1", FORMAT_WRONG),
        ("1x", FORMAT_WRONG),
        (" 1", FORMAT_WRONG),
        ("abc", FORMAT_WRONG),
        ("1Kii", "unable to parse quantity's suffix"),
        ("1mm", "unable to parse quantity's suffix"),
        ("-", "unable to parse numeric part of quantity"),
    ],
)
def test_what_is_no_quantity_is_refused_in_upstreams_words(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        parse(text)
    assert str(error.value) == message


def test_milli_value_and_value_round_up() -> None:
    assert milli_value("100m") == 100
    assert milli_value("1500u") == 2
    assert milli_value(2) == 2000
    assert milli_value(0.1) == 100
    assert value("1500m") == 2
    assert value("1Gi") == 2**30
    assert value("0.1") == 1


def test_numbers_are_quantities_too() -> None:
    assert canonical(1) == "1"
    assert canonical(0.25) == "250m"


def test_formatting_keeps_the_binary_style_from_1024_up() -> None:
    assert format_value(2**20, binary=True) == "1Mi"
    assert format_value(1000, binary=True) == "1k"


_NUMBERS = st.one_of(
    st.integers(-(10**9), 10**9).map(str),
    st.decimals(-1000, 1000, places=4).map(lambda d: f"{d:f}"),
)
_SUFFIXES = st.sampled_from(["", "m", "u", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "E2", "e-2"])


@given(_NUMBERS, _SUFFIXES)
def test_the_canonical_form_means_the_same_and_is_its_own_canonical_form(
    number: str, suffix: str
) -> None:
    text = number + suffix
    exact = parse(text)
    shown = canonical(text)
    assert parse(shown) == exact
    assert canonical(shown) == shown
    assert exact * 10**9 == int(exact * 10**9)


@given(st.integers(-(10**15), 10**15))
def test_a_whole_number_is_exact(number: int) -> None:
    assert parse(str(number)) == Fraction(number)
    assert value(number) == number
