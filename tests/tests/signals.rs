//! Signals and clocks: each behaviour of the guest programs, on the host first.

use vmm_tests::program::guest;
use vmm_tests::run::Run;
use vmm_tests::slowness;

fn signals(name: &str) -> Run {
    Run::new(guest("signals.c", &["-static"])).args([name])
}

/// The names of the behaviours that end the process, or of the others.
fn names(killing: bool) -> Vec<String> {
    let list = signals("list").host_output();
    let names = list.expect_code(0).stdout_text().lines().map(str::to_owned);
    let names: Vec<_> = names.filter(|name| name.ends_with("_kills") == killing).collect();
    assert!(names.len() > 5, "{names:?}");
    names
}

/// The lab's processor, an emulation, raises neither the fault of a non-canonical address nor those of
/// floating point: there the program fails on its Linux, too.
fn processor_has_all_faults() -> bool {
    slowness() == 1
}

#[test]
fn each_behaviour_by_itself_passes() {
    for name in names(false) {
        if name == "faults" && !processor_has_all_faults() {
            continue;
        }
        let output = signals(&name).same_as_host_with_stderr();
        output.expect_code(0).expect_stdout(format!("PASS {name}\n"));
    }
}

#[test]
fn all_behaviours_in_one_process_pass() {
    if processor_has_all_faults() {
        signals("all").same_as_host_with_stderr().expect_code(0);
    }
}

#[test]
fn what_must_kill_kills_by_the_same_signal() {
    for name in names(true) {
        let output = signals(&name).same_as_host();
        assert!(output.shell_code() > 128, "{name}: {output:?}");
        output.expect_stdout("");
    }
}

#[test]
fn a_dynamic_program_handles_signals() {
    let name = if processor_has_all_faults() { "all" } else { "raised" };
    Run::new(guest("signals.c", &[])).args([name]).same_as_host_with_stderr().expect_code(0);
}

#[test]
fn clocks_agree_and_sleeps_last_as_long_as_they_should() {
    // The lab's host has no time to spare: what it sleeps is longer than what the program allows.
    if slowness() == 1 {
        Run::new(guest("clock.c", &[])).same_as_host_with_stderr().expect_code(0);
        Run::new(guest("clock.c", &["-static"])).same_as_host_with_stderr().expect_code(0);
    }
}
