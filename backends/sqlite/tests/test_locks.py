"""The locks beside the file: proof of death, and a fair queue of writers."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from durable_core.errors import StoreUnavailableError
from durable_sqlite.locks import Lives, WriterQueue


def test_who_waits_is_not_overtaken(tmp_path: Path) -> None:
    """Without the turnstile the first writer, who is running, would get the lock again before the waiting one wakes up."""
    first, second = WriterQueue(tmp_path, 10), WriterQueue(tmp_path, 10)
    order: list[str] = []

    def wait_for_it() -> None:
        second.acquire()
        order.append("second")
        second.release()

    first.acquire()
    waiting = threading.Thread(target=wait_for_it)
    waiting.start()
    time.sleep(0.1)
    for _ in range(3):
        first.release()
        first.acquire()
        order.append("first")
    first.release()
    waiting.join()
    assert order == ["second", "first", "first", "first"]
    first.close()
    second.close()


def test_a_waiter_that_died_slows_nobody_for_long(tmp_path: Path) -> None:
    first, second = WriterQueue(tmp_path, 10), WriterQueue(tmp_path, 10)
    first._waiting[0] = 1  # what it leaves behind
    second.acquire()
    assert first._waiting[0] == 0
    second.release()
    first.acquire()
    first.release()
    first.close()
    second.close()


def test_waiting_has_a_limit(tmp_path: Path) -> None:
    first, second = WriterQueue(tmp_path, 10), WriterQueue(tmp_path, 0.02)
    first.acquire()
    with pytest.raises(StoreUnavailableError, match="another process has held the write lock"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()
    first.close()
    second.close()


def test_a_life_is_seen_by_others_and_its_end_proven(tmp_path: Path) -> None:
    mine, theirs = Lives(tmp_path), Lives(tmp_path)
    mine.hold("w/1")
    mine.hold("w/1")
    assert not theirs.is_dead("w/1")
    assert not mine.is_dead("w/1")
    assert not theirs.is_dead("never seen"), "no file, no proof"
    mine.drop_all()
    assert theirs.is_dead("w/1")
    assert theirs.is_dead("w/1"), "looking changes nothing"
    theirs.bury("w/1")
    assert not list(tmp_path.iterdir())
    assert not theirs.is_dead("w/1")


def test_an_incarnation_that_is_over_leaves_no_file(tmp_path: Path) -> None:
    lives = Lives(tmp_path)
    lives.hold("w")
    lives.bury("w")
    assert not list(tmp_path.iterdir())


def test_a_name_may_be_used_again(tmp_path: Path) -> None:
    mine, theirs = Lives(tmp_path), Lives(tmp_path)
    mine.hold("w")
    theirs.bury("w")  # given up by mistake: the file is unlinked, the lock on it means nothing any more
    theirs.hold("w")
    assert not Lives(tmp_path).is_dead("w")
    theirs.drop_all()
    assert Lives(tmp_path).is_dead("w")
    mine.drop_all()


def test_a_lost_folder_is_no_reason_to_fail(tmp_path: Path) -> None:
    lives = Lives(tmp_path / "gone")
    lives.hold("w")
    assert not lives.is_dead("w")
    lives.bury("w")
