"""`specfuse eval` on scripted models: what it measures, how it is interrupted, and goes on."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from specfuse.cli.up import DEMO_MESH
from specfuse.demo.experts import EXPERTS
from specfuse.families.directory import DESCRIPTION
from specfuse.families.invention import invent
from specfuse.families.registry import SEEDS, Purpose, shipped
from tests.support.command import COMMAND, running_mesh, specfuse
from tests.support.scripted_mesh import ANSWER, QUESTION, SLOWLY, mesh_of, write_mesh

MEMBERS = ("alpha", "beta")


@pytest.fixture
def mesh_file(tmp_path: Path) -> Path:
    return write_mesh(tmp_path, mesh_of(*MEMBERS))


def suite_file(directory: Path, *prompts: str) -> str:
    lines = [{"prompt": prompt, "answer": ANSWER} for prompt in prompts]
    file = directory / "suite.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return str(file)


def records_in(out: Path) -> list[dict[str, Any]]:
    """The answers in a results file that may be being written."""
    if not out.exists():
        return []
    lines = out.read_text().split("\n")[:-1]
    return [record for line in lines if "case" in (record := json.loads(line))]


def test_everybody_is_asked_everything(mesh_file: Path, tmp_path: Path) -> None:
    suite = suite_file(tmp_path, QUESTION, f"Again: {QUESTION}")
    out = str(tmp_path / "results.jsonl")
    arguments = ("eval", "--mesh", str(mesh_file), "--suite", suite, "--out", out)
    done = specfuse(*arguments, "--json", "--plot", str(tmp_path / "charts"))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {*report["single"]} == {*MEMBERS}
    assert {*report["fused"]} == {
        "default",
        "no-exit",
        "specfuse-paper",
        "specem-paper",
        "segments",
    }
    for one in (*report["single"].values(), report["best_response"], *report["fused"].values()):
        assert (one["answered"], one["exact"], one["members_lost"]) == (2, 1.0, 0)
    assert sorted(file.name for file in (tmp_path / "charts").iterdir()) == [
        "evaluation-active.png",
        "evaluation-quality.png",
        "evaluation.md",
    ]
    again = specfuse(*arguments, "--json")
    assert json.loads(again.stdout) == report
    assert "ready" not in again.stderr
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 1 + 8 + 2 * 8
    shorter = specfuse(*arguments, "--max-tokens", "3")
    assert (shorter.returncode, shorter.stdout) == (2, "")
    assert f"--out {out}: has answers of alpha under other settings" in shorter.stderr


def test_one_who_knows_the_answer_chooses_among_members_segments(
    mesh_file: Path, tmp_path: Path
) -> None:
    suite = suite_file(tmp_path, QUESTION)
    arguments = ("eval", "--mesh", str(mesh_file), "--suite", suite, "--config", "default")
    report = json.loads(specfuse(*arguments, "--oracle", "--json").stdout)
    assert {name: one["exact"] for name, one in report["oracle"].items()} == {
        "10 tokens": 1.0,
        "3 tokens": 1.0,
    }
    assert report["oracle"]["3 tokens"]["calls_made"] > report["oracle"]["10 tokens"]["calls_made"]


def test_settings_of_ones_own_are_compared_with_the_default(
    mesh_file: Path, tmp_path: Path
) -> None:
    suite = suite_file(tmp_path, QUESTION)
    arguments = ("eval", "--mesh", str(mesh_file), "--suite", suite, "--json")
    arguments = (*arguments, "--try", "one=members: [alpha]", "--try", "few={segment_tokens: 1}")
    report = json.loads(specfuse(*arguments).stdout)
    assert (report["single"], {*report["fused"]}) == ({}, {"default", "one", "few"})
    assert report["fused"]["few"]["mean_rounds"] > report["fused"]["default"]["mean_rounds"]
    assert report["fused"]["one"]["wins"].keys() == {"alpha"}
    chosen = json.loads(specfuse(*arguments, "--config", "segments").stdout)
    assert {*chosen["fused"]} == {"segments", "one", "few"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models:\n  alpha:\n    scripted: {lines: []}\n", ":3: models.alpha.scripted.lines: must"),
        ("models: {alpha: {torch: {model: x}}}\nfuser: {zzz: 1}\n", ":2: fuser.zzz: unknown key"),
        ("models: []\n", ": models: must be a mapping of at least one model, by name"),
        ("- models\n", ": must be a mapping of settings"),
        ("a: &a [*a]\n", ": more than"),
        ("models: !!python/name:os.system\n", ":1: tags are not taken"),
    ],
)
def test_a_wrong_mesh_file_is_told_of_by_its_own_name(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    done = specfuse("eval", "--mesh", str(file), "--out", str(tmp_path / "results.jsonl"))
    assert done.returncode == 2
    assert f"specfuse: {file}" in done.stderr
    assert says in done.stderr
    assert "specfuse-eval-" not in done.stderr


def test_interrupted_it_says_how_to_go_on_and_does(mesh_file: Path, tmp_path: Path) -> None:
    suite = suite_file(tmp_path, QUESTION, *(f"{SLOWLY}{n}" for n in range(40)))
    out = tmp_path / "results.jsonl"
    arguments = ("eval", "--mesh", str(mesh_file), "--suite", suite, "--out", str(out))
    arguments = (*arguments, "--config", "default", "--concurrency", "1")
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            while not any(record["system"]["kind"] == "fused" for record in records_in(out)):
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "fused: default" in stdout, "what there is so far is shown"
    assert f"{len(records_in(out))} answers are kept in {out}" in stderr
    assert f"to go on: specfuse eval --mesh {mesh_file}" in stderr
    done = specfuse(*arguments, "--questions", "1", "--json")
    assert json.loads(done.stdout)["fused"]["default"]["exact"] == 1.0


def test_over_a_running_mesh(tmp_path: Path) -> None:
    mesh = mesh_of(*MEMBERS)
    mesh["fuser"]["ensembles"] |= {name: {"members": [name]} for name in MEMBERS}
    suite = suite_file(tmp_path, QUESTION)
    with running_mesh(str(write_mesh(tmp_path, mesh))) as running:
        judges = [f"{name}={running.models[name].address}" for name in MEMBERS]
        ours = ("eval", "--address", running.address, "--suite", suite, "--json")
        bare = json.loads(specfuse(*ours).stdout)
        assert ({*bare["single"]}, {*bare["fused"]}) == ({*MEMBERS}, {"all"})
        assert bare["best_response"] is None
        judged = specfuse(*ours, "--member", judges[0], "--member", judges[1])
        assert json.loads(judged.stdout)["best_response"]["exact"] == 1.0
        for options, problem in (
            (("--member", judges[0]), "--member: whole responses need"),
            (("--config", "none"), "--config: there is no ensemble 'none'; there are all, alpha"),
        ):
            done = specfuse(*ours, *options)
            assert (done.returncode, done.stdout) == (2, "")
            assert problem in done.stderr


def test_questions_that_fail_are_counted_and_asked_again(mesh_file: Path, tmp_path: Path) -> None:
    mesh = mesh_of(*MEMBERS)
    for model in mesh["models"].values():
        model["scripted"]["lines"].insert(0, {"when": "no", "fails": "model_failure"})
    file = write_mesh(tmp_path, mesh)
    suite = suite_file(tmp_path, QUESTION, "no", f"{QUESTION} ")
    out = tmp_path / "results.jsonl"
    arguments = ("eval", "--mesh", str(file), "--suite", suite, "--out", str(out))
    for _ in range(2):
        done = specfuse(*arguments, "--config", "default", "--concurrency", "1", "--json")
        assert done.returncode == 1
        assert "3 questions failed" in done.stderr
        assert json.loads(done.stdout)["fused"]["default"]["answered"] == 2


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--suite", "missing.jsonl"), "missing.jsonl: cannot be read"),
        (("--address", "127.0.0.1:1", "--ablate"), "--address: excludes --mesh, --ablate and --t"),
        (("--address", "127.0.0.1:1", "--try", "a=quorum: 2"), "--address: excludes --mesh, --ab"),
        (("--try", "stretch: 4"), "--try: 'stretch: 4' is not like longer='stretch: 4'"),
        (("--try", "a="), "--try: 'a=' is not like"),
        (("--try", "a=quorum: 2", "--try", "a=quorum: 1"), "--try: a is given twice"),
        (("--try", "a=strech: 4"), "--try a:1: strech: unknown key; did you mean stretch?"),
        (("--try", "a=stretch: much"), "--try a:1: stretch: 'much': must be a whole number"),
        (("--try", "a=[4]"), "--try a: must be a mapping of settings"),
        (("--try", "a b=quorum: 2"), "--try: 'a b' is no name: take letters, digits, . _ and -"),
        (("--try", "a=members: [nobody]"), "--try: a: there is no member nobody; there are c"),
        (("--try", "default=quorum: 2"), "--try: there is a default already; name it otherwise"),
        (("--member", "a=127.0.0.1:1"), "--member: a started mesh knows its members"),
        (("--address", "127.0.0.1:1", "--member", "a"), "--member: 'a' is not like"),
        (("--tls-ca", "ca.pem"), "--address: is missing; a started mesh speaks no TLS"),
        (("--config", "best"), "--config: there is no 'best'; there are default, no-exit"),
        (("--questions", "0"), "--questions"),
        (("--address", "127.0.0.1:1", "--oracle"), "--member: is missing; --oracle asks"),
        (("--family", "nowhere"), "--family nowhere: neither a directory with a family.json nor"),
        (("--family", "x", "--suite", "y"), "--family: has its own questions and experts"),
        (("--plot", "/proc/charts"), "--plot /proc/charts: cannot be written"),
    ],
)
def test_what_makes_no_sense(arguments: tuple[str, ...], problem: str) -> None:
    done = specfuse("eval", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert problem in done.stderr


def test_nobody_at_the_address() -> None:
    done = specfuse("eval", "--address", "127.0.0.1:1", "--questions", "1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "127.0.0.1:1" in done.stderr


# --- the shipped experts --------------------------------------------------------------------------

QUESTIONS = 20
EXPERTS_PATIENCE_SECONDS = 900


def measured(mesh: Path) -> dict[str, Any]:
    """How the default does on the demo's questions, asked of the mesh in the file."""
    arguments = ("eval", "--mesh", str(mesh), "--config", "default", "--json")
    done = subprocess.run(
        [*COMMAND, *arguments, "--questions", str(QUESTIONS)],
        capture_output=True,
        text=True,
        timeout=EXPERTS_PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def with_random_weights(expert: Path, directory: Path) -> Path:
    """A model made as the expert is, that has learnt nothing."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    shutil.copytree(expert, directory)
    torch.manual_seed(0)
    config = transformers.AutoConfig.from_pretrained(expert)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    return directory


@pytest.mark.slow
@pytest.mark.timeout(2 * EXPERTS_PATIENCE_SECONDS)
@pytest.mark.skipif(
    not all(expert.path.is_dir() for expert in EXPERTS), reason="the experts are not there"
)
def test_a_sixth_member_of_random_weights_costs_nothing(tmp_path: Path) -> None:
    noise = with_random_weights(EXPERTS[0].path, tmp_path / "noise")
    models = {
        name: {"torch": {"model": str(path), "local_files_only": True, "threads": 1}}
        for name, path in [("noise", noise), *((e.name, e.path) for e in EXPERTS)]
    }
    report = measured(write_mesh(tmp_path, {"models": models, "fuser": {}}))
    fused, wins = report["fused"]["default"], report["fused"]["default"]["wins"]
    assert fused["exact"] >= measured(DEMO_MESH)["fused"]["default"]["exact"] - 0.01
    assert "noise" not in wins


# --- the shipped families -------------------------------------------------------------------------

ONE_OF_EACH_KIND = 17


@pytest.mark.slow
@pytest.mark.timeout(EXPERTS_PATIENCE_SECONDS)
@pytest.mark.parametrize("name", shipped())
def test_a_shipped_family_is_asked_by_kind(name: str) -> None:
    pytest.importorskip("torch")
    arguments = ("eval", "--family", name, "--questions", str(ONE_OF_EACH_KIND), "--oracle")
    done = subprocess.run(
        [*COMMAND, *arguments, "--config", "default", "--json"],
        capture_output=True,
        text=True,
        timeout=EXPERTS_PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    by_system: dict[str, list[dict[str, Any]]] = {}
    for row in report["kinds"]:
        by_system.setdefault(row["system"]["name"], []).append(row)
    assert {*by_system} == {*report["single"], "best_response", "default", "10 tokens", "3 tokens"}
    for rows in by_system.values():
        assert len(rows) == ONE_OF_EACH_KIND
    for row in by_system["3 tokens"]:
        assert row["invents"] == 0, "what is right is no invention"
    fused = report["fused"]["default"]["exact"]
    best = max(oracle["exact"] for oracle in report["oracle"].values())
    assert best >= fused - 1 / ONE_OF_EACH_KIND, "no choice is better than the best"
    for name_of_member, alone in report["single"].items():
        assert alone["exact"] < best, f"{name_of_member} is no match for all of them"


@pytest.mark.parametrize("how", [("--ablate",), ("--try", "longer=stretch: 4")])
def test_nothing_is_chosen_by_a_family_for_reporting(tmp_path: Path, how: tuple[str, ...]) -> None:
    family = invent(min(SEEDS[Purpose.REPORTING]))
    (tmp_path / DESCRIPTION).write_bytes(family.to_json())
    done = specfuse("eval", "--family", str(tmp_path), *how, "--plot", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{how[0]}: is for choosing, and {family.name} for reporting" in done.stderr


def test_a_family_without_a_name_is_not_taken_for_none() -> None:
    done = specfuse("eval", "--family", "")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--family '': neither a directory" in done.stderr


def test_a_family_is_listed_and_reported(tmp_path: Path) -> None:
    listed = specfuse("eval", "families", "list")
    for name in shipped():
        assert name in listed.stdout
    wrong: dict[str, object] = {"suite": "dune-103@0", "seed": 1}
    (tmp_path / "wrong.json").write_text("{}")
    (tmp_path / "none.json").write_text(json.dumps(wrong | {"kinds": []}))
    row = {"kind": "one", "parts": 1, "exact": 1, "invents": 0, "asked": 1}
    system = {"kind": "unheard of", "name": "x"}
    (tmp_path / "odd.json").write_text(json.dumps(wrong | {"kinds": [row | {"system": system}]}))
    for file in ("wrong.json", "none.json", "odd.json", "missing.json"):
        done = specfuse("eval", "families", "report", str(tmp_path / file))
        assert (done.returncode, done.stdout) == (2, "")
        assert file in done.stderr
