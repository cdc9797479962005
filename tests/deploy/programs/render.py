"""Renders a chart with each of the values in JSON on standard input, and checks the objects against Kubernetes' schemas.

Prints a JSON list: of each the objects and what is wrong with them, or why it was refused.
"""

import json
import sys
from typing import Any

import yaml
from helm_python import Chart
from helm_python.errors import HelmError
from kubernetes_validate import SchemaNotFoundError, ValidationError, validate

KUBERNETES = "1.37"


def rendered(chart: Chart, values: dict[str, Any]) -> dict[str, Any]:
    try:
        chart.validate_schema(values)
        texts = chart.render(values, name="llava", namespace="ml")
    except HelmError as error:
        return {"objects": [], "problems": [str(error)]}
    manifests = [text for path, text in texts.items() if not path.endswith("NOTES.txt")]
    objects = [found for text in manifests for found in yaml.safe_load_all(text) if found]
    return {"objects": objects, "problems": [said for found in objects if (said := problem(found))]}


def problem(found: dict[str, Any]) -> str | None:
    try:
        validate(found, KUBERNETES, strict=True)
    except SchemaNotFoundError:
        return None  # a custom resource
    except ValidationError as error:
        return f"{found['kind']}: {error.message}"
    return None


with Chart.load(sys.argv[1]) as loaded:
    print(json.dumps([rendered(loaded, values) for values in json.load(sys.stdin)]))
