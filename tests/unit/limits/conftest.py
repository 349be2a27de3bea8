"""Limits that nothing has been taken of yet."""

import pytest

from shared.limits import admission


@pytest.fixture(autouse=True)
def _no_address_is_known(monkeypatch):
    monkeypatch.setattr(admission, "_clean", admission._CleanNetworks())
