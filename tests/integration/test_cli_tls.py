"""`specfuse ask` and `specfuse eval` of a fuser behind TLS."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from specfuse.cli.app import main
from specfuse.rpc.tls import TlsFiles
from specfuse.v1 import fuser_service_pb2 as pb
from tests.support.certificates import OPENSSL, Authority
from tests.support.fuser_door import ScriptedFuser, finished, open_door, script, segment, started

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="needs the openssl program")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def mutual(authority: Authority) -> TlsFiles:
    """A fuser's files; it asks its callers for a certificate."""
    fuser = authority.issue("fuser")
    return TlsFiles(fuser.certificate, fuser.key, authority.certificate)


async def ask(tls: TlsFiles, *options: str) -> int:
    """Asks a fuser with these files; returns the exit code."""
    fuser = ScriptedFuser(generate=script(started("ada"), segment(1, "Yes."), finished()))
    async with open_door(fuser, tls=tls) as door:
        arguments = ["ask", "--timeout", "5", "--address", door.address, *options, "?"]
        return await asyncio.to_thread(main, arguments)


async def test_the_authority_is_enough_where_callers_are_not_known(
    authority: Authority, mutual: TlsFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    one_sided = TlsFiles(mutual.certificate, mutual.key)
    assert await ask(one_sided, "--tls-ca", str(authority.certificate)) == 0
    assert capsys.readouterr().out == "Yes.\n"


async def test_a_certificate_and_its_key_make_the_caller_known(
    authority: Authority, mutual: TlsFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    caller = authority.issue("caller")
    identity = ("--tls-cert", str(caller.certificate), "--tls-key", str(caller.key))
    assert await ask(mutual, "--tls-ca", str(authority.certificate), *identity) == 0
    assert capsys.readouterr().out == "Yes.\n"


async def test_who_is_not_trusted_is_not_asked(
    mutual: TlsFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = Authority.create(tmp_path, "stranger")
    one_sided = TlsFiles(mutual.certificate, mutual.key)
    assert await ask(one_sided, "--tls-ca", str(stranger.certificate)) == 1
    assert await ask(one_sided) == 1
    assert capsys.readouterr().out == ""


async def test_an_evaluation_is_known_by_its_certificate_too(
    authority: Authority, mutual: TlsFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def list_ensembles(*_: object) -> pb.ListEnsemblesResponse:
        return pb.ListEnsemblesResponse(ensembles=[pb.Ensemble(name="duo", members=["ada", "bob"])])

    suite = tmp_path / "suite.jsonl"
    suite.write_text('{"prompt": "?", "answer": "Yes."}\n')
    caller = authority.issue("evaluation")
    generate = script(started("ada", "bob"), segment(1, "Yes."), finished())
    async with open_door(ScriptedFuser(generate, list_ensembles), tls=mutual) as door:
        arguments = ["eval", "--address", door.address, "--suite", str(suite), "--json"]
        trusting = ["--tls-ca", str(authority.certificate)]
        identity = ["--tls-cert", str(caller.certificate), "--tls-key", str(caller.key)]
        assert await asyncio.to_thread(main, [*arguments, *trusting]) == 1
        assert capsys.readouterr().out == ""
        assert await asyncio.to_thread(main, [*arguments, *trusting, *identity]) == 0
    assert json.loads(capsys.readouterr().out)["fused"]["duo"]["exact"] == 1.0


def test_files_that_are_wrong_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "missing.pem")
    for options, says in (
        (("--tls-ca", missing), f"tls.ca {missing}: cannot be read"),
        (("--tls-cert", missing), "--tls-key: is missing; it goes together with --tls-cert"),
        (("--tls-key", missing), "--tls-cert: is missing; it goes together with --tls-key"),
    ):
        assert main(["ask", *options, "?"]) == 2
        assert says in capsys.readouterr().err
