//! The VMM as a library: what `vmm run` does, for programs that want to do it themselves.
//!
//! Data flows one way: [`cli`] turns flags into a [`config::Config`]; `vm` builds the machine from it in
//! order; the run loop answers exits until the guest ends; [`stats`] tells what happened.
//!
//! * [`config`]: what to run, in which machine; [`run`] takes it;
//! * [`error`] and [`exit_code`]: how a run can fail, and what it exits with;
//! * [`terminal`]: the host's terminal while the guest has it;
//! * [`report`]: what the guest kernel left behind, in words.

pub mod cli;
pub mod config;
pub mod program;
pub mod root;
pub mod error;
pub mod exit_code;
pub mod report;
pub mod stats;
mod sys;
pub mod terminal;

/// Runs what `config` says and returns the process exit code: see [`exit_code`].
pub fn run(config: config::Config) -> Result<u8, error::Error> {
    config.validate()?;
    Err(error::Error::new(
        error::Kind::Vmm,
        "cannot run a program: the machine is not built in",
    ))
}
