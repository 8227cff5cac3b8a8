"""Questions that need several look-ups in `data.business_documents()`, with their answers and the steps to them.

Every value is read from the documents by a pattern, so the same code asks about the real documents (for
testing) and about `variant(seed)`: the same documents with other partners, articles, countries and
numbers (for training). Licence: CC BY 4.0, written for this book, like the documents themselves.

| kind | calls | what is asked |
|---|---|---|
| price | 1 | the price of an article |
| clause | 1 | a figure in an agreement whose number is named |
| firm | 2 | the same, but named is the firm: its agreement has to be found first |
| nights | 2 | the hotel limit of a country for several nights |
| basket | 3 | the price of several pieces of two articles |
| gap | 3 | the difference between two prices |
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from utils import data

KINDS = {"price": 1, "clause": 1, "firm": 2, "nights": 2, "basket": 3, "gap": 3}
"""Kind to the number of calls that it takes."""


@dataclass(frozen=True)
class Step:
    """One turn of an exemplary solution: what is thought, and what is done (`finish` is the last)."""

    thought: str
    tool: str
    argument: str


@dataclass(frozen=True)
class Task:
    """A question, its answer (a number as text), the steps to it, and the values the searches have to find."""

    kind: str
    text: str
    answer: str
    steps: tuple[Step, ...]
    values: tuple[str, ...]

    @property
    def calls(self) -> int:
        return KINDS[self.kind]


# Question and pattern of a clause; what follows "how many" or "what" is also a usable query.
_CLAUSES = {
    "train": [
        ("how many days are there to pay an invoice after its receipt", r"pays each invoice within (\d+) days"),
        ("how many percent interest are owed on overdue amounts", r"interest of ([\d.]+) percent"),
        ("how many working days are there to report visible defects", r"visible defects of the Services within (\d+)"),
        ("how many days are there to remedy a defect reported in time", r"reported in time within (\d+) days"),
        ("how many EUR is the liability limited to for each event", r"limited to EUR ([\d,]+) for each event"),
        ("how many months runs the agreement after it begins", r"runs for (\d+) months"),
        ("how many days of notice are needed before the end of the period", r"notice of (\d+) days"),
        ("how many days before it is an adjustment of the fees announced", r"announced (\d+) days before"),
        ("how many EUR is the penalty for each culpable breach", r"penalty of EUR ([\d,]+)"),
        ("how many days of hindrance let a party withdraw", r"lasts for more than (\d+) days"),
        ("how many EUR of cover must the liability insurance have", r"cover of at least EUR ([\d,]+)"),
        ("how many days' warning are given before an audit", r"with (\d+) days' warning"),
    ],
    "test": [
        ("how many EUR are charged for the second reminder", r"fixed charge of EUR (\d+)"),
        ("how many working days are there for objections to an invoice", r"raised in writing within (\d+) working"),
        ("how many percent may the fee be reduced if two attempts failed", r"by up to (\d+) percent or have"),
        ("how many EUR limit the liability for each contract year", r"EUR ([\d,]+) for each contract year"),
        ("how many months pass until claims for damages are time-barred", r"time-barred (\d+) months"),
        ("how many months is the agreement extended by each time", r"extended by (\d+) months"),
        ("how many months pass before the fees are adjusted for the first time", r"first time after (\d+) months"),
        ("how many hours are there to inform about personal data lost", r"within (\d+) hours"),
        ("how many days may it take to settle disputes by mediation", r"longer than (\d+) days"),
        ("how many days are there to inform about events beyond control", r"informs the other within (\d+) days"),
    ],
}  # fmt: skip

_WORDINGS = {
    "train": {
        "price": ["What does {a} cost?", "Price of {a}?", "How much is {a}?", "Please look up the price of {a}.", "What is charged for {a}?", "I need the price of {a}."],
        "clause": ["Under {no}, {q}?", "{no}: {q}?", "Please check {no}: {q}?", "In agreement {no}, {q}?", "{q} under {no}?", "A question about {no}: {q}?", "I read {no}. {q}?", "As {no} says, {q}?"],
        "firm": ["Our agreement with {firm}: {q}?", "For {firm}, {q}?", "{q} in the agreement with {firm}?", "We work with {firm}: {q}?", "As agreed with {firm}, {q}?", "Please check what we agreed with {firm}: {q}?", "{firm}: {q}?", "A question about the contract with {firm}: {q}?"],
        "nights": ["What may {n} hotel nights in {c} cost at most?", "Hotel limit for {n} nights in {c}?", "I book a hotel in {c} for {n} nights. What is the limit?", "{n} nights in {c}: how much may the hotel cost?", "Most that {n} nights in a hotel in {c} may cost?", "What does the company pay for {n} nights in {c}?", "My trip to {c} has {n} nights. What is paid for the hotel?"],
        "basket": ["What do {n} of {a} and {m} of {b} cost?", "Total for {n} of {a} and {m} of {b}?", "Please add up {n} pieces of {a} and {m} of {b}.", "I need {n} of {a} and {m} of {b}. What does that cost?", "How much are {n} of {a} together with {m} of {b}?", "Price of {n} of {a} plus {m} of {b}?", "An order of {n} of {a} and {m} of {b}: what is the total?", "{n} of {a}, {m} of {b}. Sum?"],
        "gap": ["How much more does {a} cost than {b}?", "Difference in price between {a} and {b}?", "{a} or {b}: how much more is the first?", "By how much is {a} dearer than {b}?", "What do I save with {b} instead of {a}?", "I take {a} instead of {b}. What is the difference?", "How much cheaper is {b} than {a}?", "Compare the prices of {a} and {b}. What is the difference?"],
    },
    "test": {
        "price": ["What do I pay for {a}?", "Tell me the price of {a}."],
        "clause": ["According to {no}, {q}?", "Agreement {no}: {q}?"],
        "firm": ["Under the agreement with {firm}, {q}?", "In our contract with {firm}, {q}?"],
        "nights": ["I stay {n} nights in {c}. How much may the hotel cost?", "Hotel in {c} for {n} nights: what is the limit?"],
        "basket": ["I order {n} of {a} and {m} of {b}. What is the total?", "What is the sum for {n} of {a} and {m} of {b}?"],
        "gap": ["How much dearer is {a} than {b}?", "What is the difference between the prices of {a} and {b}?"],
    },
    "far": {
        "price": ["Hello, the cleaner broke {a}; what will a new one set us back?"],
        "clause": ["My boss holds {no} in his hands and wants to know: {q}?"],
        "firm": ["Somebody from {firm} called and I should tell him, {q}?"],
        "nights": ["After the fair I stay on in {c}, {n} nights altogether. Up to what sum is my room covered?"],
        "basket": ["We are down to nothing: get {n} of {a}, and {m} of {b} while you are at it. What will the bill be?"],
        "gap": ["If I take {a} and not {b}, how much more do I pay?"],
    },
}  # fmt: skip

# ------------------------------------------------------------------ documents


def passages(documents: Sequence[data.Document], words: int = 30) -> list[str]:
    """The documents in short passages, each with its headings; every row of a table is one, with its column names."""
    result = []
    for document in documents:
        section = document.section.split(" > ")[0]
        for block in document.text.split("\n\n"):
            rows = [line.split(" | ") for line in block.split("\n")]
            if len(rows) > 1 and len(rows[0]) > 1:
                for row in rows[1:]:
                    cells = "; ".join(
                        f"{name}: {cell}" for name, cell in zip(rows[0], row, strict=False)
                    )
                    result.append(f"{document.title}. {cells}")
            else:
                block = re.sub(r"^\d+\.\d+ ", "", block)  # the number of a clause
                result += [
                    f"{section}, {document.title}: {text}"
                    for text in data.split_passages(block, words)
                ]
    return list(dict.fromkeys(result))


_FIRMS = "Alder Ashdown Barrow Brindle Calder Corvin Dunmore Eastlake Fenwick Garrow Hollin Ives Kestrel Larkin Marlow Nettle Orwin Pell Quarry Rowan Selby Thorne Ullock Vance Wexford Yarrow".split()
_TRADES = "Catering Security Printing Gardens Couriers Waste Leasing Translation Heating Lifts Uniforms Telecoms".split()
_STREETS = "Bridge Street,Church Road,Station Way,Market Square,Harbour Lane,Tower Hill,Garden Row,Chapel Street,North Parade,Well Lane".split(
    ","
)
_TOWNS = "Aldwick Bramley Coldharbour Elmstead Farnhill Greenford Hartwell Kingsbay Marston Netherby".split()
_PARTS = "Door hinge,Air filter,Touch panel,Drain pump,Heating rod,Power cord,Feed belt,Sensor cable,Drip tray,Control knob,Rubber foot,Fan motor,Lamp holder,Float switch,Glass cover,Steel sieve,Hose clamp,Battery pack,Mounting rail,Valve spring,Ink pad,Paper guide,Gear set,Ball bearing,Speed controller,Flow sensor,Storage box,Wall bracket,Transport case,Test weight,Bottle rack,Label scanner,Dosing unit,Ice crusher,Soup kettle,Bread slicer,Mixer head,Water softener".split(
    ","
)
_COUNTRIES = (
    "Spain Italy Norway Sweden Austria Belgium Portugal Greece Ireland Denmark Finland Canada Mexico Brazil India Kenya Chile Peru Egypt Korea".split()
    + [
        "New Zealand",
        "South Africa",
        "Costa Rica",
        "Saudi Arabia",
        "Sri Lanka",
        "Czech Republic",
    ]
)


def variant(seed: int) -> list[data.Document]:
    """`data.business_documents()` with other partners, agreements, articles, countries and values."""
    rng = random.Random(f"variant {seed}")
    names = iter(rng.sample(_FIRMS, len(_FIRMS)))
    trades = iter(rng.sample(_TRADES, len(_TRADES)))
    result, known = [], {}
    for document in data.business_documents():
        text, section = document.text, document.section
        if contract := re.match(r"(.+) ([A-Z]{2}-\d{4}-\d{3})$", section):
            if section not in known:
                trade = next(trades)
                number = f"{trade[0]}{rng.choice('ABCDEFGHKLMNPRSTVW')}-{rng.randint(2018, 2027)}-{rng.randint(100, 999)}"
                place = f"{rng.choice(_STREETS)} {rng.randint(1, 98)}, {rng.choice(_TOWNS)}"
                name = f"{next(names)} & {next(names)}" if rng.random() < 0.3 else next(names)
                known[section] = (
                    f"{trade} Agreement {number}",
                    number,
                    f"{name} {trade} Ltd, {place}",
                )
            section, number, firm = known[section]
            text = text.replace(contract[2], number)
            text = (
                re.sub(
                    r"(?<!^)(?<!\n)\b\d[\d,.]*\b(?<!\.)(?! \w+ 20\d\d)",
                    lambda m: _other(rng, m[0]),
                    text,
                )
                if "number" not in text
                else _renamed(text, firm)
            )
        elif document.id.startswith("price_list#"):
            text = _other_prices(rng, text)
        elif document.id == "travel_policy#rates-by-destination":
            countries = iter(rng.sample(_COUNTRIES, len(_COUNTRIES)))
            text = re.sub(
                r"^[A-Z][\w ]+(?= \| EUR)",
                lambda _, names=countries: next(names),
                text,
                flags=re.MULTILINE,
            )
            text = re.sub(r"(?<=EUR )\d+", lambda m: _other(rng, m[0]), text)
        result.append(replace(document, text=text, section=section))
    return result


def _other(rng: random.Random, number: str) -> str:
    """A number of the same form: as many digits, the zeros at its end kept."""
    kept = re.search(r"[0,.]*$", number)[0] if "," in number else ""
    head = number[: len(number) - len(kept)]
    digits = [str(rng.randint(1, 9)) if c.isdigit() else c for c in head]
    return "".join(digits) + kept


def _renamed(text: str, firm: str) -> str:
    return re.sub(
        r"[A-Z][\w&. ]+ Ltd, (?!Esterholm)[A-Z][\w ]+ \d+, [A-Z][a-z]+(?: [A-Z][a-z]+)?", firm, text
    )


def _other_prices(rng: random.Random, text: str) -> str:
    parts = iter(rng.sample(_PARTS, len(_PARTS)))

    def row(_: re.Match) -> str:
        series = "".join(rng.choice("ABDEFGMNRTVW") for _ in "xx")
        number = rng.choice(
            [
                f"{series}-{rng.randint(100, 999)}-{rng.randint(10, 99)}",
                f"{series}-{rng.randint(1000, 9999)}-{rng.choice('ABCDEK')}",
            ]
        )
        price = rng.choice(
            [
                rng.uniform(5, 100),
                rng.uniform(100, 1000),
                rng.uniform(100, 1000),
                rng.uniform(1000, 3000),
            ]
        )
        return f"{number} | {next(parts)} | {price:,.2f} | {rng.randint(1, 20)}"

    return re.sub(r"^[A-Z]{2}-\d+-\w+ \| .+ \| [\d,.]+ \| \d+$", row, text, flags=re.MULTILINE)


# ------------------------------------------------------------------ questions


def tasks(documents: Sequence[data.Document], split: str, n: int, seed: int = 0) -> list[Task]:
    """n questions about these documents, the kinds in turn, in random order.

    Args:
        split: "train" or "test", of which each has its own wordings and clauses, or "far": the clauses of
            "test", asked in wordings that are nothing like those of training.
    """
    rng = random.Random(f"{split} {seed}")
    world, result = _read(documents), {}
    kinds = [list(KINDS)[i % len(KINDS)] for i in range(n)]
    for kind in kinds:
        while (task := _draw(rng, kind, world, split)).text in result:
            pass
        result[task.text] = task
    return rng.sample(list(result.values()), n)


@dataclass(frozen=True)
class _World:
    contracts: dict[str, tuple[str, str]]  # number to firm and the whole text
    articles: dict[str, str]  # number or unambiguous name, to price
    hotels: dict[str, str]  # country to limit


def _read(documents: Sequence[data.Document]) -> _World:
    contracts: dict[str, tuple[str, str]] = {}
    for document in documents:
        if match := re.search(r" ([A-Z]{2}-\d{4}-\d{3})$", document.section):
            firm, text = contracts.get(match[1], ("", ""))
            if document.title == "Parties and definitions":
                firms = re.findall(r"([A-Z][\w&]*(?: [A-Z&][\w&]*)* Ltd),", document.text)
                firm = next(name for name in firms if "Velmora" not in name)
            contracts[match[1]] = firm, f"{text}\n{document.text}"
    text = "\n".join(d.text for d in documents if d.id.startswith("price_list#"))
    rows = re.findall(r"^([A-Z]{2}-\d+-\w+) \| (.+) \| ([\d,.]+) \| \d+$", text, re.MULTILINE)
    heads = [name.split(",")[0] for _, name, _ in rows]
    articles = {number: price for number, _, price in rows}
    for (_, _, price), head in zip(rows, heads, strict=True):
        if heads.count(head) == 1 and not re.search(r"\d", head):
            articles[f"the {head[0].lower() + head[1:]}"] = price
    rates = next(d.text for d in documents if d.id == "travel_policy#rates-by-destination")
    hotels = dict(re.findall(r"^(?!Own|All)([\w ]+) \| EUR \d+ \| EUR (\d+)", rates, re.MULTILINE))
    return _World(contracts, articles, hotels)


def _draw(rng: random.Random, kind: str, world: _World, split: str) -> Task:
    n, m = rng.randint(2, 6), rng.randint(2, 6)
    question, pattern = rng.choice(_CLAUSES["train" if split == "train" else "test"])
    no, country = rng.choice(sorted(world.contracts)), rng.choice(sorted(world.hotels))
    firm, contract = world.contracts[no]
    a, b = rng.sample(sorted(world.articles), 2)
    one, two, limit = world.articles[a], world.articles[b], world.hotels[country]
    if kind == "gap" and _number(one) <= _number(two):
        a, b, one, two = b, a, two, one
    if one == two:  # the same article by number and by name
        return _draw(rng, kind, world, split)

    clause = re.search(pattern, contract)[1]
    look = Step(f"I look into {no}.", "search", f"{no} {question.removeprefix('how many ')}")
    first = Step(f"One price: I need {a}.", "search", f"price EUR {_bare(a)}")
    second = Step(f"{_start(a)} costs {one}. Second, {b}.", "search", f"price EUR {_bare(b)}")
    done = "That is the answer."
    match kind:
        case "price":
            steps, values = [first], [one]
            answer, done = one, f"It costs {one}."
        case "clause":
            steps, values, answer, done = [look], [clause], clause, f"It says {clause}."
        case "firm":
            find = Step(
                f"First I need the agreement with {firm}.", "search", f"agreement with {firm}"
            )
            steps, values = [find, replace(look, thought=f"Its number is {no}.")], [no, clause]
            answer, done = clause, f"It says {clause}."
        case "nights":
            find = Step(
                f"{n} nights: I need the hotel limit in {country}.",
                "search",
                f"hotel limit {country}",
            )
            steps, values = (
                [find, Step(f"One night is {limit}.", "calculate", f"{n} * {limit}")],
                [limit],
            )
            answer = plain(n * _number(limit))
        case "basket":
            total = Step(
                f"{_start(b)} costs {two}. Now {n} and {m} pieces.",
                "calculate",
                f"{n} * {one} + {m} * {two}",
            )
            first = replace(first, thought=f"{n} and {m} pieces: I need two prices, first {a}.")
            steps, values = [first, second, total], [one, two]
            answer = plain(n * _number(one) + m * _number(two))
        case "gap":
            total = Step(
                f"{_start(b)} costs {two}. Now the difference.", "calculate", f"{one} - {two}"
            )
            first = replace(first, thought=f"A difference: I need two prices, first {a}.")
            steps, values = [first, second, total], [one, two]
            answer = plain(_number(one) - _number(two))
    text = rng.choice(_WORDINGS[split][kind]).format(
        a=a, b=b, n=n, m=m, c=country, no=no, firm=firm, q=question
    )
    return Task(kind, _start(text), answer, (*steps, Step(done, "finish", answer)), tuple(values))


def _bare(article: str) -> str:
    return article.removeprefix("the ")


def _start(text: str) -> str:
    return text[0].upper() + text[1:]


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def plain(number: float) -> str:
    """Rounded to two decimals, and 12.0 as 12."""
    return (
        f"{round(number, 2):g}"
        if abs(number) < 1e5 and round(number, 2) == round(number)
        else f"{number:.2f}".rstrip("0").rstrip(".")
    )


def right(task: Task, answer: str | None) -> bool:
    """Whether the first number in the answer is the expected one."""
    match = re.search(r"-?\d[\d,]*(?:\.\d+)?", answer or "")
    return match is not None and abs(_number(match[0]) - _number(task.answer)) < 0.005
