"""Memory of earlier calls: bounded, and forgotten as a whole."""

import numpy as np
import pytest

from fastsoftmax.core import memo
from fastsoftmax.core.memo import Memo


def test_what_is_kept_is_found():
    calls = Memo(2)
    assert calls.find("a") is None
    assert calls.keep("a", 1) == 1
    assert calls.find("a") == 1
    assert calls.keep("a", 2) == 2
    assert calls.find("a") == 2


def test_none_may_be_kept():
    calls = Memo(2)
    calls.keep("a", None)
    assert calls.find("a") is None
    assert "a" in calls


@pytest.mark.parametrize("key", [[], (1, {}), np.zeros(2), (None, np.zeros(())), (slice(1), [])])
def test_keys_without_a_hash_are_never_found(key):
    assert Memo(2).find(key) is None


def test_all_are_forgotten_when_one_more_comes():
    calls = Memo(3)
    for n in range(10):
        calls.keep(n, str(n))
        assert len(calls) == n % 3 + 1
        assert calls.find(n) == str(n)
    calls.most = 1
    calls.keep("new", 0)
    assert calls == {"new": 0}


def test_without_a_bound_nothing_is_forgotten():
    calls = Memo()
    for n in range(10000):
        calls.keep(n, n)
    assert len(calls) == 10000


def test_clear_empties_what_is_shared_and_nothing_else(monkeypatch):
    monkeypatch.setattr(memo, "_clears", [])
    first, second, own, cleared = memo.shared(3), memo.shared(), Memo(3), []
    memo.on_clear(lambda: cleared.append(True))
    for calls in (first, second, own):
        calls.keep("a", 1)
    memo.clear()
    assert (first, second, own, cleared) == ({}, {}, {"a": 1}, [True])
    assert first.keep("b", 2) == first.find("b") == 2
