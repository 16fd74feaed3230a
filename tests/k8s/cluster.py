"""A Kubernetes control plane on loopback: etcd, API server, controllers and scheduler as plain processes, no nodes.

Stands under the tests of the chart: it judges manifests and acts on them as a cluster does, up to the point where
a node would start a pod. By hand: `python -m tests.k8s.cluster`, which prints a KUBECONFIG and runs until Ctrl-C.
"""

import secrets
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from tests.broker.ports import PortLease
from tests.k8s.tools import Outcome, home, run, tool

UP_TIMEOUT_S = 120.0
# Reads until its input ends, which is when the process that opened it is gone, however it died; then kills.
WATCHDOG = 'read -r _; kill -9 "$1"'


class ControlPlaneFailedError(Exception):
    """A component did not come up; the message ends with its log's last lines."""


class ControlPlane:
    """One control plane; a context manager that leaves nothing running.

    Args:
        directory: takes certificates, tokens, etcd's data and one log per component.

    >>> with ControlPlane(tmp_path) as cluster:  # doctest: +SKIP
    ...     cluster.kubectl("get", "namespaces").succeeded()
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kubeconfig = directory / "kubeconfig"
        self._leases: list[PortLease] = []
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def kubectl(self, *arguments: str, given: str | None = None) -> Outcome:
        """Run kubectl against this cluster."""
        return run("kubectl", *arguments, given=given, environment={"KUBECONFIG": str(self.kubeconfig)})

    def helm(self, *arguments: str) -> Outcome:
        """Run helm against this cluster, without the user's own helm settings."""
        folders = {f"HELM_{name}_HOME": str(self.directory / "helm" / name) for name in ("CACHE", "CONFIG", "DATA")}
        return run("helm", *arguments, environment={"KUBECONFIG": str(self.kubeconfig), **folders})

    def wait(self, what: str, *arguments: str, until: str, timeout_s: float = 60.0) -> None:
        """Ask kubectl again and again until it prints exactly `until`.

        Raises:
            ControlPlaneFailedError: it did not within the time; says what it printed last.
        """
        deadline = time.monotonic() + timeout_s
        while (outcome := self.kubectl(*arguments)).out.strip() != until:
            self._check()
            if time.monotonic() > deadline:
                raise ControlPlaneFailedError(f"{what}: wanted {until!r}, got {outcome.out!r} {outcome.err!r}")
            time.sleep(0.1)

    def _start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        etcd, peer, api, controllers, scheduler = (self._port() for _ in range(5))
        key, tokens = self._identities(api)
        self._component(
            "etcd", "--data-dir", str(self.directory / "etcd"), "--unsafe-no-fsync", "--log-level", "error",
            "--listen-client-urls", f"http://127.0.0.1:{etcd}", "--advertise-client-urls", f"http://127.0.0.1:{etcd}",
            "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
            "--initial-cluster", f"default=http://127.0.0.1:{peer}",
        )  # fmt: skip
        self._component(
            "kube-apiserver", "--etcd-servers", f"http://127.0.0.1:{etcd}", "--endpoint-reconciler-type", "none",
            "--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1", "--secure-port", str(api),
            "--cert-dir", str(self.directory / "certificates"), "--token-auth-file", str(tokens),
            "--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.96.0.0/16",
            "--service-account-issuer", "https://kubernetes.default.svc",
            "--service-account-key-file", str(key), "--service-account-signing-key-file", str(key),
        )  # fmt: skip
        self.wait("API server", "get", "--raw", "/readyz", until="ok", timeout_s=UP_TIMEOUT_S)
        common = ["--kubeconfig", str(self.kubeconfig), "--leader-elect=false", "--bind-address", "127.0.0.1"]
        self._component(
            "kube-controller-manager", *common, "--secure-port", str(controllers), "--use-service-account-credentials",
            "--service-account-private-key-file", str(key),
        )  # fmt: skip
        self._component("kube-scheduler", *common, "--secure-port", str(scheduler))
        # Controllers work once they give namespaces their service account.
        account = ["get", "serviceaccount", "default", "--namespace", "default", "--output", "name"]
        self.wait("controllers", *account, until="serviceaccount/default", timeout_s=UP_TIMEOUT_S)
        self.kubectl("apply", "--server-side", "--filename", str(home() / "crds")).succeeded()
        # Not by `kubectl wait`: it fails at once on a definition that has no conditions yet.
        established = "jsonpath={.items[*].status.conditions[?(@.type=='Established')].status}"
        self.wait("resource definitions", "get", "crd", "--output", established, until="True")

    def _identities(self, api_port: int) -> tuple[Path, Path]:
        """The key that signs service accounts, the administrator's token, and a kubeconfig with it."""
        key, tokens, token = self.directory / "accounts.key", self.directory / "tokens.csv", secrets.token_hex(16)
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        tokens.write_text(f"{token},admin,admin,system:masters\n")
        authority = self.directory / "certificates" / "apiserver.crt"
        self.kubeconfig.write_text(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n"
            "clusters: [{name: test, cluster: "
            f'{{server: "https://127.0.0.1:{api_port}", certificate-authority: {authority}}}}}]\n'
            f"users: [{{name: admin, user: {{token: {token}}}}}]\n"
            "contexts: [{name: test, context: {cluster: test, user: admin}}]\n"
        )
        self.kubeconfig.chmod(0o600)
        return key, tokens

    def _port(self) -> int:
        lease = PortLease.take()
        self._stack.callback(lease.release)
        return lease.port

    def _component(self, name: str, *arguments: str) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [tool("controlplane"), name, *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True, cwd=self.directory,
            )  # fmt: skip
        self._running.append((name, process))
        self._stack.callback(_end, process)
        watchdog = subprocess.Popen(
            ["/bin/sh", "-c", WATCHDOG, "watchdog", str(process.pid)], stdin=subprocess.PIPE, start_new_session=True
        )
        self._stack.callback(_dismiss, watchdog)

    def _check(self) -> None:
        for name, process in self._running:
            if process.poll() is not None:
                log = (self.directory / f"{name}.log").read_text(errors="replace").splitlines()
                raise ControlPlaneFailedError("\n".join([f"{name} ended with {process.returncode}:", *log[-20:]]))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _dismiss(watchdog: subprocess.Popen[bytes]) -> None:
    # Killed before its input is closed: the pid that it guards may belong to somebody else by then.
    watchdog.kill()
    watchdog.wait()
    if watchdog.stdin is not None:
        watchdog.stdin.close()


def main() -> None:
    """Run a control plane until Ctrl-C or SIGTERM."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with tempfile.TemporaryDirectory(prefix="odradek-k8s-") as directory, ControlPlane(Path(directory)) as cluster:
        print(f"export KUBECONFIG={cluster.kubeconfig}", flush=True)
        while True:
            signal.pause()


if __name__ == "__main__":
    main()
