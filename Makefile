# The commands of this checkout. Two are for everybody: `make quickstart` and `make test`; both install what they
# need (Debian packages as root, a virtual environment with pinned versions) and are quick once that is done.
# `make help` lists all of them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules
.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The distribution's own interpreter: the packages python3-lxc and python3-apt belong to it. The first python3 on
# PATH may be another one, so nothing here looks there.
DISTRIBUTION_PYTHON := /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
BUILD := .build
COLLECTIONS := $(BUILD)/ansible_collections
CHECKOUT := $(COLLECTIONS)/tandem/machines
PEERS := $(BUILD)/peers
SSHD := $(BUILD)/openssh-server/usr/sbin/sshd

export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
PLAYBOOK := $(BIN)/ansible-playbook
PYTEST := $(BIN)/python -m pytest
RUN := PYTHONPATH=$(BUILD) $(BIN)/python -m

QUICKSTART_PACKAGES := python3 python3-venv
TEST_PACKAGES := $(QUICKSTART_PACKAGES) git libwrap0 openssh-client shellcheck udhcpc

# $(call install,PACKAGES): installs those that are missing; asks the package index only then.
define install
missing=$$(comm -23 <(printf '%s\n' $(1) | sort -u) \
  <(dpkg-query --show --showformat '$${db:Status-Status} $${Package}\n' $(1) 2>/dev/null \
    | sed -n 's/^installed //p' | sort -u)); \
if [ -n "$$missing" ]; then \
  apt-get -qq -o Dpkg::Use-Pty=0 update; \
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 --yes --no-install-recommends install $$missing; \
fi
endef

.PHONY: help
help: ## Show these lines
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 24

# --- What a user runs -------------------------------------------------------------------------------------------

.PHONY: quickstart quickstart-clean
quickstart: ansible ## Turn this machine into a host with a container and a VM made from one image
	@$(PLAYBOOK) playbooks/quickstart.yml

quickstart-clean: ansible ## Remove all of that again; installed packages stay
	@$(PLAYBOOK) playbooks/teardown.yml

# --- What a developer runs --------------------------------------------------------------------------------------

.PHONY: test lint types unit sanity integration bench torture generate
test: lint types unit sanity integration ## Run all five kinds of tests below

lint: tools ## Style: ruff, yamllint, ansible-lint, changelog fragments
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/yamllint --strict .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint --offline --strict -q
	$(BIN)/antsibull-changelog lint

types: tools ## Types: mypy, strict
	$(BIN)/mypy

unit: tools ## Unit tests: neither root nor a host needed
	$(PYTEST) tests/unit

sanity: tools ## ansible-test sanity on a copy of the tracked files
	$(BIN)/python tests/sanity/run.py

integration: tools ## Real containers and VMs on this machine; as root
	$(PYTEST) tests/integration -m "not torture"

# Variables for `make bench`: JSON=FILE and PAGE=docs/performance.md write what it found, TOPICS limits it.
bench: tools $(PEERS)/stamp ## Compare with the same work done by hand and by LXD; as root, 20 minutes
	$(RUN) ansible_collections.tandem.machines.tests.bench.bench \
	  $(if $(JSON),--json $(JSON)) $(if $(PAGE),--page $(PAGE)) $(TOPICS)

torture: tools ## Integration tests that take minutes: killed at many moments, what is slow in emulation; as root
	TANDEM_MOMENTS=$${TANDEM_MOMENTS:-12} $(PYTEST) tests/integration -m "torture or moments"

generate: tools ## Rewrite the files that are generated from other files
	$(RUN) ansible_collections.tandem.machines.tools.generate

# --- What they need ---------------------------------------------------------------------------------------------

.PHONY: ansible tools clean quickstart-packages test-packages
ansible: quickstart-packages $(VENV)/ansible.stamp $(CHECKOUT)
tools: test-packages $(VENV)/tools.stamp $(CHECKOUT) $(SSHD)

quickstart-packages:
	@$(call install,$(QUICKSTART_PACKAGES))

test-packages:
	@$(call install,$(TEST_PACKAGES))

$(BIN)/python: | quickstart-packages
	$(DISTRIBUTION_PYTHON) -m venv $(VENV)

$(VENV)/%.stamp: tests/requirements/%.txt tests/requirements/ansible.txt | $(BIN)/python
	$(BIN)/python -m pip -qq --disable-pip-version-check install --requirement $<
	touch $@

# Apart from ours: a hundred other collections come along.
$(PEERS)/stamp: tests/requirements/peers.txt tests/requirements/ansible.txt | $(BIN)/python
	$(DISTRIBUTION_PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip -qq --disable-pip-version-check install --requirement $<
	touch $@

# Ansible and the tests know a collection by its place below ansible_collections.
$(CHECKOUT):
	mkdir -p $(@D)
	ln -sfn ../../.. $@

# Unpacked, not installed: the package would start a server that listens on all addresses.
$(SSHD):
	rm -rf $(BUILD)/openssh-server
	mkdir -p $(BUILD)/openssh-server
	cd $(BUILD)/openssh-server && apt-get -qq -o APT::Sandbox::User=root download openssh-server
	dpkg --extract $(BUILD)/openssh-server/openssh-server_*.deb $(BUILD)/openssh-server
	touch $@

clean: ## Remove the virtual environment and everything built
	rm -rf $(VENV) $(BUILD)
