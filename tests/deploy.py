"""Judges deploy/ without a cluster. Needs kubectl, promtool, and Python with kubernetes-validate.

    deploy.py OUT

Renders each overlay as `kubectl apply -k` would, holds every object against the API's own schemas, and the whole against
what deploy/ promises of itself; fires each alert by promtool. Says every mistake and exits 1 if there is one. Leaves in the
folder OUT the configuration of each overlay (`OVERLAY.toml`) and the metrics that rules and dashboard name, a line each
(`metrics.txt`).
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml
from kubernetes_validate import SchemaNotFoundError, ValidationError, validate

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
# The oldest that has `preStop: sleep` without a feature gate, and the newest whose schemas are at hand.
KUBERNETES = ["1.30", "1.37"]
# Kinds of the Prometheus operator, whose schemas are not.
CUSTOM = {"ServiceMonitor", "PrometheusRule"}
METRIC = re.compile(r"\b(?:oncegate|http|process)_[a-z0-9_]+\b")
# Labels, not metrics.
LABELS = {"http_response_status_code", "http_route", "http_request_method"}
COMMON = {"job": "oncegate", "namespace": "shop", "pod": "a", "instance": "a"}

mistakes = []


def expect(holds, sentence):
    if not holds:
        mistakes.append(sentence)


def render(folder):
    run = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True)
    if run.returncode or run.stderr:
        sys.exit(f"kubectl kustomize {folder}: {run.stderr}")
    return list(yaml.safe_load_all(run.stdout))


def check_schemas(name, objects):
    for item in objects:
        what = f"{name}: {item['kind']}/{item['metadata']['name']}"
        for version in KUBERNETES:
            try:
                validate(item, version, strict=True)
            except SchemaNotFoundError as unknown:
                expect(item["kind"] in CUSTOM, f"{what}: {unknown.message}")
            except ValidationError as wrong:
                mistakes.append(f"{what}, Kubernetes {version}: {'.'.join(map(str, wrong.path))}: {wrong.message}")


def of_kind(objects, kind):
    return [item for item in objects if item["kind"] == kind]


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(s|m|ms)", text).groups()
    return int(number) * {"s": 1, "m": 60, "ms": 0.001}[unit]


def setting(config, name, default):
    found = re.search(rf'^{name} *= *"([^"]*)"', config, re.MULTILINE)
    return found.group(1) if found else default


def check_overlay(name, objects, out):
    """What every overlay promises: a pod that may do nothing, that is asked on the right port, and that ends in peace."""
    expect(all(item["metadata"].get("namespace") == "oncegate" or item["kind"] == "Namespace" for item in objects),
           f"{name}: an object is in no namespace, or in another")
    [deployment] = of_kind(objects, "Deployment")
    template = deployment["spec"]["template"]
    pod = template["spec"]
    [container] = pod["containers"]
    labels = template["metadata"]["labels"]

    security = {**pod["securityContext"], **container["securityContext"]}
    wanted = {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
              "seccompProfile": {"type": "RuntimeDefault"}, "allowPrivilegeEscalation": False,
              "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    expect(security == wanted, f"{name}: the security context is {security}")
    [account] = of_kind(objects, "ServiceAccount")
    expect(account["automountServiceAccountToken"] is False and pod["automountServiceAccountToken"] is False,
           f"{name}: the pod has a token of the API")
    resources = container["resources"]
    expect(resources["limits"]["memory"] == resources["requests"]["memory"], f"{name}: memory is not kept free for it")

    [configs] = of_kind(objects, "ConfigMap")
    config = configs["data"]["proxy.toml"]
    (out / f"{name}.toml").write_text(config)
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    expect(not any("subPath" in mount for mount in mounts.values()), f"{name}: a subPath never changes")
    expect(mounts["config"]["mountPath"] == "/etc/oncegate", f"{name}: the image reads /etc/oncegate/proxy.toml")
    sources = {volume["name"]: volume for volume in pod["volumes"]}
    expect(sources["config"]["configMap"]["name"] == configs["metadata"]["name"], f"{name}: another ConfigMap is mounted")
    expect(mounts.keys() == sources.keys(), f"{name}: volumes and mounts differ")
    for file in re.findall(r'^\w+_file = "([^"]*)"', config, re.MULTILINE):
        expect(any(file.startswith(mount["mountPath"] + "/") for mount in mounts.values()), f"{name}: {file} is not mounted")

    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    admin = config[config.index("[admin]"):]
    expect(f'"0.0.0.0:{ports["http"]}"' in config, f"{name}: it listens elsewhere than port http says")
    expect(setting(admin, "listen", "") == f'0.0.0.0:{ports["admin"]}', f"{name}: the admin listener is elsewhere")
    for probe, path in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]:
        expect(container[probe]["httpGet"] == {"path": path, "port": "admin"}, f"{name}: {probe} asks for something else")
    expect(template["metadata"]["annotations"]["prometheus.io/port"] == str(ports["admin"]), f"{name}: another port is scraped")
    for service in of_kind(objects, "Service"):
        expect(service["spec"]["selector"].items() <= labels.items(), f"{name}: a Service selects nothing")
        expect(all(port["targetPort"] in ports for port in service["spec"]["ports"]), f"{name}: a Service has no port")
        reaches_admin = any(port["targetPort"] == "admin" for port in service["spec"]["ports"])
        expect(reaches_admin == (service["metadata"]["name"] == "oncegate-admin"),
               f"{name}: clients may reach the admin listener, or Prometheus may not")
    [policy] = of_kind(objects, "NetworkPolicy")
    expect(policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items(), f"{name}: the policy selects nothing")
    expect(set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}, f"{name}: the policy leaves a direction open")
    allowed = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    for port in map(int, re.findall(r'"(?:http|redis)s?://[^":]+:(\d+)', config)):
        expect(port in allowed, f"{name}: the policy keeps it from port {port}")

    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    ends = pause + seconds(setting(config, "drain_delay", "0s")) + seconds(setting(config, "shutdown_grace", "30s"))
    grace = pod["terminationGracePeriodSeconds"]
    expect(ends + 5 <= grace, f"{name}: preStop and shutdown_grace take {ends} s, and {grace} s are given")
    expect(setting(config, "kind", "memory") == name, f"{name}: it has another store")
    check_replicas(name, objects, deployment)


def check_replicas(name, objects, deployment):
    """The store decides how many processes there may be at once."""
    strategy = deployment["spec"]["strategy"]
    scaled = of_kind(objects, "HorizontalPodAutoscaler")
    if name == "memory":
        expect(deployment["spec"].get("replicas") == 1 and strategy == {"type": "Recreate"} and not scaled,
               "memory: two processes could serve at once, and share no keys")
        return
    expect(strategy["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}, f"{name}: a rollout takes a pod away first")
    expect("replicas" not in deployment["spec"], f"{name}: applying it undoes what the autoscaler chose")
    [scaler], [budget] = scaled, of_kind(objects, "PodDisruptionBudget")
    expect(scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"], f"{name}: nothing is scaled")
    expect(scaler["spec"]["minReplicas"] >= 3, f"{name}: fewer than three replicas")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [budget["spec"]["selector"]]
    selectors += [spread["labelSelector"] for spread in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]]
    expect(len(selectors) == 3, f"{name}: it is not spread over nodes and zones")
    expect(all(selector["matchLabels"].items() <= labels.items() for selector in selectors), f"{name}: a selector finds nothing")


def check_monitor(objects, services):
    [monitor] = of_kind(objects, "ServiceMonitor")
    expect(monitor["apiVersion"] == "monitoring.coreos.com/v1", "ServiceMonitor: another version")
    # What of the operator's schema is used here: a name that it does not know would be dropped without a word.
    expect(monitor["spec"].keys() == {"jobLabel", "selector", "endpoints"}, "ServiceMonitor: unknown fields")
    known = {"port", "path", "interval", "scrapeTimeout", "honorLabels"}
    expect(all(endpoint.keys() <= known for endpoint in monitor["spec"]["endpoints"]), "ServiceMonitor: unknown fields")
    wanted = monitor["spec"]["selector"]["matchLabels"]
    found = [item for item in services if wanted.items() <= item["metadata"]["labels"].items()]
    expect(len(found) == 1, f"the ServiceMonitor finds {len(found)} Services")
    [endpoint] = monitor["spec"]["endpoints"]
    expect(endpoint["path"] == "/metrics" and endpoint.get("honorLabels"), "the ServiceMonitor loses labels, or asks elsewhere")
    ports = [port["name"] for item in found for port in item["spec"]["ports"]]
    expect(endpoint["port"] in ports, "the ServiceMonitor asks a port that is not there")


def anchors(page):
    titles = re.findall(r"^#+ +(.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def check_rules(objects, out):
    [rule] = of_kind(objects, "PrometheusRule")
    expect(rule["apiVersion"] == "monitoring.coreos.com/v1", "PrometheusRule: another version")
    (out / "rules.yaml").write_text(json.dumps(rule["spec"]))
    promtool("check", "rules", out / "rules.yaml")
    expect(rule["spec"].keys() == {"groups"}, "PrometheusRule: unknown fields")
    alerts = [alert for group in rule["spec"]["groups"] for alert in group["rules"]]
    runbook = anchors(ROOT / "docs/operations.md")
    for alert in alerts:
        name = alert["alert"]
        expect(alert["labels"].get("severity") in {"critical", "warning", "info"}, f"{name}: no severity")
        expect(alert["annotations"].keys() == {"summary", "runbook_url"}, f"{name}: a summary and a runbook, no more")
        page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        expect(page == "docs/operations.md" and anchor == name.lower() and anchor in runbook, f"{name}: no section in docs/operations.md")
    table = yaml.safe_load((DEPLOY / "monitoring/alerts.test.yaml").read_text())
    silent = {alert["alert"] for alert in alerts} - {name for case in table["cases"] for name in case["fires"]}
    expect(not silent, f"no case fires {', '.join(sorted(silent))}")
    (out / "rules.test.yaml").write_text(json.dumps(rule_tests(table)))
    promtool("test", "rules", out / "rules.test.yaml")
    return alerts


def series(short, values):
    name, _, labels = short.partition("{")
    own = dict(re.findall(r'(\w+)="([^"]*)"', labels))
    if "pod" in own:
        own["instance"] = own["pod"]
    merged = ",".join(f'{key}="{value}"' for key, value in {**COMMON, **own}.items())
    return {"series": f"{name}{{{merged}}}", "values": str(values)}


def rule_tests(table):
    """As promtool wants it: of each case which alerts fire, whatever their labels."""
    tests = []
    for case in table["cases"]:
        fires = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in case["fires"]]
        tests.append({
            "interval": "1m",
            "name": f"{case['fires']}",
            "input_series": [series(*item) for item in {**table["healthy"], **case.get("series", {})}.items()],
            "promql_expr_test": [{
                "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": case.get("at", "100m"),
                "exp_samples": fires,
            }],
        })
    return {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}


def promtool(*arguments):
    run = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True)
    expect(run.returncode == 0, f"promtool {arguments[0]} {arguments[1]}:\n{run.stdout}{run.stderr}")


def queries(dashboard):
    """Every PromQL expression of the dashboard, its variables replaced as Grafana would."""
    found = []

    def walk(node):
        if isinstance(node, dict):
            if isinstance(node.get("expr"), str):
                found.append(node["expr"])
            node = list(node.values())
        if isinstance(node, list):
            for item in node:
                walk(item)

    walk(dashboard)
    plain = {"$__rate_interval": "1m", "$namespace": ".*", "$route": ".*"}
    for name, value in plain.items():
        found = [query.replace(name, value) for query in found]
    return found


def check_dashboard(objects, out):
    [dashboards] = of_kind(objects, "ConfigMap")
    dashboard = json.loads(dashboards["data"]["oncegate.json"])
    panels = dashboard["panels"]
    expect(len({panel["id"] for panel in panels}) == len(panels), "dashboard: two panels have one id")
    taken = {}
    for panel in panels:
        place = panel["gridPos"]
        for cell in [(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])]:
            expect(cell not in taken, f"dashboard: {panel['title']} lies upon {taken.get(cell)}")
            taken[cell] = panel["title"]
        expect(place["x"] + place["w"] <= 24, f"dashboard: {panel['title']} is out of the grid")
        expect(panel["type"] == "row" or panel["targets"], f"dashboard: {panel['title']} asks nothing")
    found = queries(dashboard)
    expect(not any("$" in query for query in found), "dashboard: an unknown variable")
    rules = [{"record": f"q{number}", "expr": query} for number, query in enumerate(found)]
    (out / "dashboard.yaml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", out / "dashboard.yaml")
    return found


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    services = []
    for folder in sorted((DEPLOY / "overlays").iterdir()):
        objects = render(folder)
        check_schemas(folder.name, objects)
        check_overlay(folder.name, objects, out)
        services = of_kind(objects, "Service")
    monitoring = render(DEPLOY / "monitoring")
    check_schemas("monitoring", monitoring)
    check_monitor(monitoring, services)
    asked = [alert["expr"] for alert in check_rules(monitoring, out)] + check_dashboard(monitoring, out)
    metrics = {name for query in asked for name in METRIC.findall(query)} - LABELS
    (out / "metrics.txt").write_text("".join(f"{name}\n" for name in sorted(metrics)))
    for mistake in mistakes:
        print(mistake)
    sys.exit(1 if mistakes else 0)


main()
