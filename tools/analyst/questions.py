"""Guards: the queries of QUESTIONS.md run over an export, and give the answers that stand there."""

from __future__ import annotations

import os
import re
from pathlib import Path

import duckdb

PAGE = Path(__file__).parents[2] / "docs" / "QUESTIONS.md"
QUESTION = re.compile(r"```sql\n(?P<sql>.*?)```\n(\n```text\n(?P<answer>.*?)```\n)?", re.DOTALL)


def answered(sql: str, directory: Path) -> str:
    """A query's rows as the page has them."""
    relation = duckdb.sql(sql.replace("./events/", f"{directory}/"))
    rows = [relation.columns, *([str(value) for value in row] for row in relation.fetchall())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(relation.columns))]
    lines = ("  ".join(value.ljust(width) for value, width in zip(row, widths)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"


def check(directory: Path) -> int:
    """Holds each answer to the query's; DAYBOOK_ACCEPT=1 writes what was found. Tells how many there are."""
    page = PAGE.read_text()

    def replaced(found: re.Match) -> str:
        return f"```sql\n{found['sql']}```\n\n```text\n{answered(found['sql'], directory)}```\n"

    made = QUESTION.sub(replaced, page)
    if os.environ.get("DAYBOOK_ACCEPT") == "1":
        PAGE.write_text(made)
    elif made != page:
        pairs = zip(QUESTION.finditer(page), QUESTION.finditer(made))
        number, found = next((n, f["answer"]) for n, (e, f) in enumerate(pairs, 1) if e["answer"] != f["answer"])
        raise SystemExit(f"the answer to question {number} is\n{found}")
    return len(QUESTION.findall(made))
