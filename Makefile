# The commands of this project: `make` checks everything, `make help` lists the rest.

SHELL := bash
.SHELLFLAGS := -o pipefail -c

GOLANGCI_VERSION := v2.15.0
GOLANGCI := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/rollcall/golangci-lint-$(GOLANGCI_VERSION)/golangci-lint

TIMEOUT ?= 10m
FUZZTIME ?= 20s
SOAKTIME ?= 10m

# Tests draw the same values and run in the same order every time: a red run can be repeated. make soak draws new ones.
export RAPID_SEED ?= 1
export RAPID_CHECKS ?= 100
export RAPID_NOFAILFILE ?= true
SHUFFLE ?= 1
GOTEST := go test -race -shuffle=$(SHUFFLE) -timeout $(TIMEOUT)

# The race detector waits for late reports before a program ends: by default a second.
export GORACE ?= atexit_sleep_ms=50

# These packages run beside the others, because they mostly wait, except for tests/chaos: it compares times with promises.
# Parts of CONTAINERS and CHAOS need root; AS_ROOT is the command that gives it.
E2E := ./tests/e2e
CONTAINERS := ./tests/containers
CHAOS := ./tests/chaos
AS_ROOT ?=

# In the foreground of a terminal, a recipe gives its program a process group of its own: Ctrl-C then ends the program and
# not make, which would report an error.
JOB := case $$(ps -o stat= -p $$$$ 2>/dev/null) in *+*) set -m ;; esac

.PHONY: all help generators screenshots run demo image build test test-fast soak chaos lint lint-go lint-scripts lint-generated generate fmt fuzz bench mutants cover clean deps tools
all: lint test ## lint and test (the default)

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## start everything in one process; needs nothing but Go
	@echo 'Compiling Rollcall; the first time this takes about a minute ...'
	@mkdir -p bin && go build -o bin/rollcall ./app/cmd/rollcall && $(JOB) && { bin/rollcall dev; exit $$?; }

demo: ## start the demo: two clients and two services that find each other; Ctrl-C ends it
	@$(JOB); docker/demo/run.sh; exit $$?

screenshots: ## take the pictures of docs/images from a fleet with fixed data
	mkdir -p docs/images
	PAGE_IMAGES="$$PWD/docs/images" go test -count=1 ./tests/e2e -run TestScreenshots

image: ## build the Docker image rollcall
	docker build -t rollcall -f docker/Dockerfile $$(.ci/build-args) .

build: ## build bin/rollcall and bin/demo, static binaries
	docker/build.sh "$$PWD/bin"

ifdef PKG
test: deps ## run all tests under the race detector; PKG=./hipache for one package
	$(GOTEST) $(PKG)
else
test: deps
	$(GOTEST) $$(go list ./... | grep -vxF "$$(go list $(E2E) $(CONTAINERS) $(CHAOS))")
	go -C tests/load test ./...
	$(GOTEST) $(E2E)
	$(AS_ROOT) $(GOTEST) -p 1 $(CONTAINERS) $(CHAOS)
endif

test-fast: ## run the tests that start no process, without the race detector: for daily work
	go test -short -shuffle=$(SHUFFLE) $$(go list ./app/... ./handlers/... ./hipache/... ./jobs/... ./migrations)

generators: ## generate clients with oapi-codegen, ogen and openapi-typescript, run them, lint openapi.yaml; needs the Go module proxy and npm
	ROLLCALL_GENERATORS=all $(GOTEST) -count=1 -v -run 'TestGeneratedClients|TestOpenAPIWithNpm' ./tests/docs

soak: deps ## run the property tests with new random values for SOAKTIME=10m, or until one fails
	@RAPID_SEED=0 RAPID_CHECKS=1000 timeout $(SOAKTIME) sh -c 'while go test -count=1 -shuffle=on "$$@"; do :; done; exit 1' soak \
		$$(go list -f '{{.ImportPath}} {{.TestImports}} {{.XTestImports}}' ./... | awk '/ .*pgregory.net\/rapid/ {print $$1}'); \
	[ $$? = 124 ] && echo "no failure in $(SOAKTIME)"

chaos: deps ## break things on purpose, under load: all of tests/chaos, of which the tests run a selection; a few minutes
	ROLLCALL_CHAOS=all go test -race -count=1 -timeout 20m ./tests/chaos

lint: lint-go lint-scripts lint-generated ## check format, Go, Lua, shell and generated code; print the pronoun share of comments
	@.ci/pronouns

lint-go: tools
	$(GOLANGCI) fmt --diff
	$(GOLANGCI) run
	cd tests/load && $(GOLANGCI) run

lint-scripts: deps
	luacheck -q .
	find . -name '*.sh' -not -path './.git/*' -exec shellcheck .ci/run .ci/release .ci/pronouns .ci/build-args {} +

lint-generated: ## check that generated code is up to date
	@old=$$(mktemp) && cp app/client/generated.go "$$old" && $(MAKE) -s generate && \
		{ cmp -s "$$old" app/client/generated.go || { echo 'app/client/generated.go was out of date: commit the new one' >&2; exit 1; }; }

generate: ## generate app/client from handlers/openapi.yaml
	go generate ./app/client

fmt: tools ## format the Go code
	$(GOLANGCI) fmt

fuzz: ## run each fuzz target; FUZZTIME=1m for longer
	@go test -list '^Fuzz' ./... | awk '/^Fuzz/ {f[++n] = $$1; next} {for (i = 1; i <= n; i++) print f[i], $$2; n = 0}' | \
	while read -r target package; do \
		echo "$$package $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$package" || exit 1; \
	done

mutants: ## change the rules of the program one at a time and list the changes that no test notices; MUTANTS=app/ for a part
	go run ./tests/mutants $(MUTANTS)

bench: ## measure side by side on a quiet machine: 45 minutes, or BENCH=quick for 12; renews the figures of README.md and docs
	@tests/install.sh bench
	go -C tests/load run .

cover: deps ## run the tests and say what they cover; details in coverage.txt
	go test -timeout $(TIMEOUT) -coverpkg=./... -coverprofile=coverage.txt $(or $(PKG),./...)
	go tool cover -func=coverage.txt | tail -n 1

clean: ## remove what was built
	rm -rf bin coverage.txt

deps:
	@tests/install.sh

tools: $(GOLANGCI)

$(GOLANGCI):
	GOBIN=$(@D) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
