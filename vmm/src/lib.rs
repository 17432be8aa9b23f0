//! The VMM as a library: what `vmm run` does, for programs that want to do it themselves.
//!
//! Data flows one way: `cli` turns flags into a [`config::Config`]; `vm` builds the machine from it in
//! order; the run loop answers exits until the guest ends; `stats` tells what happened.
//!
//! * [`config`]: what to run, in which machine; [`run`] takes it;
//! * [`terminal`]: the host's terminal while the guest has it;

pub mod config;
pub mod program;
pub mod root;
mod sys;
pub mod terminal;
