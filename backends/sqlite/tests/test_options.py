"""Store URLs."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable_core.errors import EngineStateError, StoreUrlError
from durable_sqlite import open_backend
from durable_sqlite.options import parse_url


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///orders.db", Path.cwd() / "orders.db"),
        ("sqlite:////var/lib/orders.db", Path("/var/lib/orders.db")),
        ("sqlite:///a%20b%3F.db?readers=3", Path.cwd() / "a b?.db"),
        ("sqlite:///ü.db", Path.cwd() / "ü.db"),
        ("sqlite:///:memory:", None),
    ],
)
def test_the_path(url: str, path: Path | None) -> None:
    assert parse_url(url, {}).path == path


def test_another_name_of_a_file_is_the_same_store(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "hub.db")
    assert parse_url(f"sqlite:///{tmp_path / 'link.db'}", {}).path == tmp_path / "hub.db"


def test_options_in_the_url_and_beside_it() -> None:
    options = parse_url("sqlite:///x.db?synchronous=NORMAL&lock_wait_s=1.5", {"readers": 4})
    assert (options.synchronous, options.lock_wait_s, options.readers) == ("normal", 1.5, 4)
    assert parse_url("sqlite:///x.db?readers=4", {"readers": 5}).readers == 5
    assert parse_url("sqlite:///x.db", {}).synchronous == "full"


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("postgresql://x", "sqlite:///orders.db"),
        ("sqlite://x.db", "sqlite:///orders.db"),
        ("sqlite:///", "names no file"),
        ("sqlite:///a%00b", "NUL"),
        ("sqlite:///x.db?nonsense=1", "nonsense"),
        ("sqlite:///x.db?synchronous=off", "power failure"),
        ("sqlite:///x.db?readers=0", "1 to 64"),
        ("sqlite:///x.db?readers=many", "not a number"),
        ("sqlite:///x.db?lock_wait_s=nan", "out of range"),
        ("sqlite:///x.db?clock_us=5", "clock_us in a URL"),
        ("sqlite:///x.db?readers", "name=value"),
    ],
)
def test_what_cannot_be_read_says_what_to_write(url: str, hint: str) -> None:
    with pytest.raises(StoreUrlError, match=hint):
        open_backend(url)


def test_durability_is_declared_as_it_is() -> None:
    assert open_backend("sqlite:///x.db").capabilities.durability == "disk"
    assert open_backend("sqlite:///x.db?synchronous=normal").capabilities.durability == "process"
    memory = open_backend("sqlite:///:memory:").capabilities
    assert (memory.durability, memory.multi_process, memory.proves_death) == ("none", False, False)


async def test_a_handle_that_is_not_open_says_so(tmp_path: Path) -> None:
    backend = open_backend(f"sqlite:///{tmp_path / 'x.db'}")
    with pytest.raises(EngineStateError, match="open"):
        await backend.apply([])
    await backend.open()
    with pytest.raises(EngineStateError, match="open already"):
        await backend.open()
    await backend.close()
    await backend.close()
    await backend.open()
    await backend.close()
