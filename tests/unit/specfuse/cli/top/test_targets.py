"""What the options of `specfuse top` may say."""

from __future__ import annotations

import pytest

from fuser_service.settings.settings import Settings as FuserSettings
from model_service.settings import Settings as ModelSettings
from specfuse.cli.top.targets import Target, targets_of
from specfuse.errors import InvalidArgument


def test_addresses_are_watched_in_their_order():
    assert targets_of(["f-0:9090", "[::1]:9090"], ["a=m-0:9091", "m-1:9091"]) == (
        Target("fuser", "f-0:9090"),
        Target("fuser", "[::1]:9090"),
        Target("model", "m-0:9091", "a"),
        Target("model", "m-1:9091"),
    )


def test_without_addresses_they_are_those_of_services_with_default_settings():
    fuser, model = targets_of([], [])
    assert fuser.address == FuserSettings.model_fields["metrics_listen"].default
    assert model.address == ModelSettings.model_fields["metrics_listen"].default
    assert (fuser.optional, model.optional) == (False, True)


def test_a_model_alone_is_watched_alone():
    assert targets_of([], ["m:1"]) == (Target("model", "m:1"),)


def test_the_url_that_up_shows_will_do():
    assert targets_of(["http://127.0.0.1:1/metrics"], []) == (Target("fuser", "127.0.0.1:1"),)


@pytest.mark.parametrize(
    ("fusers", "models", "says"),
    [
        (["localhost"], [], "--fuser: 'localhost' is not the host:port of a metrics endpoint"),
        (["localhost:0"], [], "--fuser: 'localhost:0' is not"),
        (["localhost:65536"], [], "--fuser: 'localhost:65536' is not"),
        (["https://f:1/metrics"], [], "--fuser: 'https://f:1/metrics' is not"),
        ([""], [], "--fuser: '' is not"),
        ([], ["a="], "--model: '' is not"),
        ([], ["=m:1"], "--model: '=m:1' has no name"),
        (["f:1"], ["a=f:1"], "--model: f:1 is given twice"),
    ],
)
def test_what_is_no_address_is_named(fusers, models, says):
    with pytest.raises(InvalidArgument) as caught:
        targets_of(fusers, models)
    assert caught.value.message.startswith(says)
