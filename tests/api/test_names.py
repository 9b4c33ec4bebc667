"""Grammar of names, in Kubernetes' words."""

from __future__ import annotations

import pytest

from cluster.api import names


@pytest.mark.parametrize("value", ["a", "a-b", "0", "a" * 63])
def test_a_dns_label_is_accepted(value: str) -> None:
    assert names.dns_label(value) == ()


def test_a_bad_dns_label_names_the_rule_and_the_examples() -> None:
    assert names.dns_label("A_b") == (
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
        "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex "
        "used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
    )


def test_a_subdomain_given_as_a_label_is_told_about_its_dots() -> None:
    assert names.dns_label("a.b") == ("must not contain dots",)


def test_too_long_a_name_is_told_the_limit() -> None:
    assert names.dns_label("a" * 64) == ("must be no more than 63 bytes",)
    assert names.dns_subdomain("a" * 254) == ("must be no more than 253 bytes",)


@pytest.mark.parametrize("value", ["app", "app.kubernetes.io/name", "A_b.c", "a" * 63])
def test_a_qualified_name_is_accepted(value: str) -> None:
    assert names.qualified_name(value) == ()


def test_the_parts_of_a_qualified_name_are_judged_apart() -> None:
    messages = names.qualified_name("Bad_/-x")
    assert messages[0].startswith("prefix part a lowercase RFC 1123 subdomain must consist of")
    assert messages[1].startswith("name part must consist of alphanumeric characters")
    assert names.qualified_name("/x") == ("prefix part must be non-empty",)
    assert names.qualified_name("a/b/c")[0].endswith(
        "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
    )


def test_an_empty_label_value_is_fine_and_a_space_is_not() -> None:
    assert names.label_value("") == ()
    assert "a valid label must be an empty string or consist of" in names.label_value("a b")[0]


def test_a_generated_name_may_end_in_a_dash() -> None:
    assert names.prefix_of(names.dns_subdomain, "web-") == ()
    assert names.prefix_of(names.dns_subdomain, "Web-") != ()


def test_a_port_name_collects_everything_that_is_wrong() -> None:
    assert names.port_name("http") == ()
    assert names.port_name("-80--") == (
        "must contain at least one letter (a-z)",
        "must not contain consecutive hyphens",
        "must not begin or end with a hyphen",
    )


def test_keys_of_config_maps_stay_out_of_the_way_of_directories() -> None:
    assert names.config_key("a.b_c-d") == ()
    assert names.config_key("..") == ("must not be '..'",)
    assert names.config_key("..data") == ("must not start with '..'",)


def test_names_of_roles_are_anything_that_fits_a_path() -> None:
    assert names.path_segment("system:node:x") == ()
    assert names.path_segment("a/b%") == ("may not contain '/'", "may not contain '%'")
    assert names.path_segment("..") == ("may not be '..'",)
