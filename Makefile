# SPDX-License-Identifier: MIT
#
# The front door. Meson builds; scripts/ does the rest.
#
#	make run	build, then run the main job: invlock prove
#	make test	build, then every test in every tier, or in TIERS="plain asan"; ends
#			with the count
#	make test-quick	the tests of a few seconds, as built for users
#	make proof	the tests that take as long as they take, which make test leaves out
#	make fuzz	libFuzzer, for TIME seconds on each target
#	make lint	the checks that need no build
#	make vm-test	the kernel module, the BPF monitor and the races in virtual
#			machines (K=6.1, 6.12, newest, debug, kcsan or all; W=hmm
#			and others for one part only; W=odp, which runs only where it
#			is named; TORTURE=seconds; RUNS=3 boots each machine three
#			times)
#	make rdma-test	the adapters for RDMA, in a virtual machine (K=6.1; K=6.12
#			with the RDMA libraries of Debian 13, K=newest with those of sid)
#	make package-test	the Debian packages: built, installed, used and removed in
#			roots of their own (SUITE=bookworm)
#	make readme-test	README.md, docs/tutorial.md and docs/install-module.md, followed
#			word for word in clean roots (SUITE=bookworm)
#	make test-in	make run, then TIERS of the tests, in a root of another Debian
#			(SUITE=trixie or sid; TIERS=plain)
#	make compilers	the build and a few tests with each gcc and clang of other Debians
#			(SUITE=bookworm; without it bookworm, trixie and sid)
#	make bench	the measurements
#	make bench-kernel	the kernel's, in a virtual machine (K=6.1 or 6.12), as JSON
#	make bench-rdma	libfabric's cache with the plug-in and without, in a virtual machine,
#			in instructions, as JSON
#	make kernel-series	the fault loops of kmod/ as patches for the newest kernel, in
#			build/kernel-series
#	make kernel-series-test	the same, and checks them: style, compilers, sparse, KUnit
#	make install	DESTDIR= and PREFIX= as usual; runs ldconfig, or says why it cannot
#	make uninstall	the same DESTDIR= and PREFIX=
#	make clean

BUILD	?= build
PREFIX	?= /usr/local
DESTDIR	?=
# more arguments for invlock prove
ARGS	?=
# the tiers that make test runs; empty means all
TIERS	?=
# seconds that make fuzz takes for each target
TIME	?= 600

.PHONY: all run test test-quick proof fuzz lint vm-test rdma-test package-test \
	readme-test test-in compilers bench bench-kernel bench-rdma kernel-series \
	kernel-series-test install uninstall clean

all:
	@scripts/deps.sh build
	@scripts/build.sh $(BUILD)

run:
	@scripts/deps.sh build
	@scripts/build.sh $(BUILD) tool/invlock
	@$(BUILD)/tool/invlock prove $(ARGS)

test:
	@scripts/deps.sh build test lint model rdma
	@scripts/test.sh all $(TIERS)

test-quick:
	@scripts/deps.sh build test lint model
	@scripts/test.sh quick

proof:
	@scripts/deps.sh build test model programs
	@scripts/test.sh all proof

fuzz:
	@scripts/deps.sh build test fuzz
	@tests/fuzz/run.sh $(TIME)

lint:
	@scripts/deps.sh lint
	@scripts/lint.py

vm-test:
	@tests/vm/run.sh -w $(or $(W),all) $(if $(K),-k $(K)) $(if $(TORTURE),-t $(TORTURE)) \
		$(if $(RUNS),-r $(RUNS))

rdma-test:
	@tests/vm/run.sh -w rdma $(if $(K),-k $(K))

package-test:
	@scripts/deps.sh package
	@tests/package/run.sh $(if $(SUITE),-s $(SUITE))

readme-test:
	@scripts/deps.sh package
	@tests/package/readme.sh $(if $(SUITE),-s $(SUITE))

test-in:
	@scripts/deps.sh package
	@TIERS="$(TIERS)" tests/package/within.sh -s $(or $(SUITE),trixie)
	@scripts/tally.py build/results/$(or $(SUITE),trixie)-*

compilers:
	@scripts/deps.sh package
	@failed=0; for suite in $(or $(SUITE),bookworm trixie sid); do \
		tests/package/compilers.sh -s $$suite || failed=1; done; exit $$failed

bench:
	@scripts/deps.sh build bench
	@scripts/build.sh $(BUILD)
	@bench/run.sh $(BUILD)

bench-kernel:
	@tests/vm/run.sh -b $(if $(K),-k $(K))

bench-rdma:
	@tests/vm/run.sh -b -c -w rdma $(if $(K),-k $(K))

kernel-series:
	@BUILD=$(abspath $(BUILD)) kmod/series/make.sh

kernel-series-test:
	@BUILD=$(abspath $(BUILD)) kmod/series/check.sh

install:
	@scripts/deps.sh build
	@scripts/build.sh $(BUILD) -- --prefix=$(PREFIX)
	@meson install -C $(BUILD) --no-rebuild $(if $(DESTDIR),--destdir $(abspath $(DESTDIR)))

uninstall:
	@scripts/build.sh $(BUILD) build.ninja -- --prefix=$(PREFIX)
	@scripts/uninstall.py $(BUILD) $(if $(DESTDIR),$(abspath $(DESTDIR)))
	@# what the dynamic linker still remembers does no harm where it cannot be told
	@$(if $(DESTDIR),:,PATH=$$PATH:/usr/sbin:/sbin ldconfig 2>/dev/null || :)

clean:
	rm -rf build build-arm64 build-asan build-tsan build-fuzz
