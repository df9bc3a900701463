"""Run with python -m vla_pruner_lab.latency."""

from vla_pruner_lab.latency.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
