"""Bytes of strangers as request bodies: a typed refusal or a struct, and a log that bad input leaves alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.errors import MalformedInput
from domain.units import Side
from tests.support.examples import examples
from tests.support.parties import open_pair
from tests.support.towers import Bench
from watchtower.http.endpoint import read_query
from watchtower.http.endpoints import ENDPOINTS
from watchtower.wire.hexes import from_json, to_plain

JSON = {"Content-Type": "application/json"}
Channel = tuple[Bench, list[tuple[str, Any]]]
FORMS = sorted({row.body for row in ENDPOINTS if row.body is not None}, key=lambda form: form.__name__)
QUERIES = sorted({row.query for row in ENDPOINTS}, key=lambda form: form.__name__)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
ODD = st.sampled_from([0, -1, 1.0, 1e308, 2**64, 2**53 + 1, "", "00", "zz", "AB", "ab" * 32, None, True, [], {}])
EMPTY = {form: (form(),) for form in FORMS if not any(field.required for field in msgspec.structs.fields(form))}


def read_or_none(read: Callable[[], Any]) -> Any:
    """What was read, or None for a typed refusal. Anything else than these two comes out."""
    try:
        return read()
    except MalformedInput:
        return None


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@given(raw=st.binary(max_size=200) | JSON_VALUES.map(msgspec.json.encode))
@settings(max_examples=examples(60))
def test_any_bytes_are_read_or_refused(form: type[Any], raw: bytes) -> None:
    """Random bytes and random JSON are refused; only a form whose fields may all be missing takes the empty object."""
    assert read_or_none(lambda: from_json(raw, form)) in (None, *EMPTY.get(form, ()))


@pytest.mark.parametrize("form", QUERIES, ids=lambda form: form.__name__)
@given(pairs=st.lists(st.tuples(st.sampled_from(["after", "limit", "status", "x"]), st.text(max_size=20)), max_size=4))
@settings(max_examples=examples(60))
def test_any_query_is_read_or_refused(form: type[Any], pairs: list[tuple[str, str]]) -> None:
    """Parameters of strangers give a struct within its bounds, or a sentence."""
    found = read_or_none(lambda: read_query(pairs, form))

    assert found is None or dict(pairs).keys() <= set(form.__struct_fields__)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of a JSON document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*path, key))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The document with another value at a place."""
    if not path:
        return new
    items = value.items() if isinstance(value, dict) else enumerate(value)
    parts = {key: changed(inner, path[1:], new) if key == path[0] else inner for key, inner in items}
    return parts if isinstance(value, dict) else list(parts.values())


@given(data=st.data())
@settings(
    max_examples=examples(120),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_good_body_with_one_odd_value(
    tower_with_channel: tuple[Bench, list[tuple[str, Any]]], data: st.DataObject
) -> None:
    """Wherever one value of a good request is replaced: refused with 4xx, and nothing is stored."""
    tower, requests = tower_with_channel
    path, body = data.draw(st.sampled_from(requests))
    place = data.draw(st.sampled_from(sorted(paths(body), key=str)))
    wrong = changed(body, place, data.draw(ODD))
    before = tower.store.last_id()

    async def post() -> httpx.Response:
        async with tower.http() as http:
            return await http.post(
                path, content=msgspec.json.encode(wrong), headers={"Content-Type": "application/json"}
            )

    answer = asyncio.run(post())

    # A value may be replaced by itself, or an optional one by null: then it is the same request, or none is missed.
    assert answer.status_code in (200, 400, 409, 422), answer.text
    assert answer.status_code == 200 or before == tower.store.last_id()
    assert answer.is_success or answer.json()["type"].startswith("urn:state-channel:")


@pytest.fixture(scope="module")
def tower_with_channel(tmp_path_factory: pytest.TempPathFactory) -> Channel:
    """A tower with a channel, and good requests for it as JSON."""
    tower = Bench(Path(tmp_path_factory.mktemp("tower")))
    pair = open_pair()
    name = tower.registered(pair)
    pair.updates(2)
    plain = [
        ("/v1/channels", pair.registration(Side.B)),
        (f"/v1/channels/{name}/states", pair.update_request(Side.B, 1)),
        (f"/v1/channels/{name}/revocations", pair.release_request(Side.B, 0)),
    ]
    return tower, [(path, msgspec.json.decode(msgspec.json.encode(to_plain(body)))) for path, body in plain]
