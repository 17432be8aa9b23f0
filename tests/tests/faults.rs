//! A program that does what ring 3 must not is killed by the signal that Linux sends, in the shell's
//! words, and the kernel goes on: it is the kernel that reports the program's end.

use std::collections::BTreeSet;

use vmm_tests::program::guest;
use vmm_tests::run::Run;
use vmm_tests::slowness;

const SIGILL: i32 = 4;
const SIGTRAP: i32 = 5;
const SIGABRT: i32 = 6;
const SIGBUS: i32 = 7;
const SIGFPE: i32 = 8;
const SIGSEGV: i32 = 11;

const PRIVILEGED: &str = "hlt cli sti out in mov_cr3 mov_cr0 mov_dr7 rdmsr wrmsr swapgs sysretq invlpg clts \
     wbinvd lgdt lidt ltr kernel_ds int_13";
/// The lab's processor, an emulation, leaves these half done: no measure for what should be.
const RING_CHANGES: &str = "kernel_cs far_return";
const KERNEL_ADDRESSES: &str = "read_direct_map write_direct_map jump_direct_map read_kernel write_kernel \
     jump_kernel read_non_canonical jump_non_canonical kernel_stack_pointer";
const WRONG_RIGHTS: &str = "read_null jump_null write_read_only write_code execute_data execute_stack \
     read_protected read_unmapped";
const STACK: &str = "overflow_stack bad_stack_pointer";
const INVALID: &str = "ud2";
const TRAPS: &str = "int3 icebp single_step";
const ARITHMETIC: &str = "divide_by_zero divide_overflow";
/// `unaligned` goes unpunished on processors that do not check (the lab's).
const BUS: &str = "unaligned beyond_file";
const ABORT: &str = "abort";

#[track_caller]
fn expect(names: &str, signal: i32, words: &str) {
    let program = guest("faults.c", &["-static"]);
    for name in names.split(' ') {
        let run = Run::new(&program).args([name]);
        let host = run.host_output();
        if slowness() == 1 {
            assert_eq!(host.shell_code(), 128 + signal, "{name}, on the host");
        }
        let output = run.same_as_host();
        output.expect_stdout("");
        if host.shell_code() == 128 + signal {
            output.expect_in_stderr(words).expect_one_line_on_stderr();
        }
    }
}

#[test]
fn privileged_instructions_are_a_segmentation_fault() {
    expect(PRIVILEGED, SIGSEGV, "Segmentation fault");
}

#[test]
fn far_returns_to_ring_0_are_a_segmentation_fault() {
    if slowness() == 1 {
        expect(RING_CHANGES, SIGSEGV, "Segmentation fault");
    }
}

#[test]
fn kernel_addresses_are_a_segmentation_fault() {
    expect(KERNEL_ADDRESSES, SIGSEGV, "Segmentation fault");
}

#[test]
fn accesses_against_the_rights_of_a_page_are_a_segmentation_fault() {
    expect(WRONG_RIGHTS, SIGSEGV, "Segmentation fault");
}

#[test]
fn an_overflowing_or_lost_stack_is_a_segmentation_fault() {
    expect(STACK, SIGSEGV, "Segmentation fault");
}

#[test]
fn an_invalid_opcode_is_an_illegal_instruction() {
    expect(INVALID, SIGILL, "Illegal instruction");
}

#[test]
fn breakpoints_and_single_steps_are_traps() {
    expect(TRAPS, SIGTRAP, "Trace/breakpoint trap");
}

#[test]
fn division_errors_are_floating_point_exceptions() {
    expect(ARITHMETIC, SIGFPE, "Floating point exception");
}

#[test]
fn misaligned_accesses_and_pages_beyond_a_file_are_bus_errors() {
    expect(BUS, SIGBUS, "Bus error");
}

#[test]
fn abort_is_aborted() {
    expect(ABORT, SIGABRT, "Aborted");
}

#[test]
fn no_fault_of_the_program_is_left_out() {
    let list = Run::new(guest("faults.c", &["-static"])).args(["list"]).host_output();
    let all: BTreeSet<&str> = list.stdout_text().lines().collect();
    let tested = [
        PRIVILEGED,
        RING_CHANGES,
        KERNEL_ADDRESSES,
        WRONG_RIGHTS,
        STACK,
        INVALID,
        TRAPS,
        ARITHMETIC,
        BUS,
        ABORT,
    ];
    let tested: BTreeSet<&str> = tested.iter().flat_map(|names| names.split(' ')).collect();
    assert_eq!(all, tested);
}
