"""A register of people who do not exist, with attributes of every kind, and a case in it as a web page: for the docs.

    python experiments/titf/people.py FOLDER
    chromium --headless --no-sandbox --hide-scrollbars --window-size=960,3000 --screenshot=case.png FOLDER/case.html

The witness of the case is asked what tells most and answers from memory, with two errors and one question that they
cannot answer. Names are made of syllables; nothing in it is personal data.
"""

import csv
import sys
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from unmask.tracing.attributes.dictionary import dictionary_digest, read_dictionary
from unmask.tracing.case.case_file import Event, Opened, case_file, now
from unmask.tracing.case.investigation import Investigation, shown
from unmask.tracing.registers.memory import read_register
from unmask.tracing.report.page import write_page

RECORDS = 20_000
MEANT = "P04711"
TOLD = {
    "surname": "Kolimar",
    "born": "1987-03-11",  # 1987-03-12
    "height": "174",  # 178
    "town": "Westhaven",
    "occupation": "baker",
    "schooling": "secondary",
    "vehicle": None,
    "eyes": "brown",
    "hair": "black",
}
SYLLABLES = [consonant + vowel for consonant in "bdfgklmnrst" for vowel in "aeiou"]
FIRST = ("West", "East", "North", "South", "Old", "New", "High", "Long", "Fair", "Stone")
TOWNS = [f"{first}{last}" for first in FIRST for last in ("haven", "ford", "field", "wick", "ton", "bridge")]
OCCUPATIONS = "baker carpenter clerk cook driver farmer fitter gardener guard mason nurse painter tailor teacher waiter"
CHOICES = {
    "occupation": (OCCUPATIONS.split(), [1 / 15] * 15),
    "eyes": (["brown", "blue", "green", "grey"], [0.55, 0.25, 0.12, 0.08]),
    "hair": (["black", "brown", "blond", "red", "white"], [0.35, 0.35, 0.2, 0.04, 0.06]),
    "schooling": (["primary", "secondary", "vocational", "university"], [0.1, 0.35, 0.3, 0.25]),
    "vehicle": (["none", "bicycle", "car", "van", "motorcycle"], [0.35, 0.2, 0.35, 0.05, 0.05]),
}
DICTIONARY = """id = "person"
absent = 0.2

[attributes.surname]
kind = "string"
error = 0.1
[attributes.born]
kind = "date"
error = 0.05
availability = 0.5
cost = 2.0
[attributes.height]
kind = "numeric"
spread = 4.0
[attributes.town]
kind = "categorical"
error = 0.05
[attributes.occupation]
kind = "categorical"
error = 0.05
[attributes.schooling]
kind = "ordinal"
order = ["primary", "secondary", "vocational", "university"]
error = 0.1
availability = 0.7
[attributes.vehicle]
kind = "categorical"
error = 0.1
[attributes.eyes]
kind = "categorical"
error = 0.05
group = "photo"
[attributes.hair]
kind = "categorical"
error = 0.15
group = "photo"

[groups.photo]
error = 0.1
"""


def write_register(folder: Path) -> None:
    """people.csv and people.toml."""
    randomness = np.random.default_rng(0)
    names = [
        "".join(randomness.choice(SYLLABLES, 3)).capitalize() + ending for ending in ("", "r", "n") for _ in range(900)
    ]
    names[0] = "Kolimar"
    shares = 1.0 / np.arange(1, len(names) + 1) ** 0.6
    surnames = randomness.choice(names, RECORDS, p=shares / shares.sum())
    columns = {name: randomness.choice(values, RECORDS, p=weights) for name, (values, weights) in CHOICES.items()}
    days = randomness.integers(0, 60 * 365, RECORDS)
    with (folder / "people.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["person", "surname", "born", "height", "town", *columns])
        for number in range(RECORDS):
            born = date(1945, 1, 1) + timedelta(days=int(days[number]))
            height = round(float(randomness.normal(171.0, 9.0)))
            row = [f"P{number:05d}", surnames[number], born.isoformat(), height, randomness.choice(TOWNS)]
            row += [column[number] for column in columns.values()]
            if row[0] == MEANT:
                row = [MEANT, "Kolimar", "1987-03-12", 178, "Westhaven", "baker", "brown", "black", "secondary", "car"]
            rows.writerow(row)
    (folder / "people.toml").write_text(DICTIONARY, encoding="utf-8")


def main() -> None:
    """Write the register, and the case in it."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    write_register(folder)
    register = read_register(folder / "people.csv", read_dictionary(folder / "people.toml"))
    inquiry = Investigation(register)
    digest, purpose = dictionary_digest(register.dictionary), "next of kin of a lost traveller"
    opened = Opened("people.csv", register.fingerprint, digest, purpose, now())
    with case_file(folder / "traveller.case", opened) as case:
        while (conclusion := inquiry.conclusion()) is None:
            questions = inquiry.questions()
            name = questions[0].attribute
            event = Event("answer", now(), name, TOLD[name], shown=shown(questions))
            inquiry.apply(event)
            case.add(event)
    print(conclusion)
    command = "unmask trace find people.csv --dictionary people.toml --case traveller.case --html case.html"
    report = inquiry.report("people.csv", digest, command, purpose)
    write_page(report, folder / "case.html")


if __name__ == "__main__":
    main()
