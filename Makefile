# The commands of this project: `make` checks everything, `make help` lists the rest.

SHELL := bash
.SHELLFLAGS := -o pipefail -c

GOLANGCI_VERSION := v2.15.0
GOLANGCI := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/rollcall/golangci-lint-$(GOLANGCI_VERSION)/golangci-lint

PKG ?= ./...
TIMEOUT ?= 10m
FUZZTIME ?= 20s

.PHONY: all help run demo image build test race chaos lint lint-go lint-scripts fmt fuzz bench cover clean deps tools
all: lint test ## lint and test (the default)

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## start everything in one process; needs nothing but Go
	go run ./app/cmd/rollcall dev

demo: ## start the demo: two clients and two services that find each other; Ctrl-C ends it
	docker/demo/run.sh

image: ## build the Docker image rollcall
	docker build -t rollcall -f docker/Dockerfile .

build: ## build bin/rollcall and bin/demo, static binaries
	docker/build.sh "$$PWD/bin"

race: test
test: deps ## run the tests under the race detector; PKG=./hipache for one package
	go test -race -timeout $(TIMEOUT) $(PKG)

chaos: deps ## break things on purpose, under load: all of tests/chaos, of which the tests run a selection; a few minutes
	ROLLCALL_CHAOS=all go test -race -count=1 -timeout 20m ./tests/chaos

lint: lint-go lint-scripts ## check format, Go, Lua and shell

lint-go: tools
	$(GOLANGCI) fmt --diff
	$(GOLANGCI) run

lint-scripts: deps
	luacheck -q .
	find . -name '*.sh' -not -path './.git/*' -exec shellcheck .ci/run {} +

fmt: tools ## format the Go code
	$(GOLANGCI) fmt

fuzz: ## run each fuzz target; FUZZTIME=1m for longer
	@go test -list '^Fuzz' ./... | awk '/^Fuzz/ {f[++n] = $$1; next} {for (i = 1; i <= n; i++) print f[i], $$2; n = 0}' | \
	while read -r target package; do \
		echo "$$package $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$package" || exit 1; \
	done

bench: ## measure side by side, half an hour on a quiet machine; BENCH=quick for seven minutes
	@tests/install.sh bench
	go run ./tests/load

cover: deps ## run the tests and say what they cover; details in coverage.txt
	go test -timeout $(TIMEOUT) -coverpkg=./... -coverprofile=coverage.txt $(PKG)
	go tool cover -func=coverage.txt | tail -n 1

clean: ## remove what was built
	rm -rf bin coverage.txt

deps:
	@tests/install.sh

tools: $(GOLANGCI)

$(GOLANGCI):
	GOBIN=$(@D) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
