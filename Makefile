# Pi Lifeboat. Every target installs what it lacks (Debian 12 or 13) and builds what changed.
.DEFAULT_GOAL := help
.PHONY: help demo test check device deb bench fuzz chaos clean

OS ?= rescue

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo '  Words for demo: OS=debian boots a small Debian in RAM, CHECK=1 logs in once and ends.'

demo: ## power on a Pi that is not there and log in to its rescue
	@.ci/setup demo
	@virtual-pi/demo.sh $(OS) $(if $(CHECK),--check)

test: ## every test tier that can run here (TIER=vm for one; LONG=1: the longest tests, too)
	@.ci/test $(TIER)

check: ## format, clippy, licences, shell scripts
	@.ci/check

device: ## the programs that run on the Pi, small, as for a real image
	@.ci/setup device
	@.ci/device image

deb: ## a Debian package of the boot server, in target/deb (ARCH=arm64)
	@.ci/setup device
	@.ci/deb $(ARCH)

bench: ## speed and memory against the systems to beat
	@.ci/setup bench
	@.ci/bench

fuzz: ## look for input that our parsers do not survive (SECONDS_EACH=60)
	@.ci/setup fuzz
	@.ci/fuzz

chaos: ## boots into RAM while everything is broken at random (RUNS=50, SEED=1)
	@.ci/setup test
	@.ci/chaos $(RUNS) $(SEED)

clean: ## remove all that was built
	rm -rf target
