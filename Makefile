# The two commands of the README are `make demo` and `make test`; each sets up everything it needs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CXX_FILES = $(shell git ls-files '*.h' '*.cc' '*.cpp' '*.inc' '*.cu')
NATIVE := $(wildcard csrc/*.cc csrc/*.h csrc/*/*) CMakeLists.txt setup.py pyproject.toml

.PHONY: demo test verify fuzz sanitize avx512-emulated aarch64 compat audit bench cuda cuda-sanitize lint format clean

demo: $(VENV)/train.installed
	$(BIN)/maam compare

test: $(VENV)/test.installed
	$(BIN)/python -m pytest tests -n auto --maxprocesses 4 --dist loadfile

# All of docs/verification.md, an hour and the downloads of `make compat`; `make test` takes a share of it.
# VERIFY=--resume goes on after an interruption, VERIFY='--without compat' leaves out a tier: see python -m tests.verify --help.
verify: $(VENV)/verify.installed
	$(BIN)/python -m tests.verify $(VERIFY)

# make fuzz CASES=1000000 SECONDS=600: random cases of every operator, then so long for each reader of files.
CASES ?= 100000
SECONDS ?= 60
READERS := cifar10-binary cifar10-python checkpoint checkpoint-meta recipe
fuzz: $(VENV)/fuzz.installed
	$(BIN)/python -m tests.verify.fuzz --cases $(CASES)
	for reader in $(READERS); do $(BIN)/python -m tests.verify.readers $$reader --seconds $(SECONDS) || exit 1; done

# The kernels in a process of their own, which reads its requests from the tests.
RUN_KERNEL_TESTS = $(BIN)/python -m pytest tests/verify tests/maam_ops/test_native_*.py -q -n auto --maxprocesses 4
build/%/maam_ops_runner: $(VENV)/verify.installed FORCE
	$(BIN)/cmake -S . -B build/$* -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja -DMAAM_OPS_RUNNER=ON $(CMAKE_FLAGS)
	$(BIN)/cmake --build build/$*
FORCE:

# Between guard pages buffers are misaligned too; AddressSanitizer watches the heap alone. ThreadSanitizer is spared the
# tiers that differ from the rest in their numbers only, and the counts of calls, which three callers multiply.
sanitize: sanitize-address sanitize-undefined sanitize-thread
sanitize-address: OPTIONS = --place=heap
sanitize-undefined: OPTIONS = --place=end
sanitize-thread: OPTIONS = --place=end --callers=3
sanitize-thread: NUMBERS = and not test_exact and not test_special and not test_gradients and not test_counters
sanitize-%:
	$(MAKE) build/$*/maam_ops_runner CMAKE_FLAGS=-DMAAM_OPS_SANITIZE=$*
	MAAM_OPS_TEST_RUNNER='$(CURDIR)/build/$*/maam_ops_runner $(OPTIONS)' \
		$(RUN_KERNEL_TESTS) -k 'not larger_than_the_cache and not past_the_cache $(NUMBERS)'

# For a CPU with AVX2 but not AVX-512. On Debian: apt-get install libsimde-dev
avx512-emulated:
	$(MAKE) build/avx512-emulated/maam_ops_runner CMAKE_FLAGS=-DMAAM_OPS_EMULATE_AVX512=ON
	MAAM_OPS_TEST_RUNNER='$(CURDIR)/build/avx512-emulated/maam_ops_runner' $(RUN_KERNEL_TESTS)

# On Debian: apt-get install g++-aarch64-linux-gnu qemu-user-static
aarch64:
	$(MAKE) build/aarch64/maam_ops_runner CMAKE_FLAGS='-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
		-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++'
	QEMU_LD_PREFIX=/usr/aarch64-linux-gnu \
	MAAM_OPS_TEST_RUNNER='qemu-aarch64-static $(CURDIR)/build/aarch64/maam_ops_runner' \
		$(RUN_KERNEL_TESTS) -k 'not larger_than_the_cache and not past_the_cache'

# Every supported MindSpore on every supported Python that is here, unless it passed on these sources; writes docs/compat.md.
compat:
	$(PYTHON) -m tests.verify.compat

audit: $(VENV)/verify.installed
	$(BIN)/pip-audit --skip-editable --desc

bench: $(VENV)/bench.installed
	$(BIN)/python -m pytest benchmarks --benchmark-only

# Needs nvcc and cmake alone: neither Python packages nor a GPU. CUDA_FLAGS=-DMAAM_OPS_CUDA_ARCHITECTURES=90 for one part.
cuda:
	cmake -S . -B build/cuda -DMAAM_OPS_CUDA=ON -DMAAM_OPS_WERROR=ON $(CUDA_FLAGS)
	cmake --build build/cuda --target maam_ops_cuda --parallel
	cp build/cuda/libmaam_ops_cuda.so maam_ops/.libmaam_ops_cuda.so.new
	mv maam_ops/.libmaam_ops_cuda.so.new maam_ops/libmaam_ops_cuda.so

# memcheck, racecheck and initcheck over the GPU tests; says why it skips where there is no GPU.
cuda-sanitize:
	tests/cuda/sanitize.sh $(PYTHON)

lint: $(VENV)/test.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)

format: $(VENV)/test.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

clean:
	rm -rf $(VENV) build dist *.egg-info maam_ops/*.so

# One editable install for each set of extras; a change of the native sources builds again.
$(VENV)/%.installed: $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@
