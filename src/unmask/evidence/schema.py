"""The JSON Schema of the report; `python -m unmask.evidence.schema` prints it."""

import json
from typing import Any

from unmask.evidence.report import Report


def report_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one line of `unmask inspect --json`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Report.model_json_schema(mode="serialization"),
    }


def schema_text() -> str:
    """The schema as it is published in docs/report-schema.json."""
    return json.dumps(report_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
