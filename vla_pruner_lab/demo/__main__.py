"""Run with python -m vla_pruner_lab.demo."""

from vla_pruner_lab.demo.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
