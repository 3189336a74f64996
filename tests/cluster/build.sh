#!/usr/bin/env bash
# Builds the control plane that tests/cluster runs against, from Go modules alone, into a folder
# that keeps it: nothing is built twice. Usage: build.sh FOLDER
set -euo pipefail
bin=$(mkdir -p "$1" && cd "$1" && pwd)
tools=$(cd "$(dirname "$0")/tools" && pwd)
version=v1.36.3

if ! command -v go > /dev/null; then
    echo "no Go toolchain: the cluster tests cannot be built here" >&2
    exit 3
fi

# Built for exactly these modules; a changed go.sum builds again.
build() { # module output package [linker flags]
    local stamp="$bin/.$2-$(sha256sum "$tools/$1/go.sum" | cut -c1-16)"
    [ -e "$stamp" ] && return
    echo "building $2 …"
    (cd "$tools/$1" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w ${4:-}" -o "$bin/$2" "$3")
    rm -f "$bin/.$2-"*
    touch "$stamp"
}

# Without its version stamped in, the API server misreads its feature gates.
base=k8s.io/component-base/version
stamp="-X $base.gitVersion=$version -X $base.gitMajor=1 -X $base.gitMinor=36"
build etcd etcd go.etcd.io/etcd/server/v3
for name in kube-apiserver kube-controller-manager kube-scheduler kubectl; do
    build kubernetes "$name" "k8s.io/kubernetes/cmd/$name" "$stamp"
done
build kwok kwok sigs.k8s.io/kwok/cmd/kwok
build helm helm helm.sh/helm/v3/cmd/helm
