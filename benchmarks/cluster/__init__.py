"""A real API server and a real Prometheus in front of a thousand services, for bench_cluster."""
