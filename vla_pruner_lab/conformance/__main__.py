"""Run with python -m vla_pruner_lab.conformance."""

from vla_pruner_lab.conformance.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
