"""Several processes against one: DistributedDataParallel, fully_shard, m-SAM, infinities, a kill."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ONE_STEP

from rst_theory.schedules import Constant
from rst_theory.trials import Trials

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")

WORKER = Path(__file__).with_name("distributed_worker.py")
SINGLE = 1e-6
"""Relative: a run in float32 on several processes and on one, which add in another order."""


class Outcome(NamedTuple):
    """What the processes of a program wrote, and how they ended.

    Attributes:
        ranks: for each process that lived, the results of its checks by name.
        ends: exit codes.
    """

    ranks: list[dict]
    ends: list[int]

    def of(self, kind):
        """The results of the checks of a kind: (name, result of each rank)."""
        names = [name for name in self.ranks[0] if name == kind or name.startswith(f"{kind}: ")]
        assert names, f"no check {kind!r}"
        for name in names:
            errors = [rank[name]["error"] for rank in self.ranks if "error" in rank[name]]
            assert not errors, f"{name}\n{errors[0]}"
            yield name, [rank[name]["result"] for rank in self.ranks]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """All programs of the worker, run once."""
    folder = tmp_path_factory.mktemp("distributed")
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(WORKER), str(folder)],
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = {}
    for program in ("killed", "two", "four"):
        ends = json.loads((folder / f"{program}.json").read_text())
        files = [folder / f"{program}.{rank}.json" for rank in range(len(ends))]
        said[program] = Outcome([json.loads(f.read_text()) for f in files if f.exists()], ends)
    return said


@pytest.fixture(scope="module")
def two(outcomes):
    assert outcomes["two"].ends == [0] * 2
    return outcomes["two"]


@pytest.fixture(scope="module", params=["two", "four"])
def program(outcomes, request):
    """The processes that ended well, two and four of them."""
    outcome = outcomes[request.param]
    assert outcome.ends == [0] * len(outcome.ends)
    assert len(outcome.ends) == {"two": 2, "four": 4}[request.param]
    return outcome


def require_equal_to_one_process(program, kind, at_least):
    checked = 0
    for name, ranks in program.of(kind):
        for result in ranks:
            assert result["difference"] <= (SINGLE if "float32" in name else ONE_STEP), name
            assert result["alike"], name
        checked += 1
    assert checked >= at_least


def test_every_rank_knows_the_trials_before_any_process_is_connected(program):
    expected = Trials(Constant(0.5).probabilities(50), 5).sequence().tolist()
    for _, ranks in program.of("trials"):
        for result in ranks:
            assert result == {"trials": expected, "connected": False}


# ---- DistributedDataParallel


def test_a_joined_run_equals_one_process_on_the_joined_minibatch(program):
    require_equal_to_one_process(program, "joined", at_least=5)


def test_runs_with_a_schedule_are_perturbed_where_the_trials_say(two):
    expected = int(Trials(Constant(0.5).probabilities(6), 3).sequence().sum())
    assert 0 < expected < 6
    for _, ranks in two.of("joined: RST, AdamW"):
        assert [result["perturbed"] for result in ranks] == [expected] * 2


def test_a_local_run_equals_a_plain_loop_over_the_ranks_own_gradients(program):
    require_equal_to_one_process(program, "local", at_least=4)


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_a_joined_perturbed_step_exchanges_two_gradients_and_nothing_else(two, gamma):
    for _, ranks in two.of(f"exchanges: joined, {gamma}"):
        for result in ranks:
            assert result["buckets"] == [result["parameters"]] * 2
            assert result["others"] == []


def test_a_local_perturbed_step_at_gamma_1_exchanges_one_gradient_and_one_number(two):
    for _, ranks in two.of("exchanges: local, 1.0"):
        for result in ranks:
            assert result["buckets"] == [result["parameters"]]
            assert result["others"] == [1]


def test_a_mixture_exchanges_the_mean_of_the_first_gradients_beside(two):
    for _, ranks in two.of("exchanges: local, 2.0"):
        for result in ranks:
            assert result["buckets"] == [result["parameters"]]
            assert result["others"] == [1, result["parameters"]]


@pytest.mark.parametrize(("kind", "synced"), [("joined", [True, True]), ("local", [False, True])])
def test_the_forward_of_a_local_pass_is_local_too(two, kind, synced):
    for gamma in (1.0, 2.0):
        for _, ranks in two.of(f"exchanges: {kind}, {gamma}"):
            assert [result["synced"] for result in ranks] == [synced] * 2


def test_running_statistics_are_counted_once_a_step(two):
    for name, ranks in two.of("statistics"):
        for result in ranks:
            assert result == {"equal": True, "moved": True, "counted": 6}, name


# ---- infinities


def test_an_infinity_on_one_rank_is_told_by_all_and_the_weights_stay(two):
    for kind in ("joined", "local"):
        for gamma in (1.0, 2.0):
            for name, ranks in two.of(f"infinite, told: {kind}, {gamma}"):
                for result in ranks:
                    (message,) = result["said"]
                    assert message.startswith("2: the length of the first gradient of step 2 is "), name
                    assert ("inf" in message) or ("nan" in message), name
                    assert result["untouched"] and result["alike"] and result["finite"], name
                    assert result["steps"] == 5, name


def test_an_infinity_on_one_rank_makes_the_scaler_skip_on_all(two):
    for kind in ("joined", "local"):
        for gamma in (1.0, 2.0):
            for name, ranks in two.of(f"infinite, skipped: {kind}, {gamma}"):
                for result in ranks:
                    assert result["said"] == [], name
                    assert result["untouched"] and result["alike"] and result["finite"], name
                    assert result["steps"] == 6 and result["scale"] == 2.0**7, name


def test_an_infinity_on_one_rank_of_a_sharded_model_concerns_all(two):
    for _, ranks in two.of("infinite, sharded"):
        for result in ranks:
            assert result["said"].startswith("the length of the first gradient of step 0 is ")
            assert result["untouched"] and result["steps"] == 0
    for _, ranks in two.of("infinite, sharded, scaler"):
        for result in ranks:
            assert result == {"said": "", "untouched": True, "scale": 2.0**7, "steps": 1}


def test_a_local_pass_is_refused_where_it_cannot_be(two):
    for _, ranks in two.of("refusals"):
        for said in ranks:
            assert "the DistributedDataParallel module" in said["no model"]
            assert "the DistributedDataParallel module" in said["plain model"]
            assert "these parameters are sharded" in said["sharded"]
            assert "static_graph=True" in said["static graph"]


# ---- fully_shard


def test_a_sharded_run_equals_one_process_on_the_joined_minibatch(program):
    require_equal_to_one_process(program, "sharded", at_least=5)


def test_shards_with_replicas_equal_one_process_too(outcomes):
    require_equal_to_one_process(outcomes["four"], "replicated", at_least=5)


def test_shards_move_for_the_second_pass_in_place_and_come_back_bit_for_bit(program):
    for name, ranks in program.of("sharded"):
        for result in ranks:
            assert result["still"] and result["home"] and result["away"], name


def test_a_rank_may_hold_nothing_of_a_parameter(outcomes):
    empty = [result["empty"] for _, ranks in outcomes["four"].of("sharded") for result in ranks]
    assert max(empty) > 0


def test_a_sharded_run_resumes_bit_for_bit_from_one_checkpoint_and_from_a_file_for_each_rank(two):
    for kind in ("resumed shards, together", "resumed shards, apart"):
        for name, ranks in two.of(kind):
            for result in ranks:
                assert result == {"equal": True, "taken": 3, "perturbed": 2}, name


def test_terms_of_a_gradient_on_several_ranks_are_summed_first(two):
    require_equal_to_one_process(two, "tensor parallel", at_least=2)
    for name, ranks in two.of("tensor parallel"):
        assert all(result["partial"] for result in ranks), name


# ---- a rank that is killed


def test_a_run_whose_rank_was_killed_resumes_bit_for_bit(outcomes):
    killed = outcomes["killed"]
    assert killed.ends == [0, -signal.SIGKILL]
    (survivor,) = killed.ranks
    assert "error" in survivor["killed"]
    ((_, resumed),) = outcomes["two"].of("resumed")
    ((_, uninterrupted),) = outcomes["two"].of("uninterrupted")
    for here, there in zip(resumed, uninterrupted, strict=True):
        assert (here["began"], there["began"]) == (6, 0)
        assert here["taken"] == there["taken"] == 10
        assert here["weights"] == there["weights"] == resumed[0]["weights"]
