# SPDX-License-Identifier: MIT
#
# The front door. Meson builds; scripts/ does the rest.
#
#	make run	build, then run the main job: invlock prove
#	make test	build, then every test in every tier; ends with the count
#	make test-quick	the tests of a few seconds, as built for users
#	make proof	the tests that take as long as they take
#	make lint	the checks that need no build
#	make vm-test	the kernel module in virtual machines (K=6.1 or 6.12)
#	make bench	the measurements
#	make install	DESTDIR= and PREFIX= as usual
#	make clean

BUILD	?= build
PREFIX	?= /usr/local
DESTDIR	?=
# more arguments for invlock prove
ARGS	?=

.PHONY: all run test test-quick proof lint vm-test bench install clean

all:
	@scripts/deps.sh build
	@scripts/build.sh $(BUILD)

run:
	@scripts/deps.sh build
	@scripts/build.sh $(BUILD) tool/invlock
	@$(BUILD)/tool/invlock prove $(ARGS)

test:
	@scripts/deps.sh build test lint
	@scripts/test.sh all

test-quick:
	@scripts/deps.sh build test lint
	@scripts/test.sh quick

proof:
	@scripts/deps.sh build test
	@scripts/test.sh all proof

lint:
	@scripts/deps.sh lint
	@scripts/lint.py

vm-test:
	@tests/vm/run.sh $(if $(K),-k $(K))

bench:
	@scripts/deps.sh build bench
	@scripts/build.sh $(BUILD)
	@bench/run.sh $(BUILD)

install:
	@scripts/deps.sh build
	@scripts/build.sh $(BUILD) -- --prefix=$(PREFIX)
	@meson install -C $(BUILD) --no-rebuild $(if $(DESTDIR),--destdir $(abspath $(DESTDIR)))

clean:
	rm -rf build build-asan build-tsan
