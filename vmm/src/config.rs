//! What to run, and in which machine: plain data, built by chaining, checked by [`Config::validate`].

#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use shared_abi::layout::PAGE_SIZE;

use crate::error::{Error, Kind};

/// Guest RAM unless told otherwise.
pub const MEMORY_BYTES_DEFAULT: u64 = 256 << 20;
/// The least guest RAM: the kernel, its tables and a small program.
pub const MEMORY_BYTES_MIN: u64 = 16 << 20;
/// The most guest RAM.
pub const MEMORY_BYTES_MAX: u64 = 16 << 30;
/// The most virtual CPUs.
pub const CPU_COUNT_MAX: u32 = 1;
/// The longest argument or environment entry, its NUL included (Linux: MAX_ARG_STRLEN).
pub const STRING_BYTES_MAX: usize = 128 << 10;
/// The most bytes of arguments and environment, NULs and pointers included (Linux: a quarter of the
/// usual stack limit of 8 MiB).
pub const STRINGS_BYTES_MAX: usize = 2 << 20;

/// Variables of the host that a program gets by default; so is each that begins with `LC_`.
pub const INHERITED_VARIABLES: [&str; 8] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "TZ"];

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
    /// Output over the 16550 at COM1, as the kernels of others have it; input stays on the doorbell.
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
///
/// ```no_run
/// use std::time::Duration;
/// use vmm::config::Config;
///
/// let config = Config::new("/bin/echo")
///     .arg("hello from ring 3")
///     .env("LANG", "C")
///     .memory_bytes(64 << 20)
///     .timeout(Duration::from_secs(10));
/// let exit_code = vmm::run(config)?;
/// # Ok::<(), vmm::error::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
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

impl Config {
    /// Runs `program` without arguments and with an empty environment in a machine of default size.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            memory_bytes: MEMORY_BYTES_DEFAULT,
            cpu_count: 1,
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            cwd: None,
            additions: Vec::new(),
            root: None,
            kernel: None,
            cmdline: String::new(),
            timeout: None,
            stats: None,
            verbose: false,
            console: Console::default(),
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable; one that is there already keeps its place.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let key = key.as_ref();
        let entry = environment_entry(key, value.as_ref());
        match self.environment.iter_mut().find(|entry| environment_key(entry) == key.as_bytes()) {
            Some(old) => *old = entry,
            None => self.environment.push(entry),
        }
        self
    }

    /// Takes over from `host` (`std::env::vars_os()`) what `vmm run` takes over by default:
    /// [`INHERITED_VARIABLES`] and `LC_*`, in the host's order.
    #[must_use]
    pub fn inherit_env(self, host: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        host.into_iter()
            .filter(|(key, _)| {
                key.as_bytes().starts_with(b"LC_")
                    || INHERITED_VARIABLES.iter().any(|name| key == name)
            })
            .fold(self, |config, (key, value)| config.env(key, value))
    }

    /// Sets the size of guest RAM.
    #[must_use]
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Sets the working directory in the guest.
    #[must_use]
    pub fn cwd(mut self, guest: impl Into<PathBuf>) -> Self {
        self.cwd = Some(guest.into());
        self
    }

    /// Adds a host file or directory to the root.
    #[must_use]
    pub fn addition(mut self, host: impl Into<PathBuf>, guest: impl Into<PathBuf>) -> Self {
        self.additions.push(Addition { host: host.into(), guest: guest.into() });
        self
    }

    /// Takes a directory or an EROFS image as the whole root.
    #[must_use]
    pub fn root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = Some(root.into());
        self
    }

    /// Limits the wall-clock time of the run.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Asks for statistics.
    #[must_use]
    pub fn stats(mut self, request: StatsRequest) -> Self {
        self.stats = Some(request);
        self
    }

    /// Checks all that can be checked without KVM and without looking for the program.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_machine()?;
        self.validate_strings()?;
        if let Some(cwd) = &self.cwd {
            validate_guest_path(cwd).map_err(ConfigError::Cwd)?;
        }
        for addition in &self.additions {
            must_exist(&addition.host, "cannot add")?;
            validate_guest_path(&addition.guest).map_err(ConfigError::GuestPath)?;
        }
        if let Some(root) = &self.root {
            must_exist(root, "cannot use as the root")?;
        }
        if let Some(kernel) = &self.kernel {
            must_exist(kernel, "cannot use as the kernel")?;
        }
        Ok(())
    }

    fn validate_machine(&self) -> Result<(), ConfigError> {
        let bytes = self.memory_bytes;
        if !(MEMORY_BYTES_MIN..=MEMORY_BYTES_MAX).contains(&bytes) {
            return Err(ConfigError::MemorySize { bytes });
        }
        if !bytes.is_multiple_of(PAGE_SIZE) {
            return Err(ConfigError::MemoryAlignment { bytes });
        }
        if !(1..=CPU_COUNT_MAX).contains(&self.cpu_count) {
            return Err(ConfigError::CpuCount { count: self.cpu_count });
        }
        if self.timeout == Some(Duration::ZERO) {
            return Err(ConfigError::Timeout);
        }
        Ok(())
    }

    /// The limits of execve, as Linux has them: man 2 execve, "Limits on size of arguments and
    /// environment".
    fn validate_strings(&self) -> Result<(), ConfigError> {
        let program = self.program.as_os_str();
        if program.is_empty() {
            return Err(ConfigError::NoProgram);
        }
        let mut total = 0;
        let strings = std::iter::once(program)
            .chain(self.arguments.iter().map(OsString::as_os_str))
            .chain(self.environment.iter().map(OsString::as_os_str));
        for string in strings {
            let bytes = string.as_bytes();
            if bytes.contains(&0) {
                return Err(ConfigError::Nul(string.to_owned()));
            }
            if bytes.len() >= STRING_BYTES_MAX {
                return Err(ConfigError::StringTooLong {
                    program: program.to_owned(),
                    bytes: bytes.len() + 1,
                });
            }
            total += bytes.len() + 1 + size_of::<u64>();
        }
        if total > STRINGS_BYTES_MAX {
            return Err(ConfigError::StringsTooLong { program: program.to_owned(), bytes: total });
        }
        for entry in &self.environment {
            // An entry without a key is legal for execve, but no shell and no libc makes one.
            if environment_key(entry).is_empty() || !entry.as_bytes().contains(&b'=') {
                return Err(ConfigError::Environment(entry.clone()));
            }
        }
        Ok(())
    }
}

/// `KEY=VALUE`.
fn environment_entry(key: &OsStr, value: &OsStr) -> OsString {
    let mut entry = key.to_owned();
    entry.push("=");
    entry.push(value);
    entry
}

/// The part of an entry before its first `=`.
fn environment_key(entry: &OsStr) -> &[u8] {
    entry.as_bytes().split(|&byte| byte == b'=').next().unwrap_or_default()
}

fn must_exist(path: &Path, what: &'static str) -> Result<(), ConfigError> {
    path.metadata().map(|_| ()).map_err(|source| ConfigError::HostPath {
        what,
        path: path.to_owned(),
        source,
    })
}

/// A guest path is absolute and says where it is without `..`, which the root's builder would have to
/// resolve against links that it does not know yet.
pub(crate) fn validate_guest_path(path: &Path) -> Result<(), GuestPathError> {
    if !path.is_absolute() {
        return Err(GuestPathError::Relative(path.to_owned()));
    }
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(GuestPathError::Parent(path.to_owned()));
    }
    if path.as_os_str().as_bytes().contains(&0) {
        return Err(GuestPathError::Nul(path.to_owned()));
    }
    Ok(())
}

/// Why a path cannot be one of the guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestPathError {
    /// It does not begin with `/`.
    #[error("{}: a guest path must be absolute: begin it with /", .0.display())]
    Relative(PathBuf),
    /// It holds `..`.
    #[error("{}: a guest path must not hold `..`: write the path without it", .0.display())]
    Parent(PathBuf),
    /// It holds a NUL byte.
    #[error("{}: a path must not hold a NUL byte: remove it", .0.display())]
    Nul(PathBuf),
}

/// What is wrong with a [`Config`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Guest RAM is too small or too large.
    #[error(
        "cannot give the guest {} of memory: too {}: choose {} to {}",
        Size(*.bytes),
        if *.bytes < MEMORY_BYTES_MIN { "small" } else { "large" },
        Size(MEMORY_BYTES_MIN),
        Size(MEMORY_BYTES_MAX)
    )]
    MemorySize {
        /// What was asked for.
        bytes: u64,
    },
    /// Guest RAM is no whole number of pages.
    #[error(
        "cannot give the guest {bytes} bytes of memory: not a multiple of {PAGE_SIZE}: \
         round it, {} for instance",
        bytes.next_multiple_of(PAGE_SIZE)
    )]
    MemoryAlignment {
        /// What was asked for.
        bytes: u64,
    },
    /// The number of CPUs is not supported.
    #[error(
        "cannot make a machine of {count} CPUs: the guest kernel drives one CPU so far: choose 1"
    )]
    CpuCount {
        /// What was asked for.
        count: u32,
    },
    /// A time limit of nothing.
    #[error("cannot run for no time: the limit is zero: choose a longer one, or none")]
    Timeout,
    /// The program's name is empty.
    #[error("cannot run '': the name is empty: give a path, or a name found in PATH")]
    NoProgram,
    /// A string holds a NUL byte.
    #[error("cannot pass {0:?}: Linux strings end at a NUL byte: remove it")]
    Nul(OsString),
    /// An environment entry is not `KEY=VALUE`.
    #[error("cannot set {0:?} in the environment: not of the form KEY=VALUE: name the variable")]
    Environment(OsString),
    /// One argument or environment entry is too long.
    #[error(
        "cannot run {}: Argument list too long: one argument or variable has {bytes} bytes, \
         {STRING_BYTES_MAX} are the most: pass it in a file",
        program.display()
    )]
    StringTooLong {
        /// The program.
        program: OsString,
        /// Length with NUL.
        bytes: usize,
    },
    /// Arguments and environment together are too long.
    #[error(
        "cannot run {}: Argument list too long: arguments and environment take {bytes} bytes, \
         {STRINGS_BYTES_MAX} are the most: pass them in a file",
        program.display()
    )]
    StringsTooLong {
        /// The program.
        program: OsString,
        /// Length with NULs and pointers.
        bytes: usize,
    },
    /// The working directory is no guest path.
    #[error("cannot use the working directory {0}")]
    Cwd(GuestPathError),
    /// The place of an addition is no guest path.
    #[error("cannot add a file at {0}")]
    GuestPath(GuestPathError),
    /// A host path cannot be used.
    #[error("{what} {}: {source}: {}", path.display(), host_path_remedy(path))]
    HostPath {
        /// What it was for.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn host_path_remedy(path: &Path) -> &'static str {
    if path.as_os_str().as_bytes().contains(&b':') {
        "give a readable path of the host; in HOST:GUEST the guest's path must be absolute"
    } else {
        "give a readable path of the host"
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        let kind = match error {
            ConfigError::StringTooLong { .. } | ConfigError::StringsTooLong { .. } => {
                Kind::NotExecutable
            }
            ConfigError::NoProgram => Kind::NotFound,
            _ => Kind::Vmm,
        };
        Self::new(kind, error.to_string())
    }
}

/// A number of bytes for people: the largest binary unit that leaves no fraction, or one decimal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        let bytes = self.0;
        let Some((unit, shift)) = UNITS.into_iter().find(|&(_, shift)| bytes >> shift != 0) else {
            return f.pad(&format!("{bytes} bytes"));
        };
        let (whole, rest) = (bytes >> shift, bytes & ((1 << shift) - 1));
        if rest == 0 {
            f.pad(&format!("{whole} {unit}"))
        } else {
            // rest < 2^40: ten times it fits.
            f.pad(&format!("{whole}.{} {unit}", (rest * 10) >> shift))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn message(config: &Config) -> String {
        Error::from(config.validate().unwrap_err()).line()
    }

    #[test]
    fn memory_limits() {
        let with = |bytes| Config::new("x").memory_bytes(bytes);
        for good in [MEMORY_BYTES_MIN, MEMORY_BYTES_DEFAULT, MEMORY_BYTES_MAX, (16 << 20) + 4096] {
            with(good).validate().unwrap();
        }
        let cases = [
            (0, "cannot give the guest 0 bytes of memory: too small: choose 16 MiB to 16 GiB"),
            (1 << 20, "cannot give the guest 1 MiB of memory: too small: choose 16 MiB to 16 GiB"),
            (
                900 << 40,
                "cannot give the guest 900 TiB of memory: too large: choose 16 MiB to 16 GiB",
            ),
            (
                (16 << 20) + 1,
                "cannot give the guest 16777217 bytes of memory: not a multiple of 4096: \
                 round it, 16781312 for instance",
            ),
        ];
        for (bytes, expected) in cases {
            assert_eq!(message(&with(bytes)), expected);
        }
    }

    #[test]
    fn one_cpu_so_far() {
        for count in [0, 2, u32::MAX] {
            let mut config = Config::new("x");
            config.cpu_count = count;
            assert!(message(&config).contains("choose 1"));
        }
    }

    #[test]
    fn guest_paths_are_absolute_and_straight() {
        Config::new("x").cwd("/tmp").addition("/", "/a/./b").validate().unwrap();
        for bad in [Config::new("x").cwd("tmp"), Config::new("x").addition("/", "/a/../b")] {
            assert!(message(&bad).contains("a guest path must"));
        }
    }

    #[test]
    fn missing_host_paths_are_named() {
        let config = Config::new("x").addition("/no/such", "/a");
        assert_eq!(
            message(&config),
            "cannot add /no/such: No such file or directory (os error 2): \
             give a readable path of the host"
        );
        assert!(message(&Config::new("x").root("/no:such")).contains("must be absolute"));
    }

    #[test]
    fn execve_limits_are_those_of_linux() {
        let code = |config: &Config| Error::from(config.validate().unwrap_err()).exit_code();
        let longest = "a".repeat(STRING_BYTES_MAX - 1);
        let config = Config::new("x").arg(longest.clone());
        config.validate().unwrap();
        assert_eq!(code(&config.clone().arg(longest.clone() + "a")), 126);
        assert_eq!(code(&config.args(vec![longest; 16])), 126);
        assert_eq!(code(&Config::new("")), 127);
        assert_eq!(code(&Config::new("x\0y")), 125);
    }

    #[test]
    fn environment_is_chosen_and_keeps_its_order() {
        let pair = |key: &str, value: &[u8]| (key.into(), OsString::from_vec(value.to_vec()));
        let host = [
            pair("SECRET", b"1"),
            pair("TERM", b"dumb"),
            pair("LC_ALL", b"C"),
            pair("PATH", b"/\xff"),
            pair("COLUMNS", b"80"),
        ];
        let config = Config::new("x").inherit_env(host).env("TERM", "xterm").env("A", "b=c");
        let expected: Vec<OsString> =
            [b"TERM=xterm" as &[u8], b"LC_ALL=C", b"PATH=/\xff", b"A=b=c"]
                .map(|entry| OsString::from_vec(entry.to_vec()))
                .into();
        assert_eq!(config.environment, expected);
        config.validate().unwrap();
    }

    #[test]
    fn sizes_for_people() {
        let cases = [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (256 << 20, "256 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
