"""Prometheus and Grafana ask for metrics that exist, with labels that exist, and show all of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import ray.dashboard
import ray.serve

from ray_fer.serving import api_live, api_predict, api_status, api_streams
from tests.cluster.exported import families, samples
from tests.cluster.manifests import CLUSTER, documents
from tests.cluster.promql import Asked, asked, grouped_by

DASHBOARD: dict[str, Any] = json.loads((CLUSTER / "grafana" / "dashboards" / "ray-fer.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
RULES: list[dict[str, Any]] = [
    rule for group in documents(CLUSTER / "prometheus" / "alerts.yml")[0]["groups"] for rule in group["rules"]
]
EXPRESSIONS = [*QUERIES, *((rule["alert"], rule["expr"]) for rule in RULES)]
RULE_TESTS = Path(__file__).with_name("alerts_test.yml")
SERVE_LABELS = {"deployment", "application", "replica", "le", "instance", "job"}

every_expression = pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)


@lru_cache
def metrics_of_ray() -> set[str]:
    """Names of the metrics that the installed Ray makes: they stand in its sources as they are, without `ray_`."""
    found: set[str] = set()
    for folder in (*ray.serve.__path__, *ray.dashboard.__path__):
        for path in Path(folder).rglob("*.py"):
            found |= set(re.findall(r'"((?:serve|node)_[a-z0-9_]+)"', path.read_text(errors="ignore")))
    return found


def _check(one: Asked) -> None:
    if one.metric.startswith("ray_fer_"):
        assert one.metric in samples(), f"{one.metric} is not exported"
        known = samples()[one.metric]
        for label, value in one.labels:
            assert label in known, f"{one.metric} has no label {label}"
            # Statuses, verdicts and stages are all there from the beginning; of an API only what was asked of it.
            if label not in ("replica", "partition") and not one.metric.startswith("ray_fer_api_"):
                assert value in known[label], f"{one.metric} has no {label} {value!r}"
    elif one.metric.startswith("ray_"):
        name = re.sub(r"_(total|bucket|sum|count)$", "", one.metric.removeprefix("ray_"))
        assert {name, f"{name}_total"} & metrics_of_ray(), f"Ray has no metric {one.metric}"
        assert {label for label, _ in one.labels} <= SERVE_LABELS
    else:
        assert one.metric == "up"


@every_expression
def test_expressions_ask_for_what_is_exported(title: str, expression: str) -> None:
    found = asked(expression)
    assert found, title
    for one in found:
        _check(one)
    known = {label for one in found for label in samples().get(one.metric, SERVE_LABELS)}
    assert grouped_by(expression) <= known, title


@every_expression
def test_counters_are_asked_for_their_rate(title: str, expression: str) -> None:
    """A counter's value says how long its process has lived."""
    for one in asked(expression):
        if one.metric.endswith(("_total", "_bucket", "_sum", "_count")):
            assert re.search(rf"(rate|increase)\({one.metric}\b", expression), title


def test_endpoints_in_expressions_are_the_apis() -> None:
    routers = (api_live.router, api_predict.router, api_status.open_router, api_status.router, api_streams.router)
    paths = {getattr(route, "path", None) for router in routers for route in router.routes}
    named = {
        value for _, text in EXPRESSIONS for one in asked(text) for label, value in one.labels if label == "endpoint"
    }
    assert named
    assert named <= paths


def test_everything_that_is_exported_is_shown() -> None:
    shown = {one.metric for _, expression in QUERIES for one in asked(expression)}
    for name, kind in families().items():
        endings = {"counter": ["_total"], "histogram": ["_bucket"]}.get(kind, [""])
        assert any(f"{name}{ending}" in shown for ending in endings), f"no panel shows {name}"


def test_panels_have_their_place() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken[x, y]}"
                taken[x, y] = panel["title"]
    titles = [panel["title"] for panel in PANELS]
    assert len(titles) == len(set(titles))


def test_panels_ask_the_chosen_data_source() -> None:
    (variable,) = DASHBOARD["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in PANELS:
        assert panel["datasource"] == chosen
        assert all(target["datasource"] == chosen for target in panel["targets"])
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references))
    (annotation,) = DASHBOARD["annotations"]["list"]
    assert annotation["datasource"] == chosen


def test_legends_name_labels_by_which_is_grouped() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            legend = set(re.findall(r"{{(\w+)}}", target.get("legendFormat", "")))
            assert legend <= grouped_by(target["expr"]), panel["title"]


def test_grafana_is_given_its_data_source_and_dashboard() -> None:
    provisioning = CLUSTER / "grafana" / "provisioning"
    (sources,) = documents(provisioning / "datasources" / "prometheus.yml")
    (providers,) = documents(provisioning / "dashboards" / "ray-fer.yml")
    (compose,) = documents(CLUSTER / "compose.yaml")
    (source,) = sources["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["isDefault"]
    grafana = compose["services"]["grafana"]
    (provider,) = providers["providers"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/ray-fer.json"


def test_prometheus_scrapes_the_application_once_and_every_node() -> None:
    (config,) = documents(CLUSTER / "prometheus" / "prometheus.yml")
    (compose,) = documents(CLUSTER / "compose.yaml")
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    ((target,),) = [one["targets"] for one in jobs["ray-fer"]["static_configs"]]
    assert target == "ray-head:8000"
    assert jobs["ray-fer"]["metrics_path"] == "/metrics"
    (discovered,) = jobs["ray"]["dns_sd_configs"]
    nodes = {name for name, one in compose["services"].items() if one.get("command", [])[:2] == ["ray", "start"]}
    assert set(discovered["names"]) == nodes
    assert all(f"--metrics-export-port={discovered['port']}" in compose["services"][name]["command"] for name in nodes)
    assert all((CLUSTER / "prometheus" / name).is_file() for name in config["rule_files"])
    wanted = {value for rule in RULES for one in asked(rule["expr"]) for label, value in one.labels if label == "job"}
    assert wanted <= jobs.keys()


def test_alerts_say_what_is_wrong_and_how_much() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names))
    for rule in RULES:
        assert rule["alert"].startswith("RayFer")
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["for"]
        assert {"summary", "description"} == rule["annotations"].keys()


def test_every_alert_has_a_test_of_the_rules_that_makes_it_fire() -> None:
    (tests,) = documents(RULE_TESTS)
    fired = {
        label
        for test in tests["tests"]
        for one in test["promql_expr_test"]
        for sample in one["exp_samples"]
        for label in re.findall(r'alertname="(\w+)"', sample["labels"])
    }
    assert fired == {rule["alert"] for rule in RULES}
    given = {one for test in tests["tests"] for series in test["input_series"] for one in asked(series["series"])}
    for one in given:
        _check(one)


def test_the_tests_of_the_rules_pass() -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("no promtool (`apt-get install prometheus`)")
    for what, path in (("test rules", RULE_TESTS), ("check config", CLUSTER / "prometheus" / "prometheus.yml")):
        done = subprocess.run([promtool, *what.split(), str(path)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
