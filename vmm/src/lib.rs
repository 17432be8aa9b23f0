//! The VMM as a library: what `vmm run` does, for programs that want to do it themselves.
//!
//! Data flows one way: [`cli`] turns flags into a [`config::Config`]; [`vm`] builds the machine from it in
//! order; the run loop in [`vcpu`] answers exits until the guest ends; [`stats`] tells what happened.
//!
//! * [`config`]: what to run, in which machine; [`run`] takes it;
//! * [`error`] and [`exit_code`]: how a run can fail, and what it exits with;
//! * [`program`] and [`root`]: the program on the host, and the EROFS image that holds it;
//! * [`kvm`], [`memory`], [`kernel_image`], [`loader`]: the machine, from nothing to its first instruction;
//! * [`vcpu`], [`exit`], [`bus`], [`device`], [`irq`], [`event`], [`kick`]: what happens while it runs;
//! * [`terminal`]: the host's terminal while the guest has it;
//! * [`report`], [`resident`], [`stats`]: what the guest kernel left behind, in words, and what it cost.

pub mod bus;
pub mod cli;
pub mod config;
pub mod device;
pub mod error;
pub mod event;
pub mod exit;
pub mod exit_code;
mod host;
pub mod irq;
pub mod kernel_image;
pub mod kick;
pub mod kvm;
pub mod loader;
pub mod memory;
mod poll;
pub mod program;
pub mod report;
pub mod resident;
pub mod root;
mod signal_fd;
pub mod stats;
mod sys;
pub mod terminal;
pub mod vcpu;
pub mod vm;

pub use vm::{count_boot_instructions, run};
