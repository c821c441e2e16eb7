# Each target is one script; `make help` lists them. What a script needs set up, it sets up itself.
.DEFAULT_GOAL := help
.PHONY: help setup build demo kill-matrix budget sleepers flatness bench bench-quick bench-micro bench-archive test lint format

help: ## Lists the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Installs what is missing (fast when nothing is)
	@scripts/setup

build: ## Builds the engine, the operator CLI and the SDK
	@scripts/build

demo: ## Kills agent and engine at every step of a real job and shows what it cost
	@scripts/demo

kill-matrix: ## Kills every example at every event, in every way, and compares what came of it
	@scripts/kill-matrix

budget: ## Measures whether 64 children in parallel ever exceed one budget
	@scripts/budget

sleepers: ## Measures 10,000 sleeping sessions: memory, and how late their timers fire
	@scripts/sleepers

flatness: ## Measures whether steps get slower with the length of a session
	@scripts/flatness

bench: ## Measures us beside Restate, DBOS and Temporal, on an otherwise idle machine (half an hour)
	@scripts/bench

bench-quick: ## Measures us and the floor, about a minute
	@scripts/bench --mode quick

bench-micro: ## Measures the core's parts (criterion) and allocations of a step
	@scripts/bench-micro

bench-archive: ## Measures the archive with a million events (a quarter of an hour)
	@scripts/bench-archive

test: ## Runs every test, set-up included
	@scripts/test

lint: ## Checks formatting, lints, protos, types and generated code
	@scripts/lint

format: ## Formats Rust, protos and TypeScript in place
	@scripts/format
