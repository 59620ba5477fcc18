"""Everything that goes wrong for real in the tests, and where: the whole list in one place.

Each fault is brought about by the kernel where it can be. What stays up, what is shown, and that nothing is lost is
said by the tests that are named.
"""

import ast
from pathlib import Path

import pytest

SYSTEM = Path(__file__).parent

FAULTS: dict[str, tuple[str, ...]] = {
    # The disk and what lies on it.
    "the disk is full under a textfile": ("faults_files.a_full_disk_keeps_the_old_textfile",),
    "the disk is full under the boot reference": ("faults_files.a_full_disk_keeps_no_boot_reference",),
    "the disk is full under standard output": ("app/cli.an_output_that_cannot_be_written",),
    "the log has nowhere to go": (
        "faults_process.a_log_that_cannot_be_written_stops_nothing",
        "faults_process.an_error_that_nobody_hears_keeps_its_exit_code",
    ),
    "the files of units cannot be written": ("app/units.a_file_that_cannot_be_written",),
    "a file may not grow": ("config/files.a_failure_in_the_middle_leaves_the_old_file_whole",),
    "the writer of a textfile is killed before any system call": (
        "faults_files.a_kill_at_any_system_call_leaves_a_whole_file",
    ),
    "the writer of a textfile is refused any system call": (
        "faults_files.a_refusal_of_any_system_call_leaves_a_whole_file",
    ),
    "a dump, baseline or web configuration is corrupted": (
        "faults_files.a_corrupted_file_is_named",
        "app/cli.a_truncated_dump",
        "app/cli.a_dump_without_an_end",
    ),
    "a baseline or web configuration is corrupted under a running daemon": (
        "faults_files.a_running_daemon_holds_on_to_what_was_good",
    ),
    "the boot reference is corrupted": (
        "collector/boot.a_damaged_file_is_replaced",
        "collector/boot.a_file_with_a_scratch_is_a_reference_or_damaged",
    ),
    # The kernel's files.
    "/sys or /proc is not mounted": (
        "faults_kernel.without_sysfs_there_is_nothing_to_serve",
        "faults_kernel.without_proc_the_leaves_are_served",
    ),
    "the list of online CPUs is empty, nonsense or huge": (
        "faults_kernel.where_nobody_knows_the_cpus_the_daemon_says_so",
    ),
    "the list of online CPUs is longer than the kernel writes": (
        "cpuid/topology.a_list_that_the_kernel_cut_is_completed",
    ),
    "what else is read of the kernel is empty, nonsense, huge or unreadable": (
        "faults_kernel.other_files_are_evidence_or_none",
        "collector/guest.files_without_an_end",
    ),
    # CPUs.
    "CPU numbers have holes, or are about 1,024, and cannot be reached": (
        "faults_kernel.cpus_that_cannot_be_reached_do_not_hide_the_others",
        "cpuid/topology.a_list_that_just_fits_is_whole",
    ),
    "another list of CPUs than the cpuset allows": (
        "faults_kernel.where_another_list_of_cpus_is_shown_the_allowed_ones_are_read",
    ),
    "there are 4,096 CPUs": ("faults_kernel.4096_cpus",),
    "a CPU is held by a real-time task": ("real_time.a_held_cpu_fails_until_it_is_free_again",),
    "no CPU may be pinned": ("restrictions.where_no_cpu_can_be_pinned_the_daemon_is_up",),
    "CPUID faults": ("restrictions.where_cpuid_really_faults",),
    # The process.
    "descriptors run out": ("web/server.where_descriptors_run_out",),
    "few descriptors are there": ("web/server.few_descriptors",),
    "threads run out": (
        "faults_process.where_there_may_be_no_more_threads",
        "web/credentials.where_there_is_no_thread_to_hash_in",
    ),
    "the log is not read": (
        "faults_process.a_log_that_nobody_reads_stops_nothing",
        "packaging/systemd_log.a_pipe_that_nobody_reads",
    ),
    "the journal stands still": ("packaging/systemd_log.a_journal_that_stands_still",),
    "the wall clock jumps": ("faults_process.the_wall_clock_jumps",),
    "all clocks jump": ("faults_process.a_machine_sleeps_or_is_restored", "collector/sampler.age_is_time_since_boot"),
    "the service manager is gone": ("app/systemd.a_service_manager_that_is_gone_changes_nothing",),
    # The end, in each state.
    "SIGTERM while it starts": (
        "faults_process.the_end_comes_while_it_starts",
        "daemon.a_signal_during_the_start_ends_it",
    ),
    "SIGTERM while nothing happens": ("daemon.a_signal_ends_it_well",),
    "SIGTERM while a scrape waits, once and twice": (
        "daemon.a_running_answer_ends_first",
        "faults_process.the_end_comes_twice_while_a_scrape_waits",
    ),
    "SIGTERM while it reloads": ("faults_process.the_end_comes_while_it_reloads",),
    "SIGTERM while TLS shakes hands": ("faults_process.the_end_comes_while_clients_shake_hands",),
    "SIGTERM while a reading is stuck": ("daemon.a_reading_that_never_ends_does_not_hold_up_the_end",),
    "SIGTERM while a CPU is held": ("real_time.the_exit_does_not_wait_for_a_held_cpu",),
}
"""Each fault, and its tests: FILE.NAME is test_NAME in test_FILE.py beside this file, FOLDER/FILE.NAME in a folder."""


def names_in(file: Path) -> set[str]:
    """The tests in a file, by their names without ``test_``."""
    functions = (
        node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return {function.name.removeprefix("test_") for function in functions if function.name.startswith("test_")}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_tests(fault: str) -> None:
    """Where the table says."""
    for test in FAULTS[fault]:
        place, _, name = test.partition(".")
        folder, _, file = place.rpartition("/")
        assert name in names_in(SYSTEM.parent / (folder or SYSTEM.name) / f"test_{file}.py")


def test_each_test_of_a_fault_is_in_the_table() -> None:
    """Nobody has to look for more in the files that are about nothing else."""
    listed = {test for tests in FAULTS.values() for test in tests}
    for file in SYSTEM.glob("test_faults_*.py"):
        assert {f"{file.stem.removeprefix('test_')}.{name}" for name in names_in(file)} <= listed
