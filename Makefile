# The commands of this project; `make help` lists them.
# openmmlab, onedl, or auto: the official packages if they support this Python, else OneDL's forks.
STACK ?= auto
PYTHON ?= python3
SEEDS ?= 1
JOBS ?= 2
VENV ?= .venv$(if $(filter onedl,$(STACK)),-onedl)
RUN = "$(VENV)/bin/python"

# Without these settings, glibc returns the memory of each tensor to the system, which takes a tenth
# of the training time.
KEEP_MEMORY = MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=2147483648

# Two processes with one thread each suit many small tests. The files run in alphabetical order,
# because pytest-xdist would otherwise start the slowest files last.
PYTEST = OMP_NUM_THREADS=1 $(RUN) -m pytest -q --durations=10 -n 2 --dist loadfile --no-loadscope-reorder

# The environment must not import packages from the Python path of the shell.
unexport PYTHONPATH PYTHONHOME

.PHONY: help demo compare test test-models quick bench full lint env lock clean
.NOTPARALLEL:

help:  ## list the commands
	@echo 'make COMMAND [STACK=auto|openmmlab|onedl] [PYTHON=python3.12] [VENV=folder]'
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' Makefile

demo: env  ## install, then train, evaluate and draw a small detector
	$(KEEP_MEMORY) $(RUN) -m dsnet_mm demo

compare: env  ## install, then train and compare small detectors (takes hours); SEEDS=1 of each, JOBS=2 at a time
	$(KEEP_MEMORY) $(RUN) -m dsnet_mm compare --suite shapes --run --seeds $(SEEDS) --jobs $(JOBS)

test: env  ## install, then run all tests
	$(PYTEST)

test-models: env  ## install, then run the tests of backbone and neck, in less than a minute
	$(PYTEST) -m 'not slow' tests/models

quick: env  ## install, then run the tests that take seconds
	$(PYTEST) -m 'not slow'

bench: env  ## install, then check the ratios of time and memory against their limits and targets
	$(RUN) -m pytest -q -s tests/bench_ratios.py

full: env  ## install, then train each COCO config at full size: two iterations, and 1000 on a GPU
	$(RUN) -m pytest -q -s tests/full_size.py

lint: env  ## install, then check style, format, types, spelling and the documentation site
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m codespell_lib
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --quiet --strict

env:  ## install PyTorch, OpenMMLab and this project into a virtual environment
	@$(PYTHON) tools/install.py --stack '$(STACK)' --venv '$(VENV)'

# === excludes local versions such as 2.13.0+cpu, which match no torchvision in the lock. uv keeps the
# versions of an existing lock only if they are written with ==.
lock: env  ## update the lock files of both stacks; LOCK=--upgrade uses the newest versions
	for extras in openmmlab:segmentation onedl:onedl-segmentation; do \
		stack=$${extras%:*}; lock=requirements/$$stack.lock; sed 's/===/==/' $$lock > $$lock.new && \
		$(RUN) -m uv pip compile -q --universal --python-version 3.10 --no-header --no-annotate $(LOCK) \
			--extra $$stack --extra $${extras#*:} --extra export --extra openvino --extra app \
			--extra safetensors --group dev pyproject.toml -o $$lock.new && \
		sed -i -E 's/^(torch|torchvision)==+/\1===/' $$lock.new && mv $$lock.new $$lock || exit 1; \
	done

clean:  ## remove build outputs and the virtual environments of `make env`
	rm -rf build dist dsnet_mm.egg-info .mypy_cache .pytest_cache .ruff_cache
	for venv in .venv .venv-onedl; do \
		if [ -e "$$venv/dsnet-mm.stack" ]; then rm -rf "$$venv"; fi; \
	done
