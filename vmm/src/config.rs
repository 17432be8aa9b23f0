//! What to run, and in which machine: plain data, checked by [`Config::validate`].

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// A file or directory of the host that the guest's root shall hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addition {
    /// Path on the host.
    pub host: PathBuf,
    /// Absolute path in the guest.
    pub guest: PathBuf,
}

/// Where the program's standard streams go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Console {
    /// Three separate streams through the stdio doorbell.
    #[default]
    Stdio,
    /// Everything over the 16550 at COM1.
    Serial,
}

/// Form of the statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsFormat {
    /// For people.
    Text,
    /// For programs: one JSON object with stable keys.
    Json,
}

/// Statistics to write when the guest has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsRequest {
    /// Their form.
    pub format: StatsFormat,
    /// Where to; standard error if absent.
    pub file: Option<PathBuf>,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Guest RAM in bytes, a multiple of 4096.
    pub memory_bytes: u64,
    /// Number of virtual CPUs.
    pub cpu_count: u32,
    /// The program: a path, or a name to be found in PATH.
    pub program: OsString,
    /// Arguments after the program's name.
    pub arguments: Vec<OsString>,
    /// The whole environment of the program, `KEY=VALUE`.
    pub environment: Vec<OsString>,
    /// Working directory in the guest; the host's if absent.
    pub cwd: Option<PathBuf>,
    /// Host files and directories to add to the root.
    pub additions: Vec<Addition>,
    /// A directory or an EROFS image as the whole root.
    pub root: Option<PathBuf>,
    /// A kernel image in place of the built-in one.
    pub kernel: Option<PathBuf>,
    /// The kernel's command line.
    pub cmdline: String,
    /// Wall-clock limit of the run.
    pub timeout: Option<Duration>,
    /// Statistics, if wanted.
    pub stats: Option<StatsRequest>,
    /// Kernel log on standard error.
    pub verbose: bool,
    /// Where the standard streams go.
    pub console: Console,
}
