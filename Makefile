# Two commands to know: `make demo` and `make test`. They need Python 3.11 or newer, make, and a package index.
# The first run of each builds an environment; later runs find it ready until pyproject.toml or constraints.txt changes.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

# Pyright comes whole from the package index and need not look for a newer self.
export PYRIGHT_PYTHON_IGNORE_WARNINGS = 1

.PHONY: demo test test-browser page docs package bench clean

demo: .venv/ready-demo
	.venv/bin/hesse demo

test: .venv/ready-dev
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/pyright --pythonpath .venv/bin/python
	.venv/bin/pytest -n 2

# The tests of the pages in a browser, which `make test` skips where there is none. Debian's Chromium, or one of your own.
test-browser: .venv/ready-dev
	@which chromium chromium-browser google-chrome >/dev/null 2>&1 || test -x "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" || apt-get install -y chromium || { echo "no Chromium found; install one" >&2; exit 1; }
	.venv/bin/pytest tests/web

# Second derivatives asked in a browser.
page: .venv/ready-web
	.venv/bin/hesse serve --open

# The site, in site/: open site/index.html, no server is needed.
docs: .venv/ready-docs
	.venv/bin/zensical build --clean

# The wheel and the sdist in environments of their own, with no extra and with each.
package: .venv/ready-dev
	.venv/bin/python tests/package.py

bench: .venv-bench/ready
	for part in dense positions small certificates diagonal operator curvature papers derivations formulas kfac spectra memory startup scaling quadratic minimize tables; do .venv-bench/bin/python -m bench.$$part || exit 1; done

clean:
	rm -rf .venv .venv-bench

# ready-demo and ready-dev: the extra of that name, installed in .venv.
.venv/ready-%: pyproject.toml constraints.txt
	$(call environment,.venv)
	.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	@touch $@

.venv-bench/ready: pyproject.toml constraints.txt bench/requirements.txt
	$(call environment,.venv-bench)
	.venv-bench/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	.venv-bench/bin/python -m pip install --quiet --no-deps --requirement bench/requirements.txt
	@touch $@

define environment
@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
$(PYTHON) -m venv $(1)
endef
