"""The demo keeps its promise: killed and started again, it runs nothing twice that was done, and comes to the same table.

The proof is the *effect log*, a file outside the store that gets a line whenever an activity starts. Where a test needs a run that cannot
end by itself, one of the tree's files is a named pipe: whoever reads it waits until somebody writes.
"""

from __future__ import annotations

import ast
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import evolve, field, frozen

from durable_core.events import TaskCompleted, TaskFailed, TaskScheduled
from examples.index_stdlib.records import Index
from examples.index_stdlib.run import instance_id_of, main
from examples.index_stdlib.workflow import EFFECTS_VARIABLE, Progress, engine

PROJECT = Path(__file__).resolve().parents[2]
FILES = 30
BROKEN = "m05.py"
BLOCKING = "sub/m17.py"
CHUNK = 7  # five chunks, so that reducing by pairs leaves one over twice
DEADLINE_S = 60


def source_of(number: int) -> str:
    if number == 5:
        return "def broken(:\n"
    lines = ["import os, sys", "from collections.abc import Iterator", f"import module_{number % 4}.part", "from . import m00"]
    for index in range(number):
        lines += [f"def f{index}(): pass", f"class C{index}:", "    async def g(self): import json"]
    return "\n".join(lines) + "\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "site-packages").mkdir()
    (root / "site-packages" / "other.py").write_text("import elsewhere\n")
    for number in range(FILES):
        (root / name_of(number)).write_text(source_of(number))
    return root


def name_of(number: int) -> str:
    return f"{'sub/' if number >= 15 else ''}m{number:02}.py"


@frozen
class Demo:
    """The command line of the demo on one store."""

    folder: Path
    tree: Path
    started: list[subprocess.Popen[str]] = field(factory=list)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'demo.db'}"

    @property
    def instance_id(self) -> str:
        return instance_id_of(self.tree.resolve())

    def start(self, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "examples.index_stdlib", "--chunk-size", str(CHUNK), "--effects", str(self.folder / "effects")]
        command += ["--root", str(self.tree), "--store", str(self.folder / "demo.db")]
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(self, **environment: str) -> tuple[str, str]:
        """To its end: the table, and what else was said."""
        process = self.start(**environment)
        table, said = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, said
        return table, said

    def effects(self) -> list[tuple[str, str]]:
        """(activity, what it was run for), in order."""
        log = self.folder / "effects"
        lines = log.read_text().splitlines() if log.exists() else []
        return [(activity, of) for activity, of, _pid, _time in (line.split("\t") for line in lines)]

    def analysed(self) -> Counter[str]:
        """File → how often it was analysed."""
        return Counter(of for activity, of in self.effects() if activity == "analyse_file")

    def progress(self) -> Progress | None:
        async def read() -> Progress | None:
            async with engine.open(self.url, worker=False):
                return await engine.client.get_entity(Progress, self.instance_id)

        return asyncio.run(read())

    def output(self) -> Index | None:
        async def read() -> Index | None:
            async with engine.open(self.url, worker=False):
                state = await engine.client.get_instance(self.instance_id)
                return state.output_as(Index) if state is not None else None

        return asyncio.run(read())

    def files_in_histories(self) -> set[str]:
        """The files whose result is durable."""

        async def read() -> set[str]:
            found: set[str] = set()
            async with engine.open(self.url, worker=False):
                async for state in engine.client.query_instances(id_prefix=f"{self.instance_id}-chunk-"):
                    history = await engine.client.get_history(state.instance_id)
                    paths = {event.id: json.loads(event.input or "")[1] for event in history if isinstance(event, TaskScheduled)}
                    found |= {paths[event.id] for event in history if isinstance(event, TaskCompleted | TaskFailed)}
            return found

        return asyncio.run(read())


@pytest.fixture
def demo(tmp_path: Path, tree: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path, tree)
    yield demo
    for process in demo.started:  # those that a failed test has left
        if process.poll() is None:
            kill(process)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert process.poll() is None, f"the demo ended by itself: {process.communicate()}"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def kill(process: subprocess.Popen[str]) -> None:
    """``kill -9`` of the process alone. Its pipes are closed only when its children are gone as well."""
    process.kill()
    process.communicate(timeout=DEADLINE_S)


@contextmanager
def blocked(tree: Path) -> Iterator[None]:
    """A file of the tree that takes for ever to read."""
    path = tree / BLOCKING
    content = path.read_text()
    path.unlink()
    os.mkfifo(path)
    yield
    path.unlink()
    path.write_text(content)


def indexed_by_a_plain_loop(root: Path) -> dict[str, object]:
    sizes, imports, failures = [], Counter[str](), []
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if "site-packages" in path.parts:
            continue
        try:
            nodes = list(ast.walk(ast.parse(path.read_text())))
        except SyntaxError:
            failures.append(name)
            continue
        found = set()
        for node in nodes:
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.split(".")[0])
        imports.update(found)
        functions = sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes)
        classes = sum(isinstance(node, ast.ClassDef) for node in nodes)
        sizes.append((path.read_text().count("\n"), name, functions, classes))
    largest = sorted(sizes, key=lambda size: (-size[0], size[1]))[:10]
    return {
        "files": len(sizes),
        "totals": (sum(size[0] for size in sizes), sum(size[2] for size in sizes), sum(size[3] for size in sizes)),
        "largest": [(name, lines, functions, classes) for lines, name, functions, classes in largest],
        "imports": dict(imports),
        "failures": failures,
    }


def as_plain(index: Index) -> dict[str, object]:
    assert index.failed == len(index.failures)
    return {
        "files": index.files,
        "totals": (index.lines, index.functions, index.classes),
        "largest": [(size.path, size.lines, size.functions, size.classes) for size in index.largest],
        "imports": index.imports,
        "failures": [failure.path for failure in index.failures],
    }


@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
def test_it_finds_what_a_plain_loop_finds(tree: Path, tmp_path: Path, chunk_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EFFECTS_VARIABLE, "")
    index = asyncio.run(main(f"sqlite:///{tmp_path / 'demo.db'}", root=tree, chunk_size=chunk_size))
    assert as_plain(index) == indexed_by_a_plain_loop(tree)
    assert [failure.path for failure in index.failures] == [BROKEN]
    assert index.failures[0].reason.startswith("SyntaxError: ")


def test_a_folder_without_python_gives_an_empty_index(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert asyncio.run(main("memory://", root=tmp_path / "empty")) == Index()


def test_killed_and_started_again_it_goes_on(demo: Demo, tmp_path: Path) -> None:
    undisturbed, _ = evolve(demo, folder=tmp_path / "undisturbed").run()

    with blocked(demo.tree):
        first = demo.start()
        wait_until(lambda: (progress := demo.progress()) is not None and progress.done >= 5, first)
        kill(first)
        after_first = demo.analysed()
        durable = demo.files_in_histories()
        assert 5 <= len(durable) < FILES
        assert all(count == 1 for count in after_first.values())

        second = demo.start()
        wait_until(lambda: demo.analysed()[BLOCKING] > after_first[BLOCKING], second)
        kill(second)
        in_second = demo.analysed() - after_first
        assert not durable & in_second.keys(), "done files were analysed again"
        assert all(count == 1 for count in in_second.values())
        durable_after_second = demo.files_in_histories()
        assert durable <= durable_after_second

    before_third = demo.analysed()
    table, said = demo.run()
    in_third = demo.analysed() - before_third
    assert not durable_after_second & in_third.keys(), "done files were analysed again"
    assert all(count == 1 for count in in_third.values())
    assert "files done; going on" in said

    assert table == undisturbed
    output = demo.output()
    assert output is not None
    assert as_plain(output) == indexed_by_a_plain_loop(demo.tree)
    progress = demo.progress()
    assert progress is not None
    assert (progress.total, progress.done, progress.failed, progress.chunks) == (FILES, FILES, 1, 5)
    assert demo.analysed().keys() == {name_of(number) for number in range(FILES)}


def test_what_was_not_yet_durable_is_run_again_and_nothing_else(demo: Demo) -> None:
    """After the first kill the two sets are complements: a first run holds all its instances, so no result waits in an inbox."""
    with blocked(demo.tree):
        first = demo.start()
        wait_until(lambda: (progress := demo.progress()) is not None and progress.done >= 10, first)
        kill(first)
    before = demo.analysed()
    durable = demo.files_in_histories()
    demo.run()
    assert (demo.analysed() - before).keys() == {name_of(number) for number in range(FILES)} - durable


def test_a_finished_store_gives_its_table_and_runs_nothing(demo: Demo) -> None:
    table, said = demo.run()
    assert "starting from nothing" in said
    effects = demo.effects()
    assert Counter(activity for activity, _ in effects) == {"find_files": 1, "analyse_file": FILES, "merge": 3 + 2 + 1}

    again, said = demo.run()
    assert again == table
    assert f"found all {FILES} files done" in said
    assert demo.effects() == effects


def test_fresh_starts_over(demo: Demo) -> None:
    table, _ = demo.run()
    again, said = demo.run(FRESH="1")
    assert again == table
    assert "starting from nothing" in said
    assert set(demo.analysed().values()) == {2}


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM], ids=lambda which: which.name)
def test_ctrl_c_ends_politely_and_soon(demo: Demo, which: signal.Signals) -> None:
    """As a terminal sends it: to the whole process group, the pool's children included."""
    with blocked(demo.tree):
        process = demo.start()
        wait_until(lambda: BLOCKING in demo.analysed(), process)
        os.killpg(process.pid, which)
        table, said = process.communicate(timeout=20)  # the drain has 3 s
        assert process.returncode == 130, said
        assert not table
        assert "run it again to go on" in said
        assert "Traceback" not in said
        assert "died" not in said
    demo.run()
    assert all(count == 1 for of, count in demo.analysed().items() if of != BLOCKING), "the drain saved what had run"
