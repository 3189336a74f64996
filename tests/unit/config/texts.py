"""Configuration texts that more than one test starts from."""

from __future__ import annotations

from pathlib import Path

REPO = Path(__file__).resolve().parents[3]

#: nothing but what has no default
MINIMAL_SERVICE = """\
  - name: chat
    priority: 80
    slo: {ttft_s: 1.0, tbt_s: 0.04, quantile: 0.9}
    group:
      roles:
        prefill: {share: 9, accelerators: [{type: H20, gpus: 8}]}
        decode: {share: 7, accelerators: [{type: H20, gpus: 8}]}
    policy:
      proportional: [{signal: tps, role: decode, target: 3000.0}]
      feedback: [{signal: ttft_s}]
"""
MINIMAL = f"services:\n{MINIMAL_SERVICE}"

MINIMAL_SCENARIO = """\
name: day
service:
  name: chat
  priority: 80
  slo: {ttft_s: 1.0, tbt_s: 0.04, quantile: 0.9}
  group:
    roles:
      prefill: {share: 9, accelerators: [{type: H20, gpus: 8}]}
      decode: {share: 7, accelerators: [{type: H20, gpus: 8}]}
  policy:
    proportional: [{signal: tps, role: decode, target: 3000.0}]
    feedback: [{signal: ttft_s}]
traffic:
  rate_curve: {peak_rps: 190.0, input_tokens_mean: 3000, output_tokens_mean: 350}
model: {name: moe-540b-a27b}
nodes: [{accelerator: H20, nodes: 16}]
initial: {prefill: 9, decode: 7}
"""
