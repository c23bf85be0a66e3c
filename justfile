# `just` lists the recipes. Set up first: see CONTRIBUTING.md.

python := ".venv/bin/python"

_default:
    @just --list

# the fast tests, or those that are named
test *arguments:
    {{python}} -m pytest {{arguments}}

# all tests, as the README's command runs them
test-all *arguments:
    {{python}} -m pytest -m "" {{arguments}}

# the share of lines that the fast tests and those with torch run
coverage:
    {{python}} -m pytest --cov --cov-report=term-missing:skip-covered -m "not slow and not model and not kill and not browser"

# style of the code, and a check of every program
lint:
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    .venv/bin/lmprog check specs/*.yaml specs/full/*.yaml specs/judges/*.yaml specs/gallery/*/*.yaml --only-programs --strict

# mypy, on the wheel
types:
    bash .ci/types

# what is made from the code (pages of docs/, the schemas of the optimizers' options), then the site, in build/site
docs:
    {{python}} -m lmprog.optimizers.optimizer
    {{python}} docs/generate_cli.py
    {{python}} docs/generate_reference.py
    {{python}} docs/generate_gallery.py
    {{python}} docs/build_site.py

# one benchmark, as benchmarks/check.py or grpo_step.py
bench name="check" *arguments:
    {{python}} benchmarks/{{name}}.py {{arguments}}

# what CI runs
ci:
    bash .ci/run
