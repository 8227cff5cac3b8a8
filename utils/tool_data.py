"""Six small tools, conversations that use them, and held-out tasks.

Recipe 3.3 trains on `conversations` and scores `steps`; chapter 4 runs the
tools on `tasks`. The tools are real Python functions on small tables, without
network, so that every result in a training conversation comes from running
them. Everything is written for this book (CC BY 4.0); names are made up,
addresses end in `.example` (RFC 2606), rates and weather are invented.

Training and held-out data share no city, person, order, topic or currency
code beyond the base ones (USD, EUR, GBP), and no phrasing: the words around
the names differ as well.
"""

import ast
import inspect
import json
import operator
import random
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils import toolformat

# --------------------------------------------------------------------- names


@dataclass(frozen=True)
class Names:
    """What may stand in the gaps of a phrasing; one set for training, one held out."""

    cities: Sequence[str]
    people: Sequence[str]
    orders: Sequence[int]
    subjects: Sequence[str]
    currencies: Sequence[str]
    domains: Sequence[str]


_TRAIN_CITIES = (
    "Paris London Tokyo Berlin Madrid Rome Oslo Cairo Lima Delhi Boston Seattle Dublin Vienna Prague Athens "
    "Lisbon Warsaw Zurich Geneva Chicago Denver Miami Austin Mumbai Jakarta Seoul Beijing Shanghai Sydney "
    "Melbourne Auckland Dakar Lagos Accra Tunis Rabat Istanbul Ankara Kyiv Riga Vilnius Tallinn Stockholm "
    "Gothenburg Bergen Hamburg Cologne Munich Lyon Marseille Bordeaux Naples Milan Turin Porto Seville Valencia "
    "Montreal Vancouver Quito Havana Panama Medellin Brasilia Recife Osaka Kyoto Taipei Hanoi Kathmandu Colombo"
).split() + [
    "New York",
    "San Diego",
    "Los Angeles",
    "Rio de Janeiro",
    "Hong Kong",
    "Cape Town",
    "Tel Aviv",
    "Las Vegas",
]
_HELD_CITIES = (
    "Helsinki Toronto Nairobi Santiago Bangkok Manila Budapest Copenhagen Glasgow Phoenix Krakow Perth Izmir "
    "Leipzig Bogota"
).split() + ["Buenos Aires", "Addis Ababa", "San Francisco"]

_TRAIN_PEOPLE = (
    "Maria Ahmed Olga Peter Lucia Tom Priya Hans Yuki Anna Boris Carla Derek Emma Felix Grace Hugo Ines Jonas "
    "Karim Laura Mateo Nadia Oscar Paula Quentin Rosa Stefan Tanya Umar Vera Walter Xenia Yusuf Zoe Aisha Bruno "
    "Chloe Diego Esther Frank Gita Henrik Irina Julian Katya Leon Mina Noah Petra Ravi Sofia Theo Ursula Victor "
    "Wendy Amir Bianca Colin Daria"
).split() + [
    "Li Wei",
    "Ana Torres",
    "John Smith",
    "Eva Novak",
    "Omar Haddad",
    "Kim Park",
    "Jean Dupont",
    "Mary Jones",
    "Ivan Petrov",
    "Nina Berg",
    "Paul Meyer",
    "Sara Lind",
    "Ken Ito",
    "Ruth Cohen",
    "Max Weber",
    "Lena Koch",
]
_HELD_PEOPLE = (
    "Elena Marcus Fatima Jorge Ingrid Rashid Beatrice Tomas Mei Gareth Salma Viktor"
).split() + ["Dana Fischer", "Pedro Alves", "Hana Suzuki", "Claire Martin"]

_TRAIN_SUBJECTS = (
    "invoice;budget;holiday;report;contract;deadline;launch;training;survey;agenda;roadmap;proposal;delivery;"
    "refund;interview;workshop;newsletter;password;lease;warranty;quarterly report;travel plan;team lunch;"
    "new website;price list;sales figures;hiring plan;bug report;release notes;office move;meeting notes;"
    "product demo;customer feedback;security audit;expense report;board meeting;project status;annual review"
).split(";")
_HELD_SUBJECTS = "parking permit;server migration;press release;catering;insurance;test results;visa;merger".split(
    ";"
)

_BASE = ["USD", "EUR", "GBP"]
_WORDS = {"USD": "dollars", "EUR": "euros", "GBP": "pounds", "JPY": "yen", "INR": "rupees"}
# Units of each currency for one dollar.
RATES = {"USD": 1.0, "EUR": 0.92, "GBP": 0.79, "JPY": 151.0, "CHF": 0.88, "CAD": 1.37, "AUD": 1.52, "INR": 83.5,
         "CNY": 7.24, "BRL": 5.1, "KRW": 1370.0, "ZAR": 18.6, "SEK": 10.6, "NZD": 1.66, "PLN": 3.95, "MXN": 17.1}  # fmt: skip
_HELD_CURRENCIES = ["SEK", "NZD", "PLN", "MXN"]

# The last digit keeps training and held-out orders apart.
_TRAIN_ORDERS = [
    n for n in random.Random(1).sample(range(1000, 100_000), 420) if n % 10 not in (3, 7)
]
_HELD_ORDERS = [n for n in random.Random(2).sample(range(1000, 100_000), 420) if n % 10 in (3, 7)]

TRAIN = Names(_TRAIN_CITIES, _TRAIN_PEOPLE, _TRAIN_ORDERS, _TRAIN_SUBJECTS,
              [c for c in RATES if c not in _HELD_CURRENCIES], ["acme.example", "mail.example", "globex.example"])  # fmt: skip
HELD_OUT = Names(_HELD_CITIES, _HELD_PEOPLE, _HELD_ORDERS, _HELD_SUBJECTS,
                 _HELD_CURRENCIES, ["initech.example", "post.example"])  # fmt: skip

# -------------------------------------------------------------------- tables


def _short(number: float, decimals: int = 2) -> int | float:
    """Rounded, and 12.0 as 12."""
    number = round(number, decimals)
    return int(number) if number == int(number) else number


SKIES = ["sunny", "cloudy", "rain", "snow", "fog", "storm"]
_rng = random.Random(0)
WEATHER = {
    city: (_rng.randint(-9, 38), _rng.choice(SKIES)) for city in [*_TRAIN_CITIES, *_HELD_CITIES]
}
ORDERS = {
    number: (_rng.choice(["paid", "packed", "shipped", "delivered", "cancelled"]),
             _short(_rng.uniform(5, 900), _rng.choice([0, 1, 2])), _rng.choice(_BASE))
    for number in [*_TRAIN_ORDERS, *_HELD_ORDERS]
}  # fmt: skip
CONTACTS = {
    person: f"{person.lower().replace(' ', '.')}@{_rng.choice(names.domains)}"
    for names in (TRAIN, HELD_OUT)
    for person in names.people
}

# --------------------------------------------------------------------- tools


def get_weather(city: str) -> dict[str, Any]:
    """Current weather in a city."""
    temperature, sky = _find(WEATHER, city, "city")
    return {"temperature_c": temperature, "sky": sky}


def convert_currency(amount: float, source: str, target: str) -> dict[str, Any]:
    """Convert money."""
    value = amount / _find(RATES, source, "currency") * _find(RATES, target, "currency")
    return {"amount": round(value, 2), "currency": target}


def get_order(order_id: int) -> dict[str, Any]:
    """Status and total of an order."""
    status, total, currency = _find(ORDERS, order_id, "order")
    return {"status": status, "total": total, "currency": currency}


def find_contact(name: str) -> dict[str, Any]:
    """Email address of a person."""
    return {"email": _find(CONTACTS, name, "contact")}


def send_email(to: str, subject: str) -> dict[str, Any]:
    """Send an email."""
    if "@" not in to:
        raise ValueError(f"not an email address: {to}")
    return {"sent": True}


_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def calculate(expression: str) -> dict[str, Any]:
    """Arithmetic."""

    def value(node: ast.AST) -> float:
        match node:
            case ast.Constant(value=int() | float() as number):
                return number
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](value(left), value(right))
        raise ValueError(f"cannot calculate {expression}")

    try:
        result = value(ast.parse(expression, mode="eval").body)
    except (SyntaxError, ZeroDivisionError) as error:
        raise ValueError(f"cannot calculate {expression}") from error
    return {"result": _short(result)}


FUNCTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    function.__name__: function
    for function in (
        get_weather, convert_currency, get_order, find_contact, send_email, calculate,
    )
}  # fmt: skip
"""The tools by name. They raise ValueError with a message for the model when they fail."""


def schema(function: Callable[..., Any]) -> dict[str, Any]:
    """A typed function as an OpenAI tool; its docstring is the description."""
    names = {str: "string", int: "integer", float: "number", bool: "boolean"}
    parameters = inspect.signature(function).parameters
    return {
        "type": "function",
        "function": {
            "name": function.__name__,
            "description": inspect.getdoc(function),
            "parameters": {
                "type": "object",
                "properties": {p.name: {"type": names[p.annotation]} for p in parameters.values()},
                "required": [p.name for p in parameters.values() if p.default is p.empty],
            },
        },
    }


TOOLS: list[dict[str, Any]] = [schema(function) for function in FUNCTIONS.values()]
"""The tools as OpenAI's `tools=` takes them."""


def run(name: str, arguments: dict[str, Any]) -> str:
    """Run a tool and return its result as JSON text; a failure becomes `{"error": ...}`."""
    try:
        if name not in FUNCTIONS:
            raise ValueError(f"no such tool: {name}")
        inspect.signature(FUNCTIONS[name]).bind(**arguments)
        return json.dumps(FUNCTIONS[name](**arguments))
    except (ValueError, TypeError) as error:
        return json.dumps({"error": str(error)})


def _find(table: dict, key: Any, what: str) -> Any:
    if key not in table:
        raise ValueError(f"no such {what}: {key}")
    return table[key]


# ------------------------------------------------------------------ families
# A family is one kind of task: phrasings, the calls that solve it, and what to
# say in the end. The values of a later call come from earlier results.

Slots = dict[str, Any]
Results = list[dict[str, Any]]


PHRASINGS: dict[str, dict[str, list]] = tomllib.loads(
    (Path(__file__).parent / "datasets" / "tool_phrasings.toml").read_text(encoding="utf-8")
)


@dataclass(frozen=True)
class Family:
    """One kind of task.

    Attributes:
        slots: draws the values for the gaps from a set of names.
        plan: for each call a function of the slots and the results so far.
        answer: the final sentence.
        facts: texts that a right final answer must contain.
    """

    name: str
    slots: Callable[[random.Random, Names], Slots]
    plan: Sequence[Callable[[Slots, Results], tuple[str, dict[str, Any]]]]
    answer: Callable[[Slots, Results], str]
    facts: Callable[[Slots, Results], list[str]]

    def phrasings(self, held: bool) -> list[str]:
        """What users say, with gaps in braces; the held-out ones are never trained on."""
        return PHRASINGS[self.name]["held_out" if held else "train"]


def _weather(s: Slots, r: Results) -> tuple[str, dict[str, Any]]:
    return "get_weather", {"city": s["city"]}


def _order(s: Slots, r: Results) -> tuple[str, dict[str, Any]]:
    return "get_order", {"order_id": s["order_id"]}


def _contact(s: Slots, r: Results) -> tuple[str, dict[str, Any]]:
    return "find_contact", {"name": s["name"]}


def _said(rng: random.Random, code: str) -> str:
    return rng.choice([code, code, _WORDS.get(code, code)])


def _city_slots(rng: random.Random, names: Names) -> Slots:
    city, other = rng.sample(names.cities, 2)
    return {"city": city, "other": other}


def _money_slots(rng: random.Random, names: Names) -> Slots:
    source, target = rng.sample([*names.currencies, *(_BASE if names is HELD_OUT else [])], 2)
    amount = rng.choice([rng.randint(2, 99), rng.randint(100, 20_000), _short(rng.uniform(1, 500))])
    said = {"source_said": _said(rng, source), "target_said": _said(rng, target)}
    return {"amount": amount, "source": source, "target": target, **said}


def _order_slots(rng: random.Random, names: Names) -> Slots:
    order_id = rng.choice(names.orders)
    target = rng.choice([c for c in names.currencies if c != ORDERS[order_id][2]])
    people = rng.randint(2, 9)
    return {
        "order_id": order_id,
        "people": people,
        "target": target,
        "target_said": _said(rng, target),
    }


def _mail_slots(rng: random.Random, names: Names) -> Slots:
    name = rng.choice(names.people)
    return {"name": name, "to": CONTACTS[name], "subject": rng.choice(names.subjects)}


def _sum_slots(rng: random.Random, names: Names) -> Slots:
    a, b = (
        rng.choice([rng.randint(2, 99), rng.randint(100, 9999), _short(rng.uniform(1, 99), 1)])
        for _ in "ab"
    )
    sign, word = rng.choice([("+", "plus"), ("-", "minus"), ("*", "times"), ("/", "divided by")])
    return {
        "sum": f"{a} {sign} {b}",
        "sum_said": rng.choice([f"{a} {sign} {b}", f"{a} {word} {b}"]),
    }


FAMILIES = [
    Family(
        "weather",
        _city_slots,
        [_weather],
        lambda s, r: f"It is {r[0]['temperature_c']} degrees in {s['city']}, {r[0]['sky']}.",
        lambda s, r: [str(r[0]["temperature_c"]), r[0]["sky"]],
    ),
    Family(
        "convert",
        _money_slots,
        [lambda s, r: ("convert_currency", {k: s[k] for k in ("amount", "source", "target")})],
        lambda s, r: f"{s['amount']} {s['source']} is {r[0]['amount']} {s['target']}.",
        lambda s, r: [str(r[0]["amount"]), s["target"]],
    ),
    Family(
        "order",
        _order_slots,
        [_order],
        lambda s, r: f"Order {s['order_id']} is {r[0]['status']}; its total is {r[0]['total']} {r[0]['currency']}.",
        lambda s, r: [r[0]["status"], str(r[0]["total"])],
    ),
    Family(
        "contact",
        _mail_slots,
        [_contact],
        lambda s, r: f"The address of {s['name']} is {r[0]['email']}.",
        lambda s, r: [r[0]["email"]],
    ),
    Family(
        "email",
        _mail_slots,
        [lambda s, r: ("send_email", {"to": s["to"], "subject": s["subject"]})],
        lambda s, r: f"I sent {s['to']} an email about the {s['subject']}.",
        lambda s, r: [s["to"]],
    ),
    Family(
        "sum",
        _sum_slots,
        [lambda s, r: ("calculate", {"expression": s["sum"]})],
        lambda s, r: f"{s['sum']} = {r[0]['result']}",
        lambda s, r: [str(r[0]["result"])],
    ),
    Family(
        "order_convert",
        _order_slots,
        [_order,
         lambda s, r: ("convert_currency", {"amount": r[0]["total"], "source": r[0]["currency"], "target": s["target"]})],
        lambda s, r: f"Order {s['order_id']} is {r[1]['amount']} {s['target']}.",
        lambda s, r: [str(r[1]["amount"]), s["target"]],
    ),
    Family(
        "order_split",
        _order_slots,
        [_order, lambda s, r: ("calculate", {"expression": f"{r[0]['total']} / {s['people']}"})],
        lambda s, r: f"Each of the {s['people']} pays {r[1]['result']} {r[0]['currency']}.",
        lambda s, r: [str(r[1]["result"])],
    ),
    Family(
        "contact_email",
        _mail_slots,
        [_contact, lambda s, r: ("send_email", {"to": r[0]["email"], "subject": s["subject"]})],
        lambda s, r: f"I sent {r[0]['email']} an email about the {s['subject']}.",
        lambda s, r: [r[0]["email"]],
    ),
    Family(
        "two_cities",
        _city_slots,
        [_weather, lambda s, r: ("get_weather", {"city": s["other"]})],
        lambda s, r: f"It is {r[0]['temperature_c']} degrees in {s['city']}, {r[0]['sky']}, "
        f"and {r[1]['temperature_c']} degrees in {s['other']}, {r[1]['sky']}.",
        lambda s, r: [str(r[0]["temperature_c"]), str(r[1]["temperature_c"])],
    ),
]  # fmt: skip
SINGLE = [family for family in FAMILIES if len(family.plan) == 1]
DOUBLE = [family for family in FAMILIES if len(family.plan) == 2]

_OPENINGS = [
    "",
    "",
    "",
    "",
    "Hi! ",
    "Hello. ",
    "Quick question: ",
    "Next one. ",
    "Good morning. ",
    "One more thing: ",
]
_CLOSINGS = [
    "",
    "",
    "",
    "",
    "",
    "",
    " Thanks!",
    " Thank you.",
    " Please be quick.",
    " It's urgent.",
]

# ------------------------------------------------------------------- samples

Conversation = tuple[list[dict[str, Any]], list[dict[str, Any]]]
"""OpenAI messages and tools."""


@dataclass(frozen=True)
class Task:
    """One thing a user asks for.

    Attributes:
        family: name of its `Family`, "talk" or "error".
        user: what the user says.
        calls: the right calls in order, as (name, arguments); none for small talk.
        results: what each of them returned, JSON text.
        answer: the final sentence as the training data has it.
        facts: texts that a right final answer contains.
    """

    family: str
    user: str
    calls: list[tuple[str, dict[str, Any]]]
    results: list[str]
    answer: str
    facts: list[str]


@dataclass(frozen=True)
class Step:
    """One turn of the assistant to be scored: what came before, and what is right.

    Attributes:
        kind: "call" (the first call), "second" (a call after a result),
            "answer" (the final text), "talk" (small talk: text, no call) or
            "no_tool" (the tool that is needed is not listed: text, no call).
        messages, tools: an OpenAI request; the turns before are the right ones.
        call: the right (name, arguments), or None where text is right.
        text: the answer as the training data would have it ("answer" only).
        facts: texts that a right answer contains.
    """

    kind: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    call: tuple[str, dict[str, Any]] | None = None
    text: str = ""
    facts: Sequence[str] = ()

    def correct(self, text: str) -> bool:
        """Exactly the right call; or text, no call, that contains every fact."""
        found = toolformat.parse(text)
        if self.call:
            return found == self.call
        return found is None and not text.lstrip().startswith("{") and contains(text, self.facts)


def contains(text: str, facts: Sequence[str]) -> bool:
    """Whether every fact stands in the text as a whole word or number (4 not in 41, nor in 4.5)."""
    return all(re.search(rf"(?<![\w.-]){re.escape(fact)}(?!\w|\.\d)", text) for fact in facts)


def _solve(family: Family, rng: random.Random, held: bool) -> Task:
    slots = family.slots(rng, HELD_OUT if held else TRAIN)
    user = rng.choice(family.phrasings(held)).format(**slots)
    if not held:
        user = rng.choice(_OPENINGS) + user + (rng.choice(_CLOSINGS) if user[-1] in ".?!" else "")
    calls, results = [], []
    for step in family.plan:
        calls.append(step(slots, [json.loads(result) for result in results]))
        results.append(run(*calls[-1]))
    parsed = [json.loads(result) for result in results]
    return Task(
        family.name, user, calls, results, family.answer(slots, parsed), family.facts(slots, parsed)
    )


def _fail(task: Task, rng: random.Random) -> Task:
    """The same task, but its first tool fails, which the answer must report."""
    error = rng.choice(
        ["timeout", "service unavailable", "permission denied", "not found", "internal error"]
    )
    return Task(
        "error",
        task.user,
        task.calls[:1],
        [json.dumps({"error": error})],
        f"That did not work: {error}.",
        [error],
    )


def turns(task: Task) -> list[dict[str, Any]]:
    """A task as OpenAI messages: user, calls with their results, final answer."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": task.user}]
    for i, ((name, arguments), result) in enumerate(zip(task.calls, task.results, strict=True)):
        call = {
            "id": f"call_{i}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"call_{i}", "content": result})
    return [*messages, {"role": "assistant", "content": task.answer}]


def conversations(seed: int, n: int, tasks_each: int = 3) -> list[Conversation]:
    """Training conversations as pairs of OpenAI (messages, tools).

    Several unrelated tasks share one conversation, because the list of tools
    is most of a prompt and is then read once for all of them. Half of the
    lists hold all tools, the others the needed ones and a random part of the
    rest; the order is random. About one task in eight is small talk, and one
    in twenty meets a tool that fails.

    Args:
        seed: fixes everything.
        n: how many conversations.
        tasks_each: tasks in one conversation.
    """
    rng = random.Random(f"train {seed}")
    result = []
    for _ in range(n):
        tasks = [_draw(rng) for _ in range(tasks_each)]
        needed = {name for task in tasks for name, _ in task.calls}
        keep_all = rng.random() < 0.5
        tools = [
            tool
            for tool in TOOLS
            if keep_all or tool["function"]["name"] in needed or rng.random() < 0.5
        ]
        rng.shuffle(tools)
        result.append(([message for task in tasks for message in turns(task)], tools))
    return result


def _draw(rng: random.Random) -> Task:
    chance = rng.random()
    if chance < 0.12:
        user, answer = rng.choice(PHRASINGS["talk"]["train"])
        return Task("talk", user, [], [], answer, [])
    task = _solve(rng.choice(SINGLE if chance < 0.5 else DOUBLE), rng, held=False)
    return _fail(task, rng) if rng.random() < 0.05 else task


def tasks(seed: int, n: int) -> list[Task]:
    """Held-out tasks: two thirds need one tool, one third two in sequence.

    Every family comes equally often within its third (as far as n allows);
    names and phrasings are not those of training.
    """
    rng = random.Random(f"held out {seed}")
    double = round(n / 3)
    wanted = [SINGLE[i % len(SINGLE)] for i in range(n - double)] + [
        DOUBLE[i % len(DOUBLE)] for i in range(double)
    ]
    return rng.sample([_solve(family, rng, held=True) for family in wanted], n)


def steps(seed: int, n: int) -> dict[str, list[Step]]:
    """Held-out turns to be scored, n of each kind, families in turn.

    All tools are in the prompt, except for "no_tool", where the one that the
    request needs has been taken off the list.
    """
    rng = random.Random(f"steps {seed}")
    talk = PHRASINGS["talk"]["held_out"]
    result: dict[str, list[Step]] = {
        kind: [] for kind in ("call", "second", "answer", "talk", "no_tool")
    }
    for i in range(n):
        first, second, answered, lost = (
            _solve(families[i % len(families)], rng, held=True)
            for families in (FAMILIES, DOUBLE, FAMILIES, FAMILIES)
        )
        said = [{"role": "user", "content": talk[i % len(talk)]}]
        others = [tool for tool in TOOLS if tool["function"]["name"] != lost.calls[0][0]]
        result["call"].append(Step("call", turns(first)[:1], TOOLS, first.calls[0]))
        result["second"].append(Step("second", turns(second)[:3], TOOLS, second.calls[1]))
        result["answer"].append(
            Step("answer", turns(answered)[:-1], TOOLS, None, answered.answer, answered.facts)
        )
        result["talk"].append(Step("talk", said, TOOLS))
        result["no_tool"].append(Step("no_tool", turns(lost)[:1], others))
    return result
