//! The `vmm` binary: parse, run, exit with the guest's code.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use vmm::cli::{self, Command};

/// SIGPIPE stays ignored, as the runtime sets it: when nobody reads a stream any more, the guest's
/// program is told (EPIPE) and ends as it would on the host; what we print ourselves copes with it.
fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os(), std::env::vars_os()) {
        Ok(command) => command,
        Err(stop) => return ExitCode::from(stop.report()),
    };
    let result = match command {
        Command::Run(config) => vmm::run(*config),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            error.print();
            ExitCode::from(error.exit_code())
        }
    }
}
