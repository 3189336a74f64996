"""Kubernetes: workloads scaled in place, pods moved in and out of rotation, nodes as inventory."""
