"""The chart in deploy/helm, rendered by Helm's own library; there is no cluster here.

What that does not show: that an API server admits the objects, scheduling, volumes, and KEDA's and the
operators' work. Every object is held against Kubernetes' schemas instead, haproxy takes its configuration,
and the gateway starts with the rendered command and environment (`make proofs`).
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.settings import PREFIX, Settings
from tests import environments
from tests.debian import require
from tests.servers import Gateway, free_port, wait_until_ready

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/llava-gateway"
PROGRAMS = Path(__file__).parent / "programs"
EXAMPLES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CHART / "examples").iterdir())}
DEMO = EXAMPLES["demo-cpu"]
ALL = EXAMPLES["eight-h100"] | {"autoscaling": {"by": "keda", "maxReplicas": 12}}


def render(*values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the objects of each, and what is wrong with them."""
    folder = ROOT / ".helm"
    python = (
        environments.python(folder, "helm-python-sdk==0.2.2", "kubernetes-validate==1.37.0") / "bin/python"
    )
    command = [str(python), str(PROGRAMS / "render.py"), str(CHART)]
    done = subprocess.run(
        command, input=json.dumps(values), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[dict[str, Any]]]:
    """Return the objects of each example, and of one with everything on."""
    names = {**EXAMPLES, "all": ALL, "hpa": DEMO | {"autoscaling": {"by": "hpa"}}}
    results = dict(zip(names, render(*names.values()), strict=True))
    assert {name: result["problems"] for name, result in results.items()} == {key: [] for key in names}
    return {name: result["objects"] for name, result in results.items()}


def one(objects: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    (found,) = (each for each in objects if each["kind"] == kind and each["metadata"]["name"].endswith(name))
    return found


def container(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = one(objects, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment(objects: list[dict[str, Any]]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(objects)["env"] if "value" in each}


def test_every_variable_it_sets_is_a_setting_with_a_value_it_may_have(
    rendered: dict[str, list[dict[str, Any]]],
) -> None:
    for objects in rendered.values():
        given = {
            name.removeprefix(PREFIX).lower(): value
            for name, value in environment(objects).items()
            if name.startswith(PREFIX)
        }
        Settings.model_validate(given)
        named = [each["name"] for each in container(objects)["env"]]
        assert len(named) == len(set(named))


def test_a_pod_is_killed_later_than_the_last_request_may_end(
    rendered: dict[str, list[dict[str, Any]]],
) -> None:
    for objects in rendered.values():
        given = environment(objects)
        ends = int(given["GATEWAY_DRAIN_DELAY"]) + int(given["GATEWAY_SHUTDOWN_TIMEOUT"])
        pod = one(objects, "StatefulSet")["spec"]["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] == ends + 25


def test_pods_meet_the_restricted_standard(rendered: dict[str, list[dict[str, Any]]]) -> None:
    workloads = [each for each in rendered["all"] if each["kind"] in ("StatefulSet", "Deployment")]
    assert len(workloads) == 2
    for workload in workloads:
        pod = workload["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for each in pod["containers"]:
            assert each["securityContext"]["allowPrivilegeEscalation"] is False
            assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_haproxy_knows_each_replica_by_its_name_and_takes_the_configuration(
    rendered: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    text = one(rendered["all"], "ConfigMap", "haproxy")["data"]["haproxy.cfg"]
    path = tmp_path / "haproxy.cfg"
    path.write_text(text)
    done = subprocess.run(
        [require("haproxy"), "-c", "-f", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    servers = re.findall(r"^    server (\S+) (\S+) .*?(track \S+)?$", text, re.MULTILINE)
    address = "llava-gateway-{0}.llava-gateway.ml.svc.cluster.local:8000"
    assert servers == [
        *((f"replica-{n}", address.format(n), f"track gateways/replica-{n}") for n in range(12)),
        *((f"replica-{n}", address.format(n), "") for n in range(12)),
    ]


def test_pods_reach_no_private_address_but_name_servers(rendered: dict[str, list[dict[str, Any]]]) -> None:
    policy = one(rendered["demo-cpu"], "NetworkPolicy")["spec"]
    names, public = policy["egress"]
    assert {port["port"] for port in names["ports"]} == {53}
    blocks = {each["ipBlock"]["cidr"]: each["ipBlock"].get("except", []) for each in public["to"]}
    assert set(blocks) == {"0.0.0.0/0", "2000::/3"}
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(blocks["0.0.0.0/0"])


def test_the_alerts_and_the_dashboard_are_those_in_deploy(rendered: dict[str, list[dict[str, Any]]]) -> None:
    alerts = yaml.safe_load((ROOT / "deploy/alerts.yml").read_text())
    assert one(rendered["all"], "PrometheusRule")["spec"] == alerts
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/llava-gateway.json").read_text())
    shown = one(rendered["all"], "ConfigMap", "dashboard")["data"]["llava-gateway.json"]
    assert json.loads(shown) == dashboard


def test_a_wrong_value_is_refused_by_its_place() -> None:
    wrong = {
        "replicas": DEMO | {"replicas": 0},
        "haproxy": DEMO | {"haproxy": {"replicsa": 2}},
        "drain_delay": DEMO | {"settings": {"drain_delay": 1, "shutdown_timeout": 30}},
        "state_dir": DEMO | {"settings": DEMO["settings"] | {"state_dir": "/tmp"}},
        "keysSecret": DEMO | {"open": False},
    }
    said = [result["problems"] for result in render(*wrong.values())]
    assert [place for place, problems in zip(wrong, said, strict=True) if place not in str(problems)] == []


@pytest.mark.proof
def test_custom_resources_are_what_their_operators_take(rendered: dict[str, list[dict[str, Any]]]) -> None:
    folder = environments.node(
        ROOT / ".helm-js", "@kubernetes-models/prometheus-operator@6.0.0", "@kubernetes-models/keda@0.4.2"
    )
    shutil.copy(PROGRAMS / "custom_resources.mjs", folder)
    custom = [
        each for each in rendered["all"] if each["kind"] in ("PodMonitor", "PrometheusRule", "ScaledObject")
    ]
    assert len(custom) == 3
    done = subprocess.run(
        [require("node", "nodejs"), str(folder / "custom_resources.mjs")],
        input=json.dumps(custom),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.split("\n") == ["ok", "ok", "ok", ""]


@pytest.mark.engine
@pytest.mark.proof
def test_the_gateway_starts_and_ends_as_rendered(
    rendered: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    """Only its address and the volumes' places are this machine's."""
    objects = rendered["demo-cpu"]
    pod, runs = one(objects, "StatefulSet")["spec"]["template"]["spec"], container(objects)
    given = {name: value.replace("/cache", str(tmp_path)) for name, value in environment(objects).items()}
    given |= {"GATEWAY_HOST": "127.0.0.1", "GATEWAY_PORT": str(free_port())}
    program, *arguments = runs["command"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    with (tmp_path / "gateway.log").open("wb") as log:
        process = subprocess.Popen(
            [Path(sys.executable).parent / program, *arguments], env=clean | given, stdout=log, stderr=log
        )
    gateway = Gateway(f"http://127.0.0.1:{given['GATEWAY_PORT']}", process.pid, Path(log.name))
    try:
        assert runs["startupProbe"]["httpGet"]["path"] == "/health/ready"
        wait_until_ready(gateway, process)
        for probe in ("readinessProbe", "livenessProbe"):
            with urllib.request.urlopen(gateway.url + runs[probe]["httpGet"]["path"], timeout=5) as answer:
                assert answer.status == 200
        process.terminate()
        began = time.monotonic()
        assert process.wait(60) == 0
        assert time.monotonic() - began < pod["terminationGracePeriodSeconds"]
    finally:
        process.kill()
        process.wait()
