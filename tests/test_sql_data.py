"""utils.sql_data: the databases, that gold SQL runs and is definite, and that held-out wordings were never trained on."""

import re
import sqlite3
import tempfile

import pytest
import sqlglot

from utils import sql_data, vectors

HELD_OUT = ("dev", "test", "hand")
ALL = {split: sql_data.questions(split, 2000) for split in sql_data.SPLITS}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("databases")
    return {
        "flights": sql_data.flights(folder / "flights.db"),
        "business": sql_data.business(folder / "business.db"),
    }


@pytest.fixture(scope="module")
def connections(paths):
    opened = {name: sqlite3.connect(path) for name, path in paths.items()}
    yield opened
    for connection in opened.values():
        connection.close()


def value(v):
    if v is None or isinstance(v, str):
        return v
    return v.isoformat() if hasattr(v, "isoformat") else float(f"{float(v):.6g}")


def rows(cursor, sql):
    found = [tuple(map(value, row)) for row in cursor.execute(sql).fetchall()]
    return (
        found
        if sqlglot.parse_one(sql, dialect="sqlite").args.get("order")
        else sorted(found, key=repr)
    )


def test_tables_and_columns_are_those_of_the_schema(connections):
    for database, connection in connections.items():
        for table, described in sql_data.schema(database).items():
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            assert columns == list(described["columns"]), table
            assert connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] > 0
    assert connections["flights"].execute("SELECT COUNT(*) FROM flights").fetchone() == (336_776,)
    assert len(sql_data.schema("business")) == 10


def test_business_keys_lead_somewhere(connections):
    tables = sql_data.schema("business")
    own = {
        list(described["columns"])[0]: table
        for table, described in tables.items()
        if table != "order_items"
    }
    for table, described in tables.items():
        for column in described["columns"]:
            if own.get(column, table) != table:
                orphans = f"SELECT COUNT(*) FROM {table} WHERE {column} NOT IN (SELECT {column} FROM {own[column]})"
                assert connections["business"].execute(orphans).fetchone() == (0,), (table, column)


def test_business_is_the_same_with_the_same_seed_and_another_with_another(tmp_path):
    texts = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        with sqlite3.connect(sql_data.business(tmp_path / name, seed)) as connection:
            texts.append("\n".join(connection.iterdump()))
        connection.close()
    assert texts[0] == texts[1] != texts[2]


def test_sizes_and_levels():
    assert {split: len(sql_data.questions(split)) for split in sql_data.SPLITS} == {
        "train": 480, "dev": 40, "test": 80, "hand": 40}  # fmt: skip
    for split in sql_data.SPLITS:
        made = sql_data.questions(split)
        assert len({q.id for q in made}) == len({q.text for q in made}) == len(made)
        for database in sql_data.DATABASES:
            assert {q.level for q in made if q.database == database} == {1, 2, 3, 4}
    assert (
        sql_data.questions("test")
        == sql_data.questions("test")
        != sql_data.questions("test", seed=7)
    )
    with pytest.raises(ValueError, match="split"):
        sql_data.questions("valid")


@pytest.mark.parametrize("seed", [0, 7])
def test_gold_sql_runs_and_gives_rows(connections, seed):
    for split in sql_data.SPLITS:
        for q in sql_data.questions(split, 400, seed):
            if split == "train" and q.database == "flights" and q.level > 2:
                continue  # the same forms as in dev and test, and slow in all their number
            found = connections[q.database].execute(q.sql).fetchall()
            assert found and any(v not in (None, 0) for row in found for v in row), q


@pytest.mark.parametrize("seed", [0, 7])
def test_limits_do_not_cut_through_ties(connections, seed):
    """With LIMIT k, the k-th and the next row differ in what they are ordered by; else two answers would be right."""
    for split in HELD_OUT:
        for q in sql_data.questions(split, seed=seed):
            tree = sqlglot.parse_one(q.sql, dialect="sqlite")
            if tree.args.get("limit"):
                k = int(tree.args["limit"].expression.name)
                more = tree.limit(k + 1).select(tree.args["order"].expressions[0].this, append=True)
                found = connections[q.database].execute(more.sql("sqlite")).fetchall()
                assert len(found) <= k or found[k - 1][-1] != found[k][-1], q


def test_postgres_gives_the_same(paths, connections):
    pytest.importorskip("pgserver")
    psycopg = pytest.importorskip("psycopg")
    with tempfile.TemporaryDirectory() as folder:
        postgres = vectors.Postgres(folder)
        try:
            for database, path in paths.items():
                sql_data.to_postgres(path, postgres.dsn, database)
            with psycopg.connect(postgres.dsn, autocommit=True) as server:
                server.execute("SET jit = off")
                for q in [q for split in HELD_OUT for q in ALL[split]]:
                    server.execute(f"SET search_path = {q.database}")
                    assert rows(server, q.sql) == rows(connections[q.database], q.sql), q
        finally:
            postgres.close()


def wording(text: str) -> str:
    """A question without its values: numbers, capitals inside, and the words of the value lists."""
    for values in sql_data._toml("sql_questions.toml")["values"].values():
        for listed in values["train"] + values.get("held", []):
            said = listed if isinstance(listed, str) else listed[0]
            text = re.sub(rf"\b{re.escape(said)}\b", "_", text, flags=re.I)
    return text.lower()


def test_held_out_wordings_were_never_trained():
    seen = {split: {wording(q.text) for q in made} for split, made in ALL.items()}
    for split in HELD_OUT:
        for other in sql_data.SPLITS:
            if other != split:
                assert not seen[split] & seen[other], (split, other)


def test_held_out_values_were_never_trained():
    values = sql_data._toml("sql_questions.toml")["values"]
    for gap, lists in values.items():
        known = {str(v) for v in lists["train"]}
        assert not known & {str(v) for v in lists.get("held", [])}, gap


def test_hand_written_sql_is_no_training_sql():
    trained = {q.sql for q in ALL["train"]}
    assert not trained & {q.sql for q in ALL["hand"]}
