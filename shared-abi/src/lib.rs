//! The contract between the VMM and the guest kernel.
//!
//! Data only: no logic, no dependencies, nothing of Linux's ABI. Both sides are built from this crate,
//! and [`boot_info::VERSION`] is checked at run time, so that `vmm run --kernel FILE` with a kernel of
//! another build fails with a message instead of a mystery.
//!
//! * [`layout`]: where things are in guest-physical and guest-virtual memory;
//! * [`boot_info`]: what the VMM tells the kernel before its first instruction;
//! * [`ports`]: the I/O ports, and the words written to them;
//! * [`stdio`]: the descriptor behind the doorbell that carries stdin, stdout and stderr;
//! * [`report`]: counters, time marks and the panic record, which the VMM reads without an exit.

#![no_std]

pub mod boot_info;
pub mod layout;
pub mod ports;
pub mod report;
pub mod stdio;
