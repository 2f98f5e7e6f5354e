# The targets that people use have a line of help; `make` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO      ?= go
BIN     := bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.version=$(VERSION)
BUILD   := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)'

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

.PHONY: demo
demo: setup build ## run containers on a local Azure: everything it needs included
	$(BIN)/sockerless demo

.PHONY: test
test: setup-test build images ## run all tests, with the race detector, installing what they need
	scripts/test

.PHONY: check
check: setup-test build images fmt vet lint cross docs-check ## what a change must pass: format, vet, lint, import rules, cross builds, tests
	scripts/test

.PHONY: build
build: ## put the programs into bin/
	@mkdir -p $(BIN)
	$(BUILD) -o $(BIN)/sockerless ./cmd/sockerless
	$(BUILD) -o $(BIN)/sockerless-frontend-docker ./frontends/docker
	$(BUILD) -o $(BIN)/sockerless-backend-aca ./backends/aca/cmd/sockerless-backend-aca
	$(BUILD) -o $(BIN)/sockerless-agent ./agent/cmd/sockerless-agent
	$(BUILD) -o $(BIN)/azuresim ./azuresim/cmd/azuresim
	$(BUILD) -o $(BIN)/minibox ./azuresim/minibox/cmd/minibox

.PHONY: images
images: ## put the images of backend and agent into bin/images, an OCI layout that `sockerless push-images` pushes
	@mkdir -p $(BIN)/linux-amd64
	GOOS=linux GOARCH=amd64 $(BUILD) -o $(BIN)/linux-amd64/ ./backends/aca/cmd/sockerless-backend-aca ./agent/cmd/sockerless-agent
	CGO_ENABLED=0 $(GO) run -trimpath ./tools/images $(BIN)/images $(BIN)/linux-amd64

.PHONY: e2e
e2e: setup-test build images ## run the sessions of the real docker CLI alone; RUN=walkthrough picks one
	$(GO) test ./e2e -count=1 -timeout 20m -parallel 4 $(if $(RUN),-run 'TestSessions/$(RUN)') -v

.PHONY: soak
soak: setup-test build images ## the long runs: 1,050 of link and agent over broken networks, the contract on every way to a backend, hundreds of sessions, a real Debian userland
	SOCKERLESS_SOAK=1 $(GO) test -race ./link ./agent -p 1 -count=1 -timeout 15m -v -run 'TestFaults|TestLongCut'
	SOCKERLESS_SOAK=1 $(GO) test ./agent -count=1 -timeout 15m -v -run TestExecsLeaveNothing
	SOCKERLESS_SOAK=1 $(GO) test -race ./remote ./frontends/docker -p 1 -count=1 -timeout 20m
	SOCKERLESS_SOAK=1 $(GO) test ./e2e -count=1 -timeout 60m -parallel 2 -v

.PHONY: bench
bench: setup build ## measure beside a local dockerd, if there is one
	$(GO) run ./bench

.PHONY: conformance
conformance: setup-conformance build ## hold Sockerless, and the dockerd of this machine if there is one, to what Docker answers; run other people's clients
	$(GO) test ./conformance ./conformance/transcript -count=1 -timeout 30m -parallel 4 -dockerd -v | grep -v -e '^=== ' -e '^    --- PASS'
	$(GO) test ./conformance/clients -count=1 -timeout 40m -clients -dockerd -v | grep -v -e '^=== ' -e '^    --- PASS'

.PHONY: bench-link
bench-link: ## measure the link against raw TLS, layer by layer, and what idle agents cost
	$(GO) test ./link -run '^$$' -bench 'Layers|LinkBulk' -benchtime 8000x
	$(GO) test ./link -run '^$$' -bench 'RoundTrip|FarAway|Dial|Resume|HubIdle'
	$(GO) test ./agent -run '^$$' -bench 'StartUp|MemoryIdle' -benchtime 3x

.PHONY: fuzz
fuzz: ## each fuzz target for 30 s
	scripts/fuzz 30s

.PHONY: fmt
fmt: ## fail if a file is not formatted
	@bad=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$bad" ]; then echo "not formatted:"; echo "$$bad"; exit 1; fi

.PHONY: vet
vet: ## go vet
	$(GO) vet ./...

.PHONY: lint
lint: ## golangci-lint, see .golangci.yaml; its version is the tool line of tools/lint.mod
	$(GO) tool -modfile=tools/lint.mod golangci-lint run ./...

.PHONY: terraform-check
terraform-check: ## hold the Terraform module to format, azurerm's schema, and its own tests, in seconds
	scripts/terraform-check

.PHONY: terraform-e2e
terraform-e2e: setup-test build images ## type the walk-through against the simulator with the real azurerm provider, which takes 17 minutes of CPU to build once
	scripts/terraform-e2e

.PHONY: cgroup2
cgroup2: setup-cgroup2 build images ## hold stats, limits and what happens when memory is short to a kernel with control groups of version 2 alone, in a virtual machine
	scripts/cgroup2

.PHONY: cross
cross: ## what laptops run builds for them, and the tests of the frontend compile
	for os in darwin windows; do \
	  GOOS=$$os CGO_ENABLED=0 $(GO) build -o /dev/null ./frontends/docker; \
	  GOOS=$$os CGO_ENABLED=0 $(GO) vet ./frontends/... ./remote/... ./wire/... ./link/...; \
	done
	GOOS=darwin CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/sockerless # not on Windows, where the engine does not build

.PHONY: docs-check
docs-check: ## fail if a generated page is stale
	$(GO) test ./engine/fields -run TestMarkdown -count=1
	$(GO) test ./conformance -run 'TestPage|TestTable' -count=1

.PHONY: setup
setup: ## install what running needs: runc
	scripts/setup run

.PHONY: setup-test
setup-test: ## install what the tests need: runc, a docker CLI, a C compiler for the race detector
	scripts/setup test

.PHONY: setup-conformance
setup-conformance: ## install what make conformance needs too: python3-docker and npm
	scripts/setup conformance

.PHONY: setup-cgroup2
setup-cgroup2: ## install what make cgroup2 needs too: qemu
	scripts/setup cgroup2

.PHONY: clean
clean: ## remove bin/
	rm -rf $(BIN)
