"""The chart against helm's own checks and a real API server: what it accepts, what it makes of it, what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from odradek_runtime.configuration.settings import Settings
from tests.k8s.cluster import ControlPlane
from tests.k8s.tools import CHART, Outcome, run

pytestmark = pytest.mark.k8s

VALUES = sorted((Path(__file__).parent / "values").glob("*.yaml"), key=lambda path: path.name)
# The chart's floor and the API server of these tests.
KUBERNETES = ["1.27.0", "1.36.3"]
SECURED = Path(__file__).parent / "values" / "secured.yaml"
GUARDED = Path(__file__).parent / "values" / "guarded.yaml"
SMALLEST = Path(__file__).parent / "values" / "smallest.yaml"
EVERYTHING = {
    "networkpolicy.networking.k8s.io/w-odradek",
    "poddisruptionbudget.policy/w-odradek",
    "serviceaccount/w-odradek",
    "service/w-odradek-workers",
    "service/w-odradek",
    "statefulset.apps/w-odradek",
    "servicemonitor.monitoring.coreos.com/w-odradek",
    "pod/w-odradek-test",
}
OPTIONAL = {name for name in EVERYTHING if name.startswith("servicemonitor")}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane with a namespace in which the strictest pod security standard is enforced, and warned about."""
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as control_plane:
        labels = "".join(
            f'    pod-security.kubernetes.io/{mode}: "restricted"\n' for mode in ("enforce", "warn", "audit")
        )
        namespace = f"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: odradek\n  labels:\n{labels}"
        control_plane.kubectl("apply", "-f", "-", given=namespace).succeeded()
        yield control_plane


def template(values: Path, *arguments: str) -> Outcome:
    """Have helm make the manifests of a release `w`."""
    version = ["--kube-version", KUBERNETES[-1], "--namespace", "odradek"]
    return run("helm", "template", "w", str(CHART), *version, "--values", str(values), *arguments)


def render(values: Path, *arguments: str) -> str:
    """Return them."""
    return template(values, *arguments).succeeded()


def documents(manifests: str) -> dict[str, dict[str, Any]]:
    """Return them by kind and name."""
    loaded = (cast("dict[str, Any]", document) for document in yaml.safe_load_all(manifests) if document)
    return {f"{document['kind']}/{document['metadata']['name']}": document for document in loaded}


def apply(cluster: ControlPlane, manifests: str) -> set[str]:
    """Have the API server judge manifests, warnings as errors, and return what it says it would make."""
    flags = ["--dry-run=server", "--validate=strict", "--warnings-as-errors", "--namespace", "odradek", "-f", "-"]
    said = cluster.kubectl("apply", *flags, given=manifests).succeeded().splitlines()
    assert all(line.endswith(" created (server dry run)") for line in said), said
    return {line.split()[0] for line in said}


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_helm_finds_nothing_to_complain_of(values: Path, kubernetes: str) -> None:
    lint = ["lint", "--strict", str(CHART), "--kube-version", kubernetes, "--values", str(values)]
    assert "1 chart(s) linted, 0 chart(s) failed" in run("helm", *lint).succeeded()


def test_the_api_server_accepts_the_chart_with_everything(cluster: ControlPlane) -> None:
    assert apply(cluster, render(SECURED)) == EVERYTHING


def test_the_api_server_accepts_the_chart_with_all_that_limits_it(cluster: ControlPlane) -> None:
    assert apply(cluster, render(GUARDED)) == EVERYTHING - {"servicemonitor.monitoring.coreos.com/w-odradek"}


def test_the_api_server_accepts_the_chart_with_its_defaults(cluster: ControlPlane) -> None:
    assert apply(cluster, render(SMALLEST)) == EVERYTHING - OPTIONAL


def test_the_api_server_accepts_the_chart_with_everything_switched_off(cluster: ControlPlane) -> None:
    bare = render(Path(__file__).parent / "values" / "bare.yaml")
    assert apply(cluster, bare) == {"service/shop-workers", "service/shop", "statefulset.apps/shop", "pod/shop-test"}


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("podManagementPolicy: Parallel", "podManagmentPolicy: Parallel", "unknown field"),
        ("terminationGracePeriodSeconds: 40", "terminationGracePeriodSeconds: soon", "terminationGracePeriodSeconds"),
        ("runAsNonRoot: true", "runAsNonRoot: false", "restricted"),
        ("readOnlyRootFilesystem: true", "privileged: true", "privileged"),
    ],
)
def test_the_api_server_would_refuse_a_wrong_chart(cluster: ControlPlane, right: str, wrong: str, said: str) -> None:
    manifests = render(SMALLEST)
    assert right in manifests
    flags = ["--dry-run=server", "--validate=strict", "--warnings-as-errors", "--namespace", "odradek", "-f", "-"]
    cluster.kubectl("apply", *flags, given=manifests.replace(right, wrong)).refused(said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "replica=3"], "replica"),
        (["--set", "kafka.bootstrapServer=kafka:9092"], "bootstrapServer"),
        (["--set", "settings.epoch_linger=1"], "epoch_linger"),
        (["--set", "settings.port=80"], "port"),
        (["--set", "app=examples/flights.py"], "app"),
        (["--set", "kafka.bootstrapServers=kafka"], "bootstrapServers"),
        (["--set", r"kafka.properties.sasl\.password=secret"], "sasl.password"),
        (["--set", "replicas=-1"], "replicas"),
        (["--set", "image.digest=sha256:12"], "digest"),
        (["--set", "networkPolicy.egress.kafkaPorts={70000}"], "kafkaPorts"),
        (["--set", "persistence.size=10GB"], "size"),
        (["--set", "app="], "module:app"),
        (["--set", "kafka.bootstrapServers="], "host:port"),
        (["--set", "kafka.tls.existingSecret=kafka-tls"], "kafka.tls.enabled"),
        (["--set", "kafka.tls.enabled=true,kafka.tls.existingSecret=s,kafka.tls.certKey=tls.crt"], "keyKey"),
        (["--set", "serviceMonitor.enabled=true"], "networkPolicy.adminFrom"),
        (["--set", "settings.private_token=0123456789abcdef"], "private_token"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[1],
)
def test_wrong_values_are_refused_by_name(arguments: list[str], said: str) -> None:
    template(SMALLEST, *arguments).refused(said)


def environment(manifests: str) -> dict[str, str]:
    """Return what a worker would find in its environment, as the pod w-odradek-0."""
    found: dict[str, str] = {}
    (container,) = documents(manifests)["StatefulSet/w-odradek"]["spec"]["template"]["spec"]["containers"]
    fields = {"metadata.name": "w-odradek-0", "metadata.namespace": "odradek"}
    for variable in container["env"]:
        assert variable["name"] not in found, f"{variable['name']} is set twice"
        source = variable.get("valueFrom", {})
        if "fieldRef" in source:
            value = fields[source["fieldRef"]["fieldPath"]]
        else:
            value = f"from {source['secretKeyRef']['name']}" if source else variable["value"]
        for name in ("POD_NAME", "POD_NAMESPACE"):
            value = value.replace(f"$({name})", found.get(name, f"$({name})"))
        found[variable["name"]] = value
    return found


def test_a_worker_understands_its_environment() -> None:
    settings = Settings.load(env=environment(render(SECURED)), project=Path("/nonexistent"))
    assert settings.bootstrap_servers == "b-1.example:9093,b-2.example:9093"
    assert settings.advertised_url == "http://w-odradek-0.w-odradek-workers.odradek.svc:9071"
    assert settings.private_port == 9071
    assert settings.data_dir == Path("/data")
    assert settings.host == settings.admin_host == "0.0.0.0"  # noqa: S104 -- a pod's own address
    assert (settings.port, settings.admin_port) == (8080, 9070)
    assert settings.group_instance_id == "w-odradek-0"
    assert (settings.epoch_linger_s, settings.epoch_bytes, settings.coroutine_cache) == (0.02, 33554432, 2000)
    assert dict(settings.kafka) == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-256",
        "sasl.username": "from kafka-login",
        "sasl.password": "from kafka-login",
        "ssl.ca.location": "/etc/odradek/kafka-tls/ca.crt",
        "ssl.certificate.location": "/etc/odradek/kafka-tls/tls.crt",
        "ssl.key.location": "/etc/odradek/kafka-tls/tls.key",
        "ssl.key.password": "from kafka-tls",
        "client.rack": "zone-a",
        "fetch.message.max.bytes": "2000000",
        "enable.ssl.certificate.verification": "true",
    }


def test_a_worker_without_secrets_is_told_nothing_of_encryption() -> None:
    assert dict(Settings.load(env=environment(render(SMALLEST)), project=Path("/nonexistent")).kafka) == {}


def pod(manifests: str) -> dict[str, Any]:
    """The spec of a worker's pod."""
    return cast("dict[str, Any]", documents(manifests)["StatefulSet/w-odradek"]["spec"]["template"]["spec"])


def test_passwords_come_from_files_where_that_is_asked_for(tmp_path: Path) -> None:
    spec, told = pod(render(GUARDED)), environment(render(GUARDED))
    assert not {"ODRADEK_KAFKA_SASL_PASSWORD", "ODRADEK_KAFKA_SSL_KEY_PASSWORD"} & told.keys()
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    secrets = {volume["name"]: volume["secret"] for volume in spec["volumes"] if "secret" in volume}
    assert [secrets[name]["secretName"] for name in ("kafka-sasl", "kafka-tls")] == ["kafka-login", "kafka-tls"]
    assert [item["path"] for item in secrets["kafka-sasl"]["items"]] == ["pass"]
    for name, path in (("SASL_PASSWORD", f"{mounts['kafka-sasl']}/pass"), ("SSL_KEY_PASSWORD", f"{mounts['kafka-tls']}/password")):
        assert told[f"ODRADEK_KAFKA_{name}_FILE"] == path
        file = tmp_path / name
        file.write_text("from a file\n")
        told[f"ODRADEK_KAFKA_{name}_FILE"] = str(file)
    settings = Settings.load(env=told, project=Path("/nonexistent"))
    assert settings.kafka["sasl.password"] == settings.kafka["ssl.key.password"] == "from a file"
    assert settings.http_cors_origins == ("https://app.example",)


def test_an_image_by_its_digest() -> None:
    assert pod(render(GUARDED))["containers"][0]["image"].startswith("registry.example/shop@sha256:0123")
    assert pod(render(SECURED))["containers"][0]["image"] == "registry.example/shop:1.4.2-rc1"


@pytest.mark.parametrize("values", [SMALLEST, SECURED, GUARDED], ids=lambda path: path.stem)
def test_what_a_container_asks_for(values: Path) -> None:
    found = documents(render(values))
    for spec in (found["StatefulSet/w-odradek"]["spec"]["template"]["spec"], found["Pod/w-odradek-test"]["spec"]):
        for container in spec["containers"]:
            assert {"cpu", "memory", "ephemeral-storage"} <= container["resources"]["requests"].keys()


def test_where_workers_may_connect_to() -> None:
    policy = documents(render(GUARDED))["NetworkPolicy/w-odradek"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    workers, names, kafka, further = policy["egress"]
    assert workers == {"ports": [{"port": 9071, "protocol": "TCP"}], "to": [{"podSelector": policy["podSelector"]}]}
    assert {(port["port"], port["protocol"]) for port in names["ports"]} == {(53, "UDP"), (53, "TCP")}
    assert names["to"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "kube-system"}
    assert [port["port"] for port in kafka["ports"]] == [9093, 9094]
    assert kafka["to"] == [{"ipBlock": {"cidr": "10.1.0.0/16"}}]
    assert further["ports"] == [{"port": 443, "protocol": "TCP"}]


def test_egress_is_open_until_it_is_limited() -> None:
    policy = documents(render(SECURED))["NetworkPolicy/w-odradek"]["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    assert "egress" not in policy
    given = render(SECURED, "--set", "networkPolicy.egress.enabled=true,networkPolicy.egress.kafkaPorts={9092,9094}")
    _, names, kafka = documents(given)["NetworkPolicy/w-odradek"]["spec"]["egress"]
    assert [port["port"] for port in kafka["ports"]] == [9092, 9094]
    assert "to" not in names
    assert "to" not in kafka


def allowed(manifests: str) -> dict[str, list[dict[str, Any]] | None]:
    """Return who may reach each port of a worker, by its name; None: everybody."""
    spec = documents(manifests)["NetworkPolicy/w-odradek"]["spec"]
    assert spec["policyTypes"] == ["Ingress"]
    pods = documents(manifests)["StatefulSet/w-odradek"]["spec"]["selector"]
    assert spec["podSelector"] == pods
    return {port["port"]: rule.get("from") for rule in spec["ingress"] for port in rule["ports"]}


def test_by_default_only_workers_reach_the_private_port() -> None:
    workers = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "odradek", "app.kubernetes.io/instance": "w"}}}
    release = {"podSelector": {"matchLabels": {"app.kubernetes.io/instance": "w"}}}
    assert allowed(render(SMALLEST)) == {"http": None, "private": [workers], "admin": [release]}
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    assert allowed(render(SECURED)) == {"http": None, "private": [workers], "admin": [release, monitoring]}


def test_services_named_like_the_app_do_not_reach_the_settings() -> None:
    """Kubernetes would set ODRADEK_PORT=tcp://10.96.0.7:8080 for a Service named odradek."""
    manifests = render(SMALLEST, "--set", "fullnameOverride=odradek")
    assert documents(manifests)["StatefulSet/odradek"]["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_a_release_lives_and_goes(cluster: ControlPlane) -> None:
    """The controllers make of the chart what it means: pods all at once, a volume each, a budget, no leftovers."""
    release = ["w", str(CHART), "--namespace", "odradek", "--values", str(SMALLEST)]
    volumes = ["--set", "persistence.whenDeleted=Delete", "--set", "persistence.whenScaled=Delete"]
    get = ["get", "--namespace", "odradek", "--output"]
    names = "jsonpath={range .items[*]}{.metadata.name} {end}"
    budget = "jsonpath={.status.expectedPods} {.status.disruptionsAllowed}"

    cluster.helm("install", *release, *volumes).succeeded()
    # Nothing runs them here, so none gets ready: one after the other would stop at the first.
    cluster.wait("pods", *get, names, "pods", until="w-odradek-0 w-odradek-1")
    cluster.wait("volumes", *get, names, "persistentvolumeclaims", until="data-w-odradek-0 data-w-odradek-1")
    cluster.wait("budget", *get, budget, "poddisruptionbudget/w-odradek", until="2 0")

    cluster.helm("upgrade", *release, *volumes, "--set", "replicas=3,settings.epoch_linger_s=0.02").succeeded()
    cluster.wait("scale-out", *get, names, "pods", until="w-odradek-0 w-odradek-1 w-odradek-2")
    told = "jsonpath={.spec.template.spec.containers[0].env[?(@.name=='ODRADEK_EPOCH_LINGER_S')].value}"
    cluster.wait("setting", *get, told, "statefulset/w-odradek", until="0.02")

    cluster.helm("upgrade", *release, *volumes, "--set", "replicas=1").succeeded()
    cluster.wait("scale-in", *get, names, "pods", until="w-odradek-0")
    cluster.wait("volumes after it", *get, names, "persistentvolumeclaims", until="data-w-odradek-0")

    cluster.helm("uninstall", "w", "--namespace", "odradek").succeeded()
    cluster.wait("end", *get, "name", "pods,services,statefulsets,persistentvolumeclaims,pdb", until="")
