# Tasks of the project; "make help" lists them. The work is done by the scripts in scripts/.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# A clone that belongs to another user has no readable version control; the version is stamped below.
export GOFLAGS := $(strip $(GOFLAGS) -buildvcs=false)

VERSION ?= $(shell git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null | sed 's/^v//' | grep . || echo 0.0.0-dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
# Sandboxes run Linux, whatever the server runs on.
GOARCH ?= $(shell go env GOARCH)
EMBEDDED := services/runtime-agent/internal/delivery/embedded/execd
MODULES = $(shell go list -m -f '{{.Dir}}')

.PHONY: help
help: ## list the tasks
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

# The single binary and the services that it consists of. The daemon for sandboxes has a target of its own: two of these have it inside.
PROGRAMS = $(filter-out %/opensandbox-execd,$(patsubst %/,%,$(dir $(wildcard services/*/cmd/opensandbox-*/main.go))))

.PHONY: build
build: build-execd ## build all programs into bin: opensandbox-server, -api, -scheduler, -agent, -router and -execd
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -tags embed_execd -ldflags '$(LDFLAGS)' -o bin/ $(addprefix ./,$(PROGRAMS))

.PHONY: build-execd
build-execd: ## build only the daemon that runs in sandboxes
	CGO_ENABLED=0 GOOS=linux GOARCH=$(GOARCH) go build -trimpath -ldflags '$(LDFLAGS)' -o bin/opensandbox-execd ./services/execd/cmd/opensandbox-execd
	@mkdir -p $(dir $(EMBEDDED))
	@cmp -s bin/opensandbox-execd $(EMBEDDED) || cp bin/opensandbox-execd $(EMBEDDED)

.PHONY: build-sabotaged
build-sabotaged: build-execd ## build the programs into bin/sabotaged, for tests that end them at a named step
	@mkdir -p bin/sabotaged
	CGO_ENABLED=0 go build -trimpath -tags embed_execd,sabotage -ldflags '$(LDFLAGS)' -o bin/sabotaged/ $(addprefix ./,$(PROGRAMS))

.PHONY: rootfs
rootfs: ## make bin/rootfs, what all images of services have beside their program
	@scripts/compose-images.sh rootfs

.PHONY: compose-images
compose-images: ## build the images of the services
	@scripts/compose-images.sh services

.PHONY: server-image
server-image: build rootfs ## build opensandbox/server, the image of the single server
	@scripts/compose-images.sh server

.PHONY: install
install: build ## install the single server with its systemd unit; DESTDIR=… PREFIX=/usr/local
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' scripts/install.sh

.PHONY: dist
dist: ## the archives of a release for linux/amd64 and linux/arm64 with their checksums, into dist/
	@VERSION='$(VERSION)' scripts/dist.sh

.PHONY: up
up: ## the platform on several processes: Redis, 2 APIs behind haproxy, 2 schedulers, router, agent
	@scripts/compose.sh up

.PHONY: down
down: ## stop what "make up" started and keep its data; ARGS=--volumes removes sandboxes and data too
	@scripts/compose.sh down $(ARGS)

.PHONY: quickstart
quickstart: ## set up everything, start a server, run a command in a sandbox
	@scripts/quickstart.sh start

.PHONY: quickstart-stop
quickstart-stop: ## stop the server of "make quickstart"
	@scripts/quickstart.sh stop

.PHONY: test
test: ## all set-up and every test (up to 60 minutes with empty caches)
	@scripts/test.sh

.PHONY: setup
setup: ## install what the tests need, build the images
	@scripts/test.sh setup

.PHONY: unit
unit: ## unit tests with the race detector, import rules, module files
	@scripts/test.sh unit

.PHONY: integration
integration: ## tests against a real Docker engine
	@scripts/test.sh integration

.PHONY: e2e
e2e: ## end-to-end tests of the server binary, with the published clients
	@scripts/test.sh e2e

.PHONY: faults
faults: ## kills at each step of a create and a delete, and a minute of chaos
	@scripts/test.sh faults

.PHONY: simulate
simulate: ## the control plane in the simulator: 100,000 schedules; SEEDS=1000000, or ARGS="-seed 7 -everything"
	@SIMULATE_ARGS='$(if $(SEEDS),-schedules $(SEEDS)) $(ARGS)' scripts/test.sh simulate

.PHONY: kill-matrix
kill-matrix: ## end and stop the programs at every step of what they do
	@scripts/kill-matrix.sh all

.PHONY: chaos
chaos: ## kill, stop and cut off everything under load, and check the history; ARGS="-seed 7 -for 10m -out DIR"
	@CHAOS_ARGS='$(ARGS)' scripts/chaos.sh

.PHONY: chaos-broken
chaos-broken: ## show that each check of "make chaos" notices what it is for; ARGS="-broken lost-patch"
	@CHAOS_ARGS='$(ARGS)' scripts/chaos.sh broken

.PHONY: fuzz
fuzz: ## fuzz every parser of foreign input for a minute each; FUZZ_TIME=10m ARGS=pattern
	@scripts/fuzz.sh $(if $(ARGS),'$(ARGS)')

.PHONY: fuzz-keep
fuzz-keep: ## keep what fuzzing has found that reaches new code, as tests in testdata/fuzz; ARGS=pattern
	@scripts/fuzz.sh --keep $(if $(ARGS),'$(ARGS)')

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, shellcheck
	@scripts/test.sh lint

.PHONY: fmt
fmt: ## format all Go files
	gofmt -w libs services tests

.PHONY: bench
bench: build ## measure the server beside the raw engine into bench-results/; fewer sections with ARGS="-only create"
	@scripts/docker-engine.sh
	@scripts/images.sh busybox
	CGO_ENABLED=0 go build -trimpath -o bin/fake-agent ./tests/cmd/fake-agent
	for arch in amd64 arm64; do CGO_ENABLED=0 GOARCH=$$arch go build -trimpath -ldflags '$(LDFLAGS)' -o bin/opensandbox-execd-$$arch ./services/execd/cmd/opensandbox-execd; done
	CGO_ENABLED=0 go run -C tests ./bench -server $(CURDIR)/bin/opensandbox-server -execd $(CURDIR)/bin/opensandbox-execd -out $(CURDIR)/bench-results $(ARGS)

.PHONY: soak
soak: build ## dense traffic on the single binary, then on the split services with two engines, 10 minutes each, then a look at what is left: SOAK=1h
	@scripts/soak.sh $(SOAK)

.PHONY: soak-broken
soak-broken: ## a short soak of programs that keep something of every sandbox, which it must notice
	@scripts/soak.sh broken

.PHONY: microbench
microbench: ## Go benchmarks of all modules
	go test -run '^$$' -bench . -benchmem work

.PHONY: tidy
tidy: ## tidy all modules and bring them in line with the workspace
	go work sync
	for module in $(MODULES); do GOWORK=off go mod tidy -C "$$module"; done

.PHONY: tidy-check
tidy-check: ## check that each module builds alone and is tidy
	@scripts/modules.sh

.PHONY: clean
clean: ## remove what was built in this tree (not the cache, images or the quick start's state)
	rm -rf bin dist bench-results soak-results $(EMBEDDED)
