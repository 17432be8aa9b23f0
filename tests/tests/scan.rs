//! The built kernel holds no instruction that an emulated ring 0 cannot execute.

use vmm_tests::{kernel_elf, program, scan};

#[test]
fn the_kernel_has_only_instructions_that_every_kvm_executes_in_ring_0() {
    let findings = scan::scan_file(&kernel_elf());
    assert!(findings.is_empty(), "in {}:\n{findings:#?}", kernel_elf().display());
}

#[test]
fn a_program_with_such_instructions_is_found_out() {
    let findings = scan::scan_file(&program::guest("forbidden.S", &["-nostdlib", "-static"]));
    let found: Vec<_> = findings.iter().map(|finding| finding.instruction.as_str()).collect();
    assert_eq!(found, ["popcnt %rax,%rcx", "stac", "addsd  %xmm1,%xmm0", "vmcall"]);
}
