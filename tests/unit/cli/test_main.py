"""The command line: exit codes, one line on stderr, what the commands write."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dsrl.checkpoints.weights import load_weights, save_weights
from dsrl.cli.main import build_parser, main

COMMANDS = sorted(build_parser()._subparsers._group_actions[0].choices)  # type: ignore[union-attr]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def one_line(text: str) -> bool:
    return text.endswith("\n") and text.count("\n") == 1


def test_the_commands_are_known():
    assert {"demo-data", "unpack", "preprocess", "train", "prune-weights", "benchmark"} <= {
        *COMMANDS
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(dsrl, command):
    code, out, err = dsrl(command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: dsrl {command}") and "--debug" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_is_wrong_usage(dsrl, command):
    code, out, err = dsrl(command, "--no-such-option")
    assert (code, out) == (2, "") and one_line(err) and err.startswith("dsrl")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "COMMAND"),
        (("no-such-command",), "no-such-command"),
        (("train", "--data", "d"), "--stage"),
        (("resume-train",), "--checkpoint"),
        (("test", "--weights", "a"), "--image-file"),
    ],
)
def test_what_is_missing_or_unknown_is_wrong_usage(dsrl, tmp_path, arguments, named):
    code, out, err = dsrl(*arguments)
    assert (code, out) == (2, "") and one_line(err) and named in err
    assert "--help" in err
    assert list(tmp_path.iterdir()) == []


def test_exit_code_and_line_of_a_real_process(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "dsrl", "unpack", "no.zip", "--output", "x"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert one_line(done.stderr) and "no.zip" in done.stderr


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(OSError, match=r"no\.zip"):
        main(["unpack", "no.zip", "--output", str(tmp_path / "x"), "--debug"])


def test_weights_are_pruned(dsrl, make_weights, tmp_path):
    save_weights(tmp_path / "full.weights", make_weights(3))
    arguments = ("--src-weights", "full.weights", "--dest-weights", "out/pruned.weights")
    assert dsrl("prune-weights", *arguments) == (0, "", "")
    assert (
        load_weights(tmp_path / "out/pruned.weights").layers.keys() == make_weights(1).layers.keys()
    )


def test_options_override_the_config_for_the_stage(dsrl, prepared, tiny_settings, tmp_path):
    config = tiny_settings(stages={1: {"epochs": 5}}).model_dump_json()
    code, out, err = dsrl(
        *("train", "--stage", 1, "--data", prepared, "--config", config, "--output", "stage1"),
        *("--epochs", 1, "--decoder-channels", 8, "--seed", 4, "--no-freeze-batch-norm"),
    )
    assert (code, out) == (0, ""), err
    info = load_weights(tmp_path / "stage1" / "final.weights").info
    assert info.model.decoder_channels == 8 and info.epoch == 1
    assert (tmp_path / "stage1" / "history.csv").read_text().count("\n") == 2


def test_a_benchmark_is_printed_and_written(dsrl, prepared, trained, tmp_path):
    threads = torch.get_num_threads()
    weights = trained[2] / "final.weights"
    arguments = ("--weights", weights, "--data", prepared, "--latency-runs", 1, "--device", "cpu")
    code, out, err = dsrl("benchmark", *arguments, "--output", "b/benchmark.txt")
    assert (code, err) == (0, "")
    assert out == (tmp_path / "b" / "benchmark.txt").read_text()
    assert "SSSR+SISR" in out and (tmp_path / "b" / "benchmark.csv").is_file()
    assert torch.get_num_threads() <= threads


def test_a_reader_that_has_seen_enough_is_no_failure_to_tell(make_weights, tmp_path):
    save_weights(tmp_path / "a.weights", make_weights(3))
    line = [
        sys.executable,
        "-m",
        "dsrl",
        "inspect-checkpoint",
        "--json",
        "--checkpoint",
        "a.weights",
    ]
    with subprocess.Popen(
        line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        running.stdout.read(1)
        running.stdout.close()
        assert running.stderr.read() == b""


@pytest.mark.parametrize("module", ["matplotlib", "tensorboard"])
def test_a_missing_extra_is_named_with_the_call_that_installs_it(
    dsrl, tmp_path, monkeypatch, module
):
    monkeypatch.setitem(sys.modules, module, None)
    error = ModuleNotFoundError(f"No module named '{module}'", name=module)
    monkeypatch.setattr(
        "dsrl.evaluation.table.read_scores", lambda path: (_ for _ in ()).throw(error)
    )
    code, _, err = dsrl("table", str(tmp_path / "a.csv"), "--output", str(tmp_path / "b.txt"))
    assert code == 1
    assert err == f"dsrl table: {module} is not installed; run `pip install 'dsrl[train]'`\n"
