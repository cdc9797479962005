"""Alerts are rules that Prometheus takes, with metrics that exist; each is tried and has its page."""

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from gateway.telemetry.metrics import Metrics
from tests.debian import require
from tests.each import each

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in RULES]


def promtool(*arguments: str) -> None:
    command = [require("promtool", "prometheus"), *arguments]
    done = subprocess.run(command, cwd=DEPLOY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_rules() -> None:
    promtool("check", "rules", "alerts.yml")


def test_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", "alerts_test.yml")


@each("name", NAMES)
def test_every_alert_is_tried_in_a_case_that_fires_and_in_one_that_does_not(name: str) -> None:
    cases = yaml.safe_load((DEPLOY / "alerts_test.yml").read_text())["tests"]
    tried = [test for case in cases for test in case["promql_expr_test"] if f'"{name}"' in test["expr"]]
    assert {bool(test["exp_samples"]) for test in tried} == {True, False}


@each("rule", RULES)
def test_every_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule["annotations"]) == {"summary", "action", "runbook_url"}
    site = re.search(r"^site_url: (\S+)", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert site is not None
    assert rule["annotations"]["runbook_url"] == f"{site[1]}operations/#{rule['alert'].lower()}"
    assert f"### {rule['alert']}\n" in (ROOT / "docs/operations.md").read_text()


@each("rule", RULES)
def test_alerts_read_metrics_that_exist(rule: dict[str, Any]) -> None:
    names = {family.name for family in Metrics().families} | {"up"}
    read = set(re.findall(r"\b(gateway_\w+|up)\b", rule["expr"]))
    assert read
    assert {name.removesuffix("_bucket") for name in read} <= names
