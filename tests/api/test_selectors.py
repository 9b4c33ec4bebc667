"""Selectors: the grammar, its error messages, and what matches."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.api.errors import BadRequest
from cluster.api.selectors import FieldSelector, LabelSelector, field_value


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("app=web", {"app": "web"}, True),
        ("app==web", {"app": "db"}, False),
        ("app!=web", {}, True),
        ("app in (web,db)", {"app": "db"}, True),
        ("app in (web,db)", {}, False),
        ("app notin (web)", {}, True),
        ("app", {"app": ""}, True),
        ("!app", {"app": ""}, False),
        ("!app", {}, True),
        ("cores>4", {"cores": "8"}, True),
        ("cores<4", {"cores": "many"}, False),
        ("app=", {"app": ""}, True),
        ("app=web,tier!=front", {"app": "web", "tier": "back"}, True),
        ("", {"any": "thing"}, True),
    ],
)
def test_a_label_selector_matches_as_upstreams(
    text: str, labels: dict[str, str], matches: bool
) -> None:
    assert LabelSelector.parse(text).matches(labels) is matches


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",a", "found ',', expected: !, identifier, or 'end of string'"),
        ("a,", "found '', expected: identifier after ','"),
        ("a=b=c", "found '=', expected: ',' or 'end of string'"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        (
            "a b",
            "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
        ),
        ("!", "unable to parse requirement: found '', expected: identifier"),
    ],
)
def test_a_broken_label_selector_is_refused_in_upstreams_words(text: str, message: str) -> None:
    with pytest.raises(BadRequest) as error:
        LabelSelector.parse(text)
    assert error.value.message == message


def test_a_selector_object_knows_none_from_empty() -> None:
    assert not LabelSelector.from_dict(None).matches({})
    assert not LabelSelector.from_dict(None).empty()
    assert LabelSelector.from_dict({}).matches({"a": "b"})
    both = LabelSelector.from_dict(
        {
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "NotIn", "values": ["front"]},
                {"key": "gone", "operator": "DoesNotExist"},
            ],
        }
    )
    assert both.matches({"app": "web"})
    assert not both.matches({"app": "web", "tier": "front"})
    assert str(both) == "app=web,!gone,tier notin (front)"


def test_an_unknown_operator_is_refused() -> None:
    with pytest.raises(BadRequest, match='"Like" is not a valid label selector operator'):
        LabelSelector.from_dict({"matchExpressions": [{"key": "a", "operator": "Like"}]})


_KEYS = st.sampled_from(["a", "b", "app.kubernetes.io/name"])
_WORDS = st.sampled_from(["", "x", "y-1", "Z_2"])


@given(st.dictionaries(_KEYS, _WORDS, max_size=3), st.dictionaries(_KEYS, _WORDS, max_size=3))
def test_a_map_selector_matches_exactly_its_supersets_and_survives_its_own_text(
    wanted: dict[str, str], labels: dict[str, str]
) -> None:
    selector = LabelSelector.from_map(wanted)
    assert selector.matches(labels) is (wanted.items() <= labels.items())
    assert LabelSelector.parse(str(selector)).matches(labels) is selector.matches(labels)
    assert selector.exact() == wanted


def test_a_field_selector_compares_texts() -> None:
    pod: dict[str, Any] = {
        "metadata": {"name": "p", "namespace": "d"},
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Running"},
    }

    def matches(text: str) -> bool:
        return FieldSelector.parse(text).matches(lambda path: field_value(pod, path))

    assert matches("spec.nodeName=n1,status.phase!=Failed")
    assert matches("spec.hostNetwork=false")
    assert matches("spec.nodeName in (n0, n1)")
    assert not matches("spec.nodeName in ()")
    assert not matches("metadata.name==q")
    assert matches("status.nominatedNodeName=")
    assert matches("")


def test_field_values_may_escape_what_separates() -> None:
    selector = FieldSelector.parse(r"metadata.name=a\,b\=c")
    assert selector.exact("metadata.name") == "a,b=c"
    assert FieldSelector.parse(str(selector)) == selector


def test_a_broken_field_selector_is_refused() -> None:
    with pytest.raises(BadRequest, match="invalid selector: 'a,b'; can't understand 'a'"):
        FieldSelector.parse("a,b")


def test_fields_that_a_resource_does_not_offer_are_refused() -> None:
    FieldSelector.parse("spec.nodeName=x").check_supported("", "pods")
    with pytest.raises(BadRequest, match=r"field label not supported: spec\.foo"):
        FieldSelector.parse("spec.foo=x").check_supported("", "pods")
    with pytest.raises(BadRequest) as error:
        FieldSelector.parse("spec.foo=x").check_supported("", "configmaps")
    assert error.value.message == (
        '"spec.foo" is not a known field selector: only "metadata.name", "metadata.namespace"'
    )


def test_computed_fields_have_upstreams_zero_values() -> None:
    assert field_value({"spec": {"unschedulable": True}}, "spec.unschedulable") == "true"
    assert field_value({"spec": {}}, "spec.unschedulable") == "false"
    assert field_value({"status": {}}, "status.replicas") == "0"
    assert field_value({"source": {"component": "kubelet"}}, "source") == "kubelet"
    assert field_value({"reportingComponent": "k"}, "source") == "k"
