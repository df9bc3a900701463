"""Run with python -m vla_pruner_lab.demo."""

from vla_pruner_lab.common.program import start

if __name__ == "__main__":
    raise SystemExit(start("vla_pruner_lab.demo.cli"))
