"""Every promise of the project, what holds it, and where its figures are; `note` makes a page of them.

A new file of tests belongs to a promise here, old or new: tests/test_reliability.py holds that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from tests.campaigns.figures import (
    Figures,
    agreement,
    audit,
    coverage,
    fuzz,
    kills,
    left_behind,
    limits,
    mutants,
    one_step,
    pairs_spent,
    peers,
    power,
    same_numbers,
    set_up,
    stops,
    suite,
    survivors,
    targets,
    tightness,
    versions,
    whole_files,
)
from tests.campaigns.versions import ENVIRONMENTS, TESTS as TESTED

__all__ = ["SECTIONS", "Promise", "Section"]


class Promise(NamedTuple):
    """A promise.

    Attributes:
        words: what is promised.
        held: by what: a file of tests without `test_`, a test as file::test without both, or `make target`.
        figures: what the tables say of it.
        short: where it falls short of what was asked, beside what the tables say.
    """

    words: str
    held: tuple[str, ...]
    figures: Callable[[], Figures] | None = None
    short: str = ""


class Section(NamedTuple):
    """Promises of one theme: an anchor, a title, and the promises."""

    anchor: str
    title: str
    promises: tuple[Promise, ...]


def promise(words: str, *held: str, figures: Callable[[], Figures] | None = None, short: str = "") -> Promise:
    """One row."""
    return Promise(words, held, figures, short)


_CHOSEN_FILES = f"{len(TESTED)} quicker files of tests, not all"


def _environments(other_python: bool) -> list[str]:
    """Of the campaign over versions, by whether their Python is that of the first."""
    usual = ENVIRONMENTS[0].python
    return [each.name for each in ENVIRONMENTS if (each.python != usual) == other_python]


KIT = Section(
    "kit",
    "A kit for schedules and problems of one's own",
    (
        promise(
            "`check_schedule` holds a schedule of one's own to the whole contract (range, expression "
            "against values, mean, cost law against trials); each planted fault is found and called by its "
            "name",
            "testing::a_faulty_schedule_is_caught_and_its_broken_promise_named",
            "testing::a_single_faulty_schedule_is_told_at_its_least_number_of_steps",
            "testing::a_wrong_law_or_biased_coins_are_caught",
        ),
        promise(
            "`check_problem` does so for a problem: L, mu and f* against random points, the gradient "
            "against differences and complex steps, the noise",
            "testing::a_faulty_problem_is_caught_and_its_broken_promise_named",
            "testing::a_lower_bound_that_is_not_attained_is_no_fault",
            "testing::a_value_that_loses_digits_to_cancellation_passes",
        ),
        promise(
            "What is right passes: every family, preset and problem of the package, and right ones of a "
            "user's own",
            "testing::every_family_keeps_the_contract",
            "testing::every_preset_keeps_the_contract",
            "testing::every_problem_keeps_the_contract",
            "testing::a_right_schedule_of_a_users_own_passes_in_every_form",
            "testing::a_right_problem_of_a_users_own_passes",
        ),
        promise(
            "The smallest example that fails is told, in plain words",
            "testing::the_smallest_example_is_small_enough_to_check_in_the_head",
            "testing::points_are_told_as_simply_as_they_can_be",
        ),
        promise(
            "Its statistical checks fail falsely as rarely as they say, under every law, and find the "
            "defects that they say",
            "testing::false_alarms_are_as_rare_as_stated_under_every_law",
            "testing::the_stated_defects_are_found_with_probability_99_percent",
        ),
        promise(
            "Strategies draw every kind of schedule (composed ones too), step sizes, radii, problems with "
            "known constants and trials, their edges among them",
            "testing::every_kind_of_schedule_is_drawn",
            "testing::the_edges_are_drawn",
            "testing::sequences_are_of_all_three_kinds",
            "testing::every_registered_problem_has_a_strategy",
            "testing::trials_are_drawn",
        ),
        promise(
            "One line in a user's own test file is enough; the worked example, a schedule with a bug, is "
            "told as it happens",
            "testing::a_check_may_stand_inside_a_test_of_hypothesis",
            "testing::the_worked_example_is_as_it_is_told",
            "readme::example_runs_without_a_warning",
        ),
        promise(
            "What cannot be checked is said",
            "testing::what_cannot_be_checked_is_said",
            "testing::a_field_without_a_known_strategy_is_named",
            "testing::hypothesis_is_loaded_when_it_is_needed_and_missed_by_its_name",
        ),
    ),
)

TESTS = Section(
    "tests",
    "Tests that would catch us",
    (
        promise(
            "A new schedule, bound, problem, network or data set is tested by existing",
            "contracts",
            "problems",
        ),
        promise(
            "All statistical tests together fail falsely with probability at most 1e-6; their thresholds "
            "are computed, and of each the smallest defect that it finds with probability .99 is known",
            "power::all_false_alarms_together_are_those_of_the_suite",
            "power::every_use_of_a_threshold_is_in_the_ledger_and_nothing_else",
            "power::no_threshold_is_a_number_of_standard_errors_by_hand",
            "power::the_stated_defect_is_detected",
            figures=power,
        ),
        promise(
            "At least 95 % of the mutants of notation, method, schedules, trials, cost, bounds, allocation "
            "and optim are killed, messages, LaTeX and docstrings left out",
            "mutants::mutants_are_killed_survive_or_take_too_long",
            "mutants::what_is_read_by_people_and_type_checkers_is_left_out",
            "mutants::every_file_of_the_rooms_is_tried",
            "mutants::the_campaign_goes_on_where_it_was_stopped",
            "make mutants",
            figures=mutants,
        ),
        promise("Each survivor is listed with the reason", "make mutants", figures=survivors),
        promise(
            "The tests run at least 97 % of all lines and branches; what only a GPU runs is left out by name",
            "versions::what_the_tests_ran_is_summed_over_rooms",
            "make coverage",
            figures=coverage,
        ),
        promise(
            "Fuzzed a million times, no parser and no numeric function crashes, hangs, takes memory without "
            "bound or fails without a clear error",
            "fuzz::seeds_and_mutants_of_them_keep_every_promise",
            "fuzz::properties_hold_for_a_few_examples",
            "fuzz::a_refusal_must_name_what_it_refuses",
            "fuzz::what_takes_too_long_is_stopped_though_it_catches_every_error",
            "make fuzz",
            figures=fuzz,
        ),
        promise(
            "What fuzzing has found once is held by a test",
            "fuzz::what_was_found_once_is_not_there_again",
            "fuzz::a_finding_is_minimised_and_written_down_as_a_test",
        ),
        promise(
            "The tests pass on the oldest and newest NumPy (1.26 and later), SciPy and SymPy",
            "make versions",
            figures=partial(versions, *_environments(other_python=False)),
            short=_CHOSEN_FILES,
        ),
        promise(
            "The tests that need no torch pass on Python 3.12 and 3.13",
            "make versions",
            figures=partial(versions, *_environments(other_python=True)),
            short=_CHOSEN_FILES,
        ),
        promise(
            "Under all these versions the same numbers come out, to 1e-10",
            "versions::a_fingerprint_is_of_finite_numbers_each_with_a_name_of_its_own",
            "versions::numbers_that_differ_are_told_with_their_relative_difference",
            "make versions",
            figures=same_numbers,
        ),
        promise(
            "PyTorch 2.6 or later is enough",
            short="tested with one version alone, 2.13; the lower bound follows from the interfaces that "
            "are used",
        ),
        promise(
            "`make test` takes at most 10 minutes on two cores",
            "make test",
            "make fresh",
            figures=suite,
        ),
        promise(
            "What is too long for `make test` cannot rot: a short form of each campaign, or its parts, are "
            "tests",
            "kills::the_campaign_counts_what_it_did_and_goes_on",
            "limits::the_campaign_runs_cases_apart_keeps_them_and_writes_its_table",
            "fuzz::the_campaign_keeps_its_figures",
            "mutants::the_campaign_goes_on_where_it_was_stopped",
            "power::the_committed_table_is_the_ledger",
            "security::the_audit_says_what_it_found_and_when_its_service_is_out_of_reach",
            "versions",
        ),
        promise("Format, lint and types (mypy, strict) are clean", "make check"),
    ),
)

KILLS = Section(
    "kills",
    "Kills and interruptions",
    (
        promise(
            "A training that is killed at any moment ends, run again, bit for bit as one that was not",
            "kills::a_training_that_is_killed_again_and_again_ends_the_same",
            "training::an_interrupted_run_ends_with_the_same_weights_bit_for_bit",
            "training::a_checkpoint_in_the_middle_of_an_epoch_is_as_good",
            "training::an_interruption_between_the_last_checkpoint_and_the_record",
            "make faults",
            figures=partial(kills, "train"),
        ),
        promise(
            "A grid of simulations that is killed ends, run again, with the same bits",
            "grid::a_process_that_dies_while_it_writes_leaves_no_result",
            "grid::an_interrupt_returns_what_is_done_and_the_next_call_goes_on",
            "make faults",
            figures=partial(kills, "grid"),
        ),
        promise(
            "A report that is killed ends, run again, with the same bits; until then the old page stays",
            "make faults",
            figures=partial(kills, "report"),
        ),
        promise(
            "A pool of tasks that is killed, as the experiments run them, ends, run again, with the same "
            "bits",
            "kills::a_pool_goes_on_from_what_is_kept",
            "networks::kept_results_are_not_computed_again",
            "networks::a_finished_run_is_one_file_and_is_not_run_again",
            "make faults",
            figures=partial(kills, "pool"),
        ),
        promise(
            "No file is ever half-written: it holds what it held before or what it should hold after",
            "kills::at_every_point_of_its_writes_a_killed_job_leaves_whole_files",
            "kills::half_a_file_is_found",
            "files::a_failed_write_leaves_the_old_file_and_no_other",
            "files::the_bytes_are_on_the_disk_before_they_take_the_name",
            "training::a_failed_write_leaves_the_old_file_and_no_other",
            "make faults",
            figures=whole_files,
        ),
        promise(
            "Ctrl-C and SIGTERM are answered: the training is saved first, the rest goes on where it was",
            "training::a_request_to_stop_is_saved_first",
            "training::a_second_request_to_stop_is_not_kept_waiting",
            "faults::a_request_to_stop_is_status_130",
            "kills::a_pool_goes_on_from_what_is_kept",
            "make faults",
            figures=stops,
        ),
        promise(
            "Workers end with their caller, and what a killed write left is cleared by the next run",
            "kills::workers_end_with_their_caller",
            "faults::what_a_killed_write_left_behind_is_cleared_by_the_next_run_and_nothing_else_is",
            "make faults",
            figures=left_behind,
            short="where the caller of a grid is killed alone, idle workers stay up to joblib's own limit of "
            "five minutes",
        ),
        promise(
            "A run of several processes of which one was killed resumes bit for bit",
            "distributed::a_run_whose_rank_was_killed_resumes_bit_for_bit",
            "training::two_processes_go_on_where_one_was_stopped_and_end_as_one_would",
        ),
        promise(
            "A grid loses nothing with a killed worker, on this machine or of a cluster",
            "grid::a_killed_local_worker_ends_the_call_and_the_next_goes_on",
            "grid::a_killed_worker_of_a_cluster_loses_nothing",
        ),
        promise(
            "An interrupted simulation returns the replicas that are done, and is never stored as a whole "
            "one",
            "trajectories::an_interrupted_run_is_the_run_of_the_replicas_that_are_done",
            "grid::a_partial_run_is_never_stored",
        ),
        promise(
            "A resumed optimizer takes the steps of an uninterrupted one bit for bit: in another process, "
            "sharded, in the two-step form, and in the loops of other libraries",
            "optim::a_resumed_run_is_the_uninterrupted_one_bit_for_bit",
            "perturbation::a_run_resumed_in_another_process_is_the_uninterrupted_one_bit_for_bit",
            "distributed::a_sharded_run_resumes_bit_for_bit_from_one_checkpoint_and_from_a_file_for_each_rank",
            "two_step::a_run_that_is_resumed_goes_on_bit_for_bit",
            "integrations::lightning_resumes_bit_for_bit",
            "integrations::accelerate_resumes_bit_for_bit",
            "integrations::the_trainer_resumes_bit_for_bit",
            "integrations::skorch_resumes_bit_for_bit",
        ),
    ),
)

FAULTS = Section(
    "faults",
    "Faults",
    (
        promise(
            "Disk full, read-only disk, permission denied, for each of eight writers: an error that names "
            "the place, and nothing lost. Real small disks where they may be mounted, else left out",
            "faults::what_cannot_be_written_is_said_and_loses_nothing",
            "faults::a_failure_that_leaves_rubbish_behind_is_still_told_by_its_first_error",
        ),
        promise(
            "A training goes on bit for bit after a disk that refused it",
            "faults::a_run_goes_on_bit_for_bit_after_a_disk_that_refused_it",
            "faults::a_record_that_found_no_room_is_written_by_the_next_call",
        ),
        promise(
            "A folder that cannot be written to is refused before the first step; a finished run is read "
            "from it",
            "faults::a_folder_that_cannot_be_written_to_is_refused_before_the_first_step",
            "faults::a_finished_run_is_read_from_a_folder_that_cannot_be_written_to",
        ),
        promise(
            "Files that belong together change together",
            "faults::files_that_belong_together_change_together",
        ),
        promise(
            "Results, cells, records and checkpoints of an older version are read, or refused with what to "
            "do",
            "faults::a_results_folder_of_an_older_version_is_refused_by_field",
            "faults::a_cell_of_another_version_is_run_again_and_said",
            "faults::a_record_of_another_version_is_refused_and_says_what_to_do",
            "faults::a_checkpoint_from_before_there_were_checksums_is_still_good",
            "training::a_record_of_the_first_format_is_read",
            "training::a_checkpoint_of_an_older_version_says_so",
            "optim::a_checkpoint_of_another_version_is_refused_before_any_of_it_is_loaded",
        ),
        promise(
            "Of two runs in one folder the second is refused and the first ends as if alone; a folder is "
            "given back whatever happens; grids may share one",
            "faults::a_second_run_in_a_folder_is_refused_and_the_first_ends_as_if_alone",
            "faults::a_process_that_dies_gives_its_folder_back",
            "faults::a_folder_is_given_back_after_an_error",
            "faults::a_file_system_without_locks_is_said",
            "faults::grids_that_share_a_folder_give_each_other_their_cells",
            "faults::writers_of_one_file_leave_one_of_their_contents",
        ),
        promise(
            "A clock that goes backwards, or stands still, changes nothing",
            "faults::durations_are_taken_from_a_clock_that_never_goes_back",
            "faults::a_clock_that_stands_still_loses_no_record",
            "faults::nothing_in_the_package_looks_at_the_time_of_day",
        ),
        promise(
            "Data files that are missing, truncated, of another kind or damaged are refused by name",
            "faults::a_missing_a_truncated_and_an_unreadable_data_file_are_named",
            "faults::a_disk_that_fails_while_data_are_read_names_the_file",
            "data::every_missing_file_is_named_with_where_it_was_looked_for",
            "data::a_truncated_idx_file_is_refused",
            "data::a_truncated_cifar_file_is_refused_within_a_record_and_shorter_between_two",
            "data::a_compressed_file_with_a_changed_byte_is_refused_or_read_right",
            "data::one_kind_of_cifar_is_not_taken_for_the_other",
        ),
        promise(
            "Data files that changed since a run began are noticed when it goes on",
            "faults::data_that_changed_since_the_run_began_are_noticed",
            short="a plain IDX or CIFAR file has no checksum of its own: bits that were flipped before its "
            "first reading are taken for right",
        ),
        promise(
            "A flipped bit anywhere in a checkpoint, and a checkpoint of any other length, are noticed",
            "faults::a_changed_bit_anywhere_in_a_checkpoint_is_noticed",
            "faults::torch_alone_would_not_have_noticed",
            "faults::a_truncated_checkpoint_is_refused_at_every_length",
            "faults::a_checkpoint_whose_inside_does_not_fit_is_refused_by_name",
        ),
        promise(
            "A flipped bit in a record, a saved simulation, a cell or a table is noticed, or changes no "
            "value",
            "faults::a_changed_bit_anywhere_in_a_record_is_noticed_or_changes_nothing",
            "trajectories::a_damaged_file_is_refused_or_gives_the_same_run",
            "grid::a_damaged_file_is_run_again_and_said",
            "faults::a_damaged_table_is_refused_whole",
            short="tables of results have no checksum: what is still a table with the right fields is "
            "believed",
        ),
        promise(
            "Nothing is drawn, and an old page stays, where a table is malformed",
            "plots::nothing_is_written_where_one_table_is_malformed",
            "report::a_malformed_file_leaves_the_old_page",
        ),
        promise(
            "What a solver, a file or a machine lacks or gets wrong is refused by name",
            "refusals",
        ),
        promise(
            "Exit statuses are documented and kept: 0 done, 2 refused with one clear line, 130 interrupted, "
            "1 a defect",
            "faults::the_exit_statuses_are_in_the_help_and_at_the_top_of_the_module",
            "faults::a_disk_that_refuses_is_status_2_with_the_place_in_one_line",
            "faults::a_folder_in_use_is_status_2",
            "faults::a_run_that_diverges_is_status_2",
            "faults::too_little_memory_is_status_2",
            "faults::what_cannot_be_printed_is_status_2",
            "faults::a_defect_of_the_program_is_not_taken_for_a_refusal",
            "cli::bad_arguments_end_with_status_2_and_one_clear_line",
        ),
        promise(
            "NaN from a user's closure stops the run with the step, the coin, the length and the "
            "parameters' names, before a weight has moved",
            "faults::a_closure_that_gives_nan_stops_with_step_trial_norm_and_names",
            "faults::only_the_parameters_at_fault_are_named",
            "faults::a_loss_that_overflows_with_a_finite_gradient_is_no_fault",
            "optim::a_gradient_that_is_not_finite_is_refused_at_a_perturbed_step",
        ),
        promise(
            "NaN from a problem stops a simulation with the step, the coin, the length and the coordinates",
            "faults::a_problem_that_gives_nan_stops_with_step_trial_norm_and_coordinates",
            "faults::the_trial_of_a_divergence_is_the_replicas_own",
            "fused::divergence_is_named_as_by_the_reference",
            "device::divergence_names_replica_and_step_as_the_reference_does",
            short="the compiled engine and that of a GPU say replica, step and coin alone",
        ),
        promise(
            "Weights that are not finite are never saved: the last good checkpoint is intact, and the run "
            "goes on from it",
            "faults::weights_that_are_not_finite_are_never_saved",
            "faults::without_a_folder_no_record_of_such_weights_is_returned",
            "faults::huge_weights_are_not_taken_for_infinite",
        ),
        promise(
            "An infinity on one process is told by all, and on a GPU a step later",
            "distributed::an_infinity_on_one_rank_is_told_by_all_and_the_weights_stay",
            "perturbation::what_is_not_finite_on_a_device_is_told_a_step_later",
        ),
    ),
)

AT_LIMIT = ("limits::a_use_at_its_limit_is_right_or_refused", "make faults")

LIMITS = Section(
    "limits",
    "Limits of resources",
    (
        promise(
            "Schedules and laws of 10^7 steps have the right numbers (a table of 10^6)",
            *AT_LIMIT,
            figures=partial(
                limits,
                "a linear schedule",
                "a cosine schedule",
                "a periodic schedule",
                "a formula",
                "a table",
                "the mean of a cost",
                "the variance of a cost",
                "the median of a cost",
            ),
        ),
        promise(
            "Laws and trials of a p with 10^7 entries have the right numbers",
            *AT_LIMIT,
            "limits::the_coins_of_a_long_run_take_little_memory_and_are_those_of_its_parts",
            figures=partial(
                limits,
                "a quantile of the cost of any probabilities",
                "the cost of systematic trials",
                "independent trials",
                "systematic trials",
                "an optimizer with a horizon of many steps",
            ),
        ),
        promise(
            "Simulations of 10^7 steps, and of 10^6 coordinates, have the right numbers",
            *AT_LIMIT,
            figures=partial(
                limits,
                "a simulation of many steps",
                "a simulation of many steps with coins",
                "a simulation of many coordinates",
            ),
        ),
        promise(
            "The optimizer takes the right steps on 10^6 coordinates",
            *AT_LIMIT,
            figures=partial(
                limits, "an optimizer of many coordinates", "an optimizer of many coordinates with mixing"
            ),
        ),
        promise(
            "What asks for more memory than there should be is refused in words",
            *AT_LIMIT,
            figures=partial(
                limits,
                "more steps than there is memory",
                "many coordinates on the reference",
                "quantiles of many steps",
            ),
        ),
        promise(
            "replicas = 1 says that it knows no error",
            *AT_LIMIT,
            "simulation::one_replica_says_that_it_knows_no_error",
            figures=partial(limits, "one replica has no standard error"),
        ),
        promise(
            "steps = 1 is one step",
            *AT_LIMIT,
            "contracts::every_schedule_has_a_law_from_one_step_on",
            figures=partial(limits, "one step", "an optimizer of one step"),
        ),
        promise(
            "steps = 0 is refused by name everywhere",
            *AT_LIMIT,
            "schedules::no_face_accepts_a_bad_number_of_steps",
            figures=partial(
                limits,
                "a schedule of no steps",
                "a cost of no steps",
                "trials of no steps",
                "a simulation of no steps",
                "a bound of no steps",
                "training of no epochs",
                "an optimizer of no steps",
            ),
        ),
        promise(
            "rho = 0 is gradient descent",
            *AT_LIMIT,
            "contracts::without_trials_or_mixing_or_radius_it_is_one_bound_of_gradient_descent",
            "fused::with_no_radius_the_trials_change_nothing",
            figures=partial(
                limits,
                "no radius is gradient descent",
                "no radius with normalized ascent",
                "a bound without radius is that of gradient descent",
                "an optimizer without radius",
            ),
        ),
        promise(
            "gamma = 0 is gradient descent",
            *AT_LIMIT,
            "method::gamma_zero_is_sgd_at_a_higher_price",
            figures=partial(
                limits,
                "no mixing is gradient descent",
                "a bound without mixing is that of gradient descent",
                "an optimizer without mixing",
            ),
        ),
        promise(
            "eta at 2/L stays, beyond it grows or stops in words, and bounds are refused",
            *AT_LIMIT,
            figures=partial(
                limits,
                "a step size of two over L stays",
                "a step size beyond two over L grows",
                "a step size far beyond two over L",
                "a bound at two over L",
                "a bound beyond two over L",
                "a bound just below two over L is a number",
                "an optimizer at two over L",
            ),
        ),
    ),
)

SECURITY = Section(
    "security",
    "Security",
    (
        promise(
            "No eval, exec, pickle, yaml.load, shell or sympify of text; `torch.load` with "
            "`weights_only=True` alone",
            "house::nothing_from_outside_is_executed",
            "house::the_search_for_offences_finds_them",
        ),
        promise(
            "Files that would execute something when they are read do not, whichever reader meets them",
            "security::the_payloads_are_live",
            "security::no_file_is_executed",
            "security::a_seal_makes_a_payload_no_better",
            figures=partial(fuzz, "checkpoint", "trajectories"),
        ),
        promise(
            "A formula, or a schedule in words or as a dict, reaches no Python, ends soon, and is refused "
            "with its place",
            "security::no_formula_reaches_python",
            "security::no_formula_takes_long",
            "security::no_parameter_of_a_schedule_is_executed",
            "security::a_schedule_nested_deeply_is_refused",
            "expressions::everything_else_is_refused_with_its_column_and_at_once",
            "expressions::any_text_is_read_or_refused",
            "expressions::no_short_text_asks_for_an_astronomical_number",
            "schedules::any_command_line_is_a_schedule_or_a_value_error",
            figures=partial(fuzz, "formula", "closed_form", "word", "plain_schedule"),
        ),
        promise(
            "Data files take no more memory than they declare, nor what is not there",
            "security::a_bomb_in_a_data_file_takes_no_memory",
            "data::no_more_is_unpacked_than_was_declared_nor_memory_taken_for_what_is_not_there",
            figures=partial(fuzz, "idx", "idx_set", "cifar"),
        ),
        promise(
            "Checkpoints and saved simulations take no memory for what they only claim to hold",
            "security::a_bomb_in_a_checkpoint_takes_no_memory",
            "security::a_trajectory_that_lies_about_its_size_is_refused",
        ),
        promise(
            "Records, configurations and tables that swell, nest or hold other types are refused by name",
            "security::a_record_of_other_types_is_refused_or_harmless",
            "security::json_that_swells_is_refused_by_name",
            "security::numbers_beyond_the_floating_range_are_refused_by_field",
            "training::a_config_refuses_wrong_types",
            figures=partial(fuzz, "config", "record", "table", "results"),
        ),
        promise(
            "Any words on a command line end with a status and a clear line",
            "cli::unknown_options_are_refused",
            figures=partial(fuzz, "command_line"),
        ),
        promise(
            "The report escapes everything that it shows, and allows no script but its own",
            "security::a_hostile_folder_brings_no_element_script_or_style_of_its_own",
            "security::a_hostile_folder_brings_no_handler_and_no_link_that_runs",
            "security::hostile_texts_are_shown_as_what_they_are",
            "security::the_page_allows_no_script_but_its_own",
            "report::hostile_texts_stay_texts",
            "report::any_text_gives_well_formed_mathml_or_an_error",
            figures=partial(fuzz, "page", "latex"),
        ),
        promise(
            "Figures, notebooks and tables for spreadsheets carry no markup, script or formula from outside",
            "security::saved_figures_hold_no_hostile_element",
            "security::what_notebooks_show_is_escaped",
            "security::a_table_for_spreadsheets_holds_no_formulas",
            "display::no_label_becomes_markup",
        ),
        promise(
            "Archives, names, labels and links from outside cannot leave their folder",
            "security::members_of_archives_are_never_unpacked",
            "security::labels_name_no_files",
            "security::a_set_is_a_name_and_not_a_path",
            "security::a_link_is_replaced_and_not_followed",
        ),
        promise(
            "Dependencies are few, each with its reason, and audited",
            "security::the_core_has_the_dependencies_that_are_listed_with_their_reasons",
            "security::the_audit_says_what_it_found_and_when_its_service_is_out_of_reach",
            "make audit",
            figures=audit,
        ),
        promise(
            "No file of the project names a place on a machine",
            "house::tracked_files_name_no_place_on_a_machine",
        ),
    ),
)

COST = Section(
    "cost",
    "Schedules, coins and their cost",
    (
        promise(
            "Every schedule's values, expression and means agree with its formula in exact fractions",
            "schedules::values_and_expressions_are_the_formula",
            "schedules::means_are_exact",
            "schedules::limits_by_hand",
            "schedules::presets_are_the_table",
        ),
        promise(
            "A schedule used as p lies in [0, 1], or the step and the value are named",
            "schedules::what_cannot_be_is_said_with_the_step_and_the_value",
            "schedules::parameters_outside_their_domain_are_named",
        ),
        promise(
            "A schedule comes back from its dict and prints as what it is",
            "schedules::round_trip_through_json",
            "schedules::schedules_print_as_what_they_are",
        ),
        promise(
            "A coin is a pure function of seed and step, by the published vectors; the same in NumPy, "
            "torch, every engine, on every rank and after a resume",
            "trials::the_published_vectors",
            "trials::the_past_does_not_depend_on_the_future",
            "fused::trials_are_those_of_trials_to_the_bit",
            "device::coins_are_the_trials_to_the_bit",
            "optim::trials_are_those_of_trials_with_and_without_a_horizon",
            "distributed::every_rank_knows_the_trials_before_any_process_is_connected",
        ),
        promise(
            "Coins have their probabilities, and neighbours along seeds, steps and replicas are uncorrelated",
            "trials::every_marginal_is_kept",
            "trials::coins_are_uncorrelated_along_every_axis",
            "trials::uniforms_fill_the_unit_interval_evenly",
        ),
        promise(
            "The law of the cost is exact, far into both tails, against rational enumeration, SciPy and "
            "mpmath",
            "cost::law_against_rational_arithmetic",
            "cost::quantiles_are_resolved_in_both_far_tails",
            "cost::the_trials_follow_the_law",
            "poisson_binomial",
        ),
        promise(
            "Closed forms of the cost are the sums over the steps; its tail bounds hold and are in order",
            "cost::closed_form_is_the_sum_over_the_steps",
            "cost::tail_bounds_hold_and_are_in_order",
        ),
        promise(
            "Systematic trials cost what they cost to within one pair",
            "trials::systematic_trials_are_madows",
            "cost::systematic_tails_are_exact",
            "simulation::systematic_trials_fix_the_cost",
        ),
        promise(
            "A run spends exactly the pairs that its coins announced before it began",
            "training::pairs_spent_are_those_predicted",
            "cli::a_run_is_planned_before_it_starts",
            "method::the_gradient_is_called_as_often_as_pairs_are_paid",
            "realized_cost",
            figures=pairs_spent,
        ),
        promise(
            "The update is one definition, the same in NumPy, torch, SymPy and PEPit; nothing leaks from "
            "the branch that was not taken",
            "method::numpy_and_torch_do_what_the_formula_says",
            "method::sympy_agrees_exactly",
            "method::poison_in_the_unused_branch_stays_there",
            "method::weight_one_is_the_perturbed_gradient_and_weight_zero_the_plain_one",
        ),
    ),
)

THEORY = Section(
    "theory",
    "Bounds",
    (
        promise(
            "No bound is ever below what is measured: simulated instance, then program, then bound",
            "agreement",
            "bounds::measured_metric_is_below_the_bound",
            "bounds::exact_expectation_over_all_trials_is_below_the_bound",
            "make theory",
            figures=agreement,
        ),
        promise(
            "The one-step values are the exact worst cases",
            "one_step::smooth_formula_equals_the_program",
            "one_step::convex_formula_equals_the_program_at_any_step_size",
            "one_step::unnormalized_formulas_equal_the_program",
            "one_step::the_multipliers_of_the_note_prove_the_smooth_value",
            "make theory",
            figures=one_step,
        ),
        promise(
            "Bounds over runs are above their programs",
            "unnormalized::the_program_is_below_and_the_potential_close_to_it",
            "convex::unnormalized_bounds_are_above_the_programs",
            "strongly_convex::the_factor_is_the_exact_worst_case_of_one_step",
            "make theory",
            figures=tightness,
        ),
        promise(
            "The factor of a step on strongly convex objectives is the least that the multipliers of its "
            "proof give, and all that are tried are admissible",
            "contraction",
        ),
        promise(
            "Outside its domain a bound is refused with the condition and the value",
            "contracts::each_condition_of_a_domain_is_enforced_by_name_and_value",
            "bounds::the_step_size_condition_is_named_with_the_value_and_the_step",
        ),
        promise(
            "The number of a bound is its published expression, which stands in a note that proves it, and "
            "that of a plain loop",
            "contracts::the_published_expression_is_the_number",
            "bounds_by_hand",
            "bounds_by_hand::its_note_states_it_under_its_anchor",
            "notation::the_table_is_the_one_in_the_notes",
        ),
        promise(
            "The algebra of the proofs is checked by SymPy",
            "bounds::steps_4_and_5_collect_the_cross_term",
            "one_step::steps_2_and_3_the_sum_of_the_inequalities",
            "polyak_lojasiewicz::the_lemma_is_cocoercivity_of_the_shifted_function",
            "unnormalized::the_algebra_of_short_steps",
            "strongly_convex::the_algebra_of_the_coordinates",
            "convex::the_algebra_of_one_step",
            "realized::the_algebra_of_the_comparison",
        ),
        promise(
            "A bound does not depend on units, and is no smaller for a larger class or a worse start",
            "contracts::a_bound_is_the_same_in_all_units",
            "contracts::a_larger_class_or_a_worse_start_has_no_smaller_bound",
        ),
        promise(
            "A bound is never worse than the published one that it contains",
            "bounds::without_trials_it_is_the_bound_of_ghadimi_and_lan",
            "bounds::sam_is_never_worse_than_the_classical_argument",
            "convex::gradient_descent_attains_the_bound_of_drori_and_teboulle",
            "polyak_lojasiewicz::sgd_is_never_worse_than_karimi_nutini_and_schmidt",
        ),
        promise(
            "`best` is the smallest that holds, and says why there is none",
            "bounds::best_is_the_smallest_that_holds_and_says_why_there_is_none",
        ),
        promise(
            "The sharper averages lie below the master bound, and the floors where the notes say",
            "average",
            "floors",
        ),
        promise("Closed forms and rates are those of the sums", "rates"),
        promise("Moments, thresholds and stationary laws on quadratics are exact", "quadratics"),
        promise(
            "With the coins known, and with high probability, the bounds hold as often as they say",
            "realized",
            "concentration",
        ),
        promise("The implicit objective is within its bound of the mean direction", "implicit"),
        promise(
            "An allocation is optimal: a numerical optimiser finds nothing better",
            "allocation::a_numerical_optimiser_finds_nothing_better",
            "allocation::the_conditions_for_a_minimum_hold",
            "allocation::no_point_of_a_grid_is_cheaper",
        ),
        promise(
            "A certificate equals PEPit, is attained by its worst function where it is called exact, and no "
            "unconverged number is given out",
            "certificates::average_squared_gradient_equals_pepit",
            "certificates::the_worst_function_attains_the_value",
            "certificates::an_unconverged_number_is_not_given_out",
        ),
        promise(
            "Problems have the constants that they state",
            "problems::every_stochastic_gradient_is_lipschitz",
            "problems::f_star_is_the_least_value",
            "problems::gradient_is_the_derivative_of_the_value",
        ),
    ),
)

SIMULATION = Section(
    "simulation",
    "Simulation",
    (
        promise(
            "Every engine takes the steps of the one update, to 1e-12, and has its trajectories, to 1e-10",
            "simulation::every_step_of_every_replica_is_the_update_written_out",
            "fused::every_step_is_that_of_the_method",
            "fused::whole_trajectories_are_those_of_the_reference",
            "device::every_step_is_that_of_the_reference_with_the_same_noise",
            "forms",
        ),
        promise("Compiled kernels do to the bit what their source says", "uncompiled"),
        promise(
            "Moments are those of the exact recursion",
            "simulation::moments_agree_with_the_exact_recursion",
            "fused::moments_agree_with_the_exact_recursion",
        ),
        promise(
            "No bit depends on threads, blocks or the number of replicas; each replica runs again alone, "
            "bit for bit",
            "fused::no_bit_depends_on_the_threads",
            "fused::no_replica_depends_on_the_cut",
            "fused::any_replicas_alone_are_those_of_all",
            "simulation::a_replica_is_replayed_bit_for_bit",
            "device::a_replica_does_not_depend_on_the_blocks",
        ),
        promise(
            "Noise is what its generator publishes, and independent of the coins",
            "streams",
            "device::normals_are_normal_and_independent_of_the_coins",
        ),
        promise(
            "Schedules are compared on common random numbers",
            "simulation::schedules_share_noise_and_coins",
            "grid::seeds_come_from_problem_and_repetition_alone",
            "grid::cells_are_compared_on_common_random_numbers",
        ),
        promise(
            "A saved run comes back bit for bit; quantiles are right to their stated error",
            "trajectories::a_file_gives_the_run_back_bit_for_bit",
            "trajectories::quantiles_are_order_statistics_to_the_stated_error",
        ),
        promise(
            "A grid is run once: what is stored is found again by anything that decides it, in any process",
            "grid::a_second_call_runs_nothing_and_a_larger_grid_what_is_new",
            "grid::every_change_of_what_is_run_changes_the_name",
            "grid::the_name_is_the_same_in_another_process",
        ),
        promise(
            "What has no compiled form runs on the reference, and one line says so",
            "fused::what_has_no_form_runs_on_the_reference_and_one_line_says_so",
            "fused::without_numba_the_reference_runs_and_one_line_says_so",
        ),
        promise(
            "Memory does not grow with replicas times steps",
            "fused::memory_does_not_grow_with_replicas_times_steps",
            "make bench",
            figures=partial(targets, "benchmark_memory"),
        ),
    ),
)

OPTIMIZER = Section(
    "optimizer",
    "The optimizer and training",
    (
        promise(
            "Each step is the one written out by hand, to 1e-12; without trials it is the base bit for bit, "
            "and at gamma = 1 the direction is the second gradient to the sign of a zero",
            "optim::each_step_is_the_methods_own",
            "optim::p_zero_is_the_base_bit_for_bit",
            "optim::p_one_gamma_one_is_sam",
            "optim::at_gamma_one_even_signed_zeros_are_kept",
            "perturbation::each_step_is_the_hand_written_one",
        ),
        promise(
            "The parts of a step (lengths, mixtures, moves, gradients, buffers, groups, plan) are right "
            "each by itself",
            "optim_parts",
            "optim_plan",
            "optim_tensors",
        ),
        promise(
            "A run of the optimizer is the one written out, from its state too; what it refuses, it refuses "
            "in the words of its docstring",
            "optim_run",
        ),
        promise(
            "Weights come back bit for bit to the same addresses, also when a closure raises or is "
            "interrupted",
            "optim::weights_come_back_bit_for_bit_at_the_same_addresses",
            "optim::an_interrupted_second_pass_restores_and_does_not_count",
            "perturbation::weights_of_any_layout_come_back_bit_for_bit_to_where_they_were",
            "perturbation::an_interruption_anywhere_inside_a_move_is_made_good",
        ),
        promise(
            "None of the defects of its peers",
            "benchmarks::we_have_none_of_the_failures_of_the_peers",
            "make bench",
            figures=peers,
        ),
        promise(
            "Learning-rate schedulers and hooks work, without a warning",
            "optim::learning_rate_schedulers_work_unpatched",
            "optim::hooks_run",
            "two_step::schedulers_attach_without_a_warning",
        ),
        promise(
            "A step with a loss scale is the step without, and an overflow skips it",
            "scaler::a_scaled_run_is_the_unscaled_one_bit_for_bit",
            "scaler::an_overflow_skips_the_step_and_training_goes_on",
        ),
        promise(
            "Statistics are counted once; both passes may draw the same random numbers; micro-batches add up",
            "passes::statistics_are_counted_as_the_base_counts_them",
            "passes::dropout_masks_are_the_same_in_both_passes_where_asked",
            "passes::micro_batches_add_up_to_the_joined_batch",
        ),
        promise(
            "Several processes are one on the joined minibatch, sharded or not",
            "distributed::a_joined_run_equals_one_process_on_the_joined_minibatch",
            "distributed::a_sharded_run_equals_one_process_on_the_joined_minibatch",
        ),
        promise(
            "Compiled steps, and graphed ones with a stand-in for CUDA's graphs, are the eager ones",
            "compiled",
            "graphs::graphed_steps_are_the_eager_ones",
            short="graphs were never captured on a GPU",
        ),
        promise(
            "Inside Lightning, Accelerate, Transformers and skorch the steps are SAM written out",
            "integrations",
        ),
        promise(
            "Code that calls `first_step` and `second_step` changes one import",
            "two_step::every_way_to_step_is_the_sam_written_out",
            "two_step::one_step_is_the_peers_in_single_precision",
        ),
        promise(
            "A training is decided by its configuration: data, weights, batches and coins come from the "
            "seed, and methods are paired",
            "training::methods_are_paired",
            "data::the_repetition_decides_the_data",
            "models::weights_come_from_the_seed_and_leave_the_generator_alone",
        ),
        promise(
            "A record holds what a rerun needs",
            "training::a_record_holds_what_a_rerun_needs",
            "sharpness::a_trained_network_is_the_one_that_its_record_tells_of",
        ),
        promise(
            "Networks have the sizes of the literature and compute the sums of their papers",
            "models::networks_have_the_sizes_of_the_literature",
            "models::a_residual_network_is_the_sums_of_its_paper",
            "models::a_transformer_is_the_sums_of_its_paper",
        ),
        promise(
            "The optimizer and training are as fast as was aimed at; why not, where they are not: "
            "`optimizer.md#speed`",
            "benchmarks",
            "make bench",
            figures=partial(targets, "benchmark_optimizer_targets", "benchmark_training_targets"),
        ),
        promise(
            "The simulation is as fast as was aimed at; why not, where it is not: `simulation.md#speed`",
            "benchmarks",
            "make bench",
            figures=partial(targets, "benchmark_simulation_targets"),
        ),
        promise(
            "Simulation and optimizer do the same on a GPU",
            "device::the_kernel_compiles_for_a_gpu_that_is_not_there",
            "graphs::graphs_agree_with_eager_steps_on_a_gpu",
            "make gpu",
            short="no GPU was at hand: `make gpu` is ready and was never run on one",
        ),
        promise(
            "Without a GPU `make gpu` says what it would do and ends with 0",
            "make gpu",
            short="seen by hand alone: no test holds it",
        ),
    ),
)

EVIDENCE = Section(
    "evidence",
    "Evidence, figures and the page",
    (
        promise(
            "Every verdict follows from the committed tables by a rule that was fixed before",
            "experiments::the_committed_note_and_verdicts_follow_from_the_committed_tables",
            "experiments::every_claim_and_question_has_a_verdict_with_evidence",
            "realized_cost::the_committed_verdict_counts_every_training_run",
        ),
        promise(
            "Each question's tables, rule and figure are those of its design",
            "collapse",
            "decay",
            "fashion",
            "floor_exponents",
            "order",
            "pareto",
            "ranking_question",
            "realized_cost",
            "stability",
        ),
        promise(
            "A smaller run that disagrees with the committed one is found and said at the top",
            "recheck",
            "report::a_smaller_run_that_disagrees_is_said_at_the_top",
        ),
        promise(
            "Figures show what the tables hold; no labels overlap; the same results give the same bytes",
            "plots::the_same_results_give_the_same_bytes_in_another_process_with_other_settings",
            "plots::no_text_overlaps_another_or_leaves_the_figure",
            "regimes",
        ),
        promise(
            "The page works without a network, and loads nothing",
            "report::the_page_needs_no_network",
            "page::nothing_is_loaded_and_nothing_is_wrong",
        ),
        promise(
            "The page is the same to the byte in another process, leads nowhere broken, and has the numbers "
            "of the tables",
            "report::the_same_folder_gives_the_same_bytes_in_another_process",
            "report::links_and_references_lead_somewhere",
            "report::tables_hold_the_numbers_of_the_results",
        ),
        promise(
            "The page can be read on a telephone, in print, in the dark, without a pointer and without its "
            "script",
            "page::nothing_scrolls_sideways",
            "page::print_hides_controls_and_opens_the_evidence",
            "page::in_the_dark_words_are_light_and_figures_stay_on_white",
            "page::the_keyboard_moves_every_slider_and_the_drawings_follow",
            "page::without_its_script_the_page_says_so_and_shows_the_rest",
        ),
        promise(
            "Notebooks run from top to bottom and say what is committed",
            "notebooks::a_notebook_runs_and_says_what_is_committed",
        ),
        promise(
            "Results show themselves well-formed and with their own numbers",
            "display::a_schedule_shows_its_formula_its_domain_and_its_values",
            "display::a_bound_shows_statement_assumptions_domain_and_proof",
        ),
        promise(
            "This page follows from the committed tables, and names tests that exist",
            "reliability",
        ),
    ),
)

HOUSE = Section(
    "house",
    "The house",
    (
        promise(
            "An import points only to a lower floor; simulation knows neither cost nor bounds",
            "house::imports_point_to_lower_floors",
            "house::evidence_is_independent",
        ),
        promise(
            "`import rst_theory` takes at most .15 s beyond the interpreter and loads nothing heavy",
            "house::entering_is_quick",
            "house::entering_loads_nothing_heavy",
        ),
        promise(
            "Every public name is explained and typed",
            "house::public_names_are_explained",
            "house::the_package_is_typed",
        ),
        promise(
            "The Python examples of the README run as they stand, without a warning",
            "readme",
            short="its lines of shell are not run by a test",
        ),
        promise(
            "A fresh clone sets itself up, and passes its checks and tests",
            "make fresh",
            figures=set_up,
        ),
        promise(
            "Every command explains itself, and prints JSON for machines",
            "cli::every_command_explains_itself",
            "cli::cost",
            "cli::simulate",
        ),
        promise(
            "What needs an extra that is absent says which",
            "certificates::the_missing_package_is_named",
            "grid::what_is_absent_is_named_with_its_extra",
            "data::without_scikit_learn_the_error_names_the_extra",
            "trajectories::without_pandas_the_extra_is_named",
            "integrations::the_package_loads_none_of_them_and_a_missing_one_names_the_extra",
            "fuzz::without_atheris_the_campaign_says_what_is_missing",
        ),
    ),
)

SECTIONS = (KIT, TESTS, KILLS, FAULTS, LIMITS, SECURITY, COST, THEORY, SIMULATION, OPTIMIZER, EVIDENCE, HOUSE)
