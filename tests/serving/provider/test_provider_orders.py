from __future__ import annotations

import pytest

from proteus_router.serving.provider.answers import BadRequestError
from proteus_router.serving.provider.examples import example_of
from proteus_router.serving.provider.orders import Order, Orders, parse_order


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_models_own_order_wins_over_the_one_for_all() -> None:
    orders = Orders(Clock())
    assert not orders
    orders.set("*", Order(latency_s=1.0))
    orders.set("a", Order(fault="hang"))
    assert orders.take("a") == Order(fault="hang")
    assert orders.take("b") == Order(latency_s=1.0)
    orders.clear()
    assert orders.take("a") is None


def test_an_order_is_spent_after_its_count() -> None:
    orders = Orders(Clock())
    orders.set("*", Order(fault="hang", count=2))
    assert [orders.take(name) is not None for name in "abc"] == [True, True, False]
    assert orders.current() == {}


def test_an_order_for_a_share_of_the_requests() -> None:
    def taken(seed: int) -> list[bool]:
        orders = Orders(Clock(), seed)
        orders.set("*", Order(fault="hang", share=0.3))
        return [orders.take("a") is not None for _ in range(2000)]

    assert 0.25 < sum(taken(0)) / 2000 < 0.35
    assert taken(0) == taken(0) != taken(1)


def test_a_rate_limit_refills_with_time_and_says_when() -> None:
    clock = Clock()
    orders = Orders(clock)
    orders.set("*", Order(requests_per_minute=60))
    taken = [orders.take("a") for _ in range(61)]
    assert [order.status for order in taken if order and order.fault] == [429]
    last = taken[-1]
    assert last is not None
    assert last.retry_after_s == pytest.approx(1.0)
    clock.now = 1.0
    assert [order.fault for _ in range(2) if (order := orders.take("a"))] == [None, "status"]


@pytest.mark.parametrize(
    "text",
    [b"{", b"[]", b'{"x": 1}', b'{"fault": "x"}', b'{"share": 2}', b'{"latency_s": -1}', b'{"gap_s": NaN}'],
)
def test_an_order_that_can_not_be_followed_is_refused(text: bytes) -> None:
    with pytest.raises(BadRequestError):
        parse_order(text)


def test_examples_fit_their_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": ["string", "null"]},
            "b": {"$ref": "#/$defs/B"},
            "c": {"type": "array", "items": {"type": "number", "minimum": 5000}, "minItems": 2},
            "d": {"anyOf": [{"enum": ["x", "y"]}, {"type": "null"}]},
            "e": {"type": "boolean"},
            "f": {"const": 7},
            "g": {},
        },
        "$defs": {"B": {"type": "object", "properties": {"again": {"type": "integer", "maximum": 10}}}},
    }
    assert example_of(schema, "42") == {
        "a": "42",
        "b": {"again": 10},
        "c": [5000, 5000],
        "d": "x",
        "e": True,
        "f": 7,
        "g": "42",
    }
    loop = {"$ref": "#/$defs/L", "$defs": {"L": {"properties": {"next": {"$ref": "#/$defs/L"}}}}}
    assert isinstance(example_of(loop, "x"), dict)
    assert example_of(None, "x") == "x"
