from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proteus_router.serving.upstream import rewrite_model

TEXTS = st.text() | st.sampled_from(
    ['"model":"x"', "model", '\\"model\\": "y"', "}],{", "\\", '"', "\u2028\x00"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
KEYS = st.sampled_from(["model", "response", "message", "choices", "id", 'mo"del', "model\\"]) | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=6)
STYLES = st.sampled_from([{"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False}, {}])


def _slowly(content: dict[str, Any], name: str) -> dict[str, Any]:
    """The obvious twin: parse, walk the members in order, replace the first model that counts."""
    out = dict(content)
    for key, value in content.items():
        if key == "model":
            out[key] = name
            return out
        if key in ("response", "message") and isinstance(value, dict) and "model" in value:
            out[key] = {**value, "model": name}
            return out
    return out


@settings(deadline=None)
@given(OBJECTS, STYLES, TEXTS)
def test_only_the_models_value_changes(content: dict[str, Any], style: dict[str, Any], name: str) -> None:
    try:
        body = json.dumps(content, **style).encode()
        json.dumps(name, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair has no UTF-8
        return
    assert json.loads(rewrite_model(body, name)) == _slowly(content, name)


@settings(deadline=None)
@given(OBJECTS, STYLES)
def test_every_other_byte_stays(content: dict[str, Any], style: dict[str, Any]) -> None:
    try:
        body = json.dumps({**content, "model": "@upstream@"}, **style).encode()
    except UnicodeEncodeError:
        return
    if "response" in content or "message" in content or b"@pool@" in body:
        return
    assert rewrite_model(body, "@pool@").replace(b"@pool@", b"@upstream@", 1) == body


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"a"}', b'{"model":"new"}'),
        (b' \n{ "id" : "x" , "model" : null }\n', b' \n{ "id" : "x" , "model" : "new" }\n'),
        (b'{"choices":[{"model":"a"}],"model":"b"}', b'{"choices":[{"model":"a"}],"model":"new"}'),
        (b'{"x":"{\\"model\\":\\"a\\"}"}', b'{"x":"{\\"model\\":\\"a\\"}"}'),
        (b'{"type":"response.created","response":{"id":"r","billing":{"model":"k"},"model":"m"}}',) * 2,
        (b'{"message":"text","model":"m"}', b'{"message":"text","model":"new"}'),
        (b'{"choices":[{"message":{"model":"m"}}]}', b'{"choices":[{"message":{"model":"m"}}]}'),
        (b'[{"model":"a"}]', b'[{"model":"a"}]'),
        (b"", b""),
        (b"not json", b"not json"),
        (b'{"a":"unfinished', b'{"a":"unfinished'),
        (b'{"a":[1,{"b":2', b'{"a":[1,{"b":2'),
        (b'{"model"', b'{"model"'),
    ],
)
def test_where_a_model_stands(body: bytes, expected: bytes) -> None:
    if b"billing" in body:
        expected = expected.replace(b'"model":"m"', b'"model":"new"')
    assert rewrite_model(body, "new") == expected


def test_a_name_is_escaped() -> None:
    assert json.loads(rewrite_model(b'{"model":"a","n":1}', 'quo"te\\\n')) == {"model": 'quo"te\\\n', "n": 1}


def test_a_large_body_of_escapes_takes_no_time_to_speak_of() -> None:
    body = json.dumps({"choices": ['"\\' * 200_000, [[] for _ in range(20_000)]], "model": "m"}).encode()
    assert rewrite_model(body, "new").endswith(b'"model": "new"}')
