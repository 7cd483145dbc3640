import math
import subprocess
import sys

import pytest

from stepzero import theory


def test_the_gain_of_relu_is_the_square_root_of_two(cli):
    ran = cli("gain", "relu", "--json")
    assert ran.code == 0
    assert ran.data["gain"] == pytest.approx(math.sqrt(2), abs=1e-12)
    assert ran.data["stability"]["verdict"] == "marginal"


def test_a_setting_is_handed_on(cli):
    assert cli("gain", "leaky_relu", "0.2", "--json").data["gain"] == theory.gain("leaky_relu", 0.2)


def test_the_table_shows_both_gains_and_what_they_mean_for_depth(cli):
    ran = cli("gain", "gelu")
    assert f"{theory.gain('gelu'):.8g}" in ran.out
    assert "gradient_gain" in ran.out
    assert "Stability: unstable" in ran.out
    assert ran.err == ""


def test_an_unknown_activation_is_misuse_with_the_nearest_names(cli):
    ran = cli("gain", "gellu")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("stepzero: no activation is called 'gellu'. Did you mean gelu")


def test_no_framework_is_loaded_for_a_number():
    program = (
        "import sys; from stepzero.cli import main; code = main(['gain', 'gelu', '--json']);"
        "sys.exit(code or bool({'torch', 'jax', 'numba', 'rich'} & sys.modules.keys()) * 9)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
