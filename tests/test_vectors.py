"""Engines in processes of their own, and a PostgreSQL that is gone when it is closed."""

import psutil
import pytest

from utils import vectors

ENGINE = """
import os

class Engine:
    def __init__(self, folder):
        self.folder = folder

    def add(self, one, other):
        print("libraries print")  # must not get between the answers
        return one + other

    def fail(self):
        raise ValueError("no such row")

    def die(self):
        os._exit(3)
"""


@pytest.fixture
def other(tmp_path):
    (tmp_path / "engines.py").write_text(ENGINE)
    with vectors.Process(tmp_path / "engines.py", "Engine") as process:
        yield process


def test_an_engine_answers_from_another_process(other, tmp_path):
    other.call("open", tmp_path)
    assert other.call("add", 2, 3) == 5
    assert 1 < other.call("memory") < 2000


def test_its_errors_come_across_and_it_goes_on(other, tmp_path):
    other.call("open", tmp_path)
    with pytest.raises(vectors.EngineError, match="ValueError: no such row"):
        other.call("fail")
    assert other.call("add", 1, 1) == 2


def test_a_death_is_said(other, tmp_path):
    other.call("open", tmp_path)
    with pytest.raises(vectors.EngineError, match="died"):
        other.call("die")


def test_killed_is_gone(other):
    other.kill()
    assert not psutil.pid_exists(other._process.pid)


def test_postgres_has_vectors_and_is_gone_when_closed(tmp_path):
    pytest.importorskip("pgserver", reason="pgserver has no wheel for this Python")
    import psycopg

    server = vectors.Postgres(tmp_path)
    with psycopg.connect(server.dsn) as db:
        db.execute("CREATE EXTENSION vector")
        [(distance,)] = db.execute("SELECT '[1,0]'::vector <#> '[2,0]'::vector").fetchall()
    process = psutil.Process(server._server.get_pid())
    assert distance == -2 and server.memory() > 1
    server.close()
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_killed_postgres_starts_again_with_what_was_committed(tmp_path):
    pytest.importorskip("pgserver", reason="pgserver has no wheel for this Python")
    import psycopg

    server = vectors.Postgres(tmp_path)
    with psycopg.connect(server.dsn) as db:
        db.execute("CREATE TABLE t AS SELECT 1 AS x")
    server.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.dsn)
    server.start()
    with psycopg.connect(server.dsn) as db:
        assert db.execute("SELECT x FROM t").fetchall() == [(1,)]
    server.close()


def test_disk_counts_every_file(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a").write_bytes(b"x" * 1_500_000)
    (tmp_path / "b").write_bytes(b"x" * 500_000)
    assert vectors.disk(tmp_path) == 2.0
