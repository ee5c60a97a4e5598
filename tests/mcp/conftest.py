"""Fixtures: a service for the single user of a machine, and one with keys of two tenants."""

import pytest
from serving import OPERATOR_KEY, Service


@pytest.fixture(scope="session")
def service(tmp_path_factory):
    """A service that asks nobody who they are; tests share it, and keep to timers of their own."""
    with Service(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture
def own_service(tmp_path):
    """A service of one test, which may restart it."""
    with Service(tmp_path / "service") as running:
        yield running


@pytest.fixture(scope="session")
def guarded(tmp_path_factory):
    """A service with an identity provider, and a key for each of two tenants."""
    directory = tmp_path_factory.mktemp("guarded")
    (directory / "keys.json").write_text('{"keys": []}')
    (directory / "access.toml").write_text(
        '[auth]\nmode = "required"\n[[auth.issuers]]\nissuer = "https://id.example"\naudience = ["minoots"]\n'
        f'jwks_file = "{directory / "keys.json"}"\ntenant = "acme"\nrole = "viewer"\n'
    )
    with Service(
        directory / "data", "--config", str(directory / "access.toml"), MINOOTS_BOOTSTRAP_KEY=OPERATOR_KEY
    ) as running:
        running.key = OPERATOR_KEY
        running.keys = {tenant: running.new_key(tenant) for tenant in ("one", "two")}
        yield running
