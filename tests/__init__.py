"""Tests: fast ones (unit, contract_vectors, properties) need no node; regtest and deploy are run by `make test`."""
