//! The command line: flags in, [`Config`] out. Nothing else knows flags.

#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{self, Addition, Config, Console, StatsFormat, StatsRequest};
use crate::exit_code;

/// What the user asks for.
#[derive(Debug)]
pub enum Command {
    /// `vmm run`.
    Run(Box<Config>),
}

/// A command line that ends here: a request for help, or a mistake.
#[derive(Debug)]
pub struct Stop(clap::Error);

impl Stop {
    /// Prints help on standard output, mistakes on standard error; returns the exit code: zero for help
    /// and version, [`exit_code::VMM_FAILED`] for a mistake or help that could not be written. A reader
    /// that has seen enough (`vmm --help | head -1`) is no failure.
    pub fn report(&self) -> u8 {
        match self.print() {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => exit_code::VMM_FAILED,
            _ => self.exit_code(),
        }
    }

    fn print(&self) -> io::Result<()> {
        match self.0.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => self.0.print(),
            _ => {
                let text = self.0.to_string();
                let text = text.strip_prefix("error: ").unwrap_or(&text);
                io::stderr().lock().write_all(format!("vmm: {text}").as_bytes())
            }
        }
    }

    fn exit_code(&self) -> u8 {
        if self.0.use_stderr() { exit_code::VMM_FAILED } else { 0 }
    }
}

/// Reads a command line; `host_environment` is what the program's environment is chosen from.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    host_environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Command, Stop> {
    let cli = Cli::try_parse_from(arguments).map_err(Stop)?;
    match cli.command {
        Subcommands::Run(run) => {
            let host_environment: Vec<_> = host_environment.into_iter().collect();
            Ok(Command::Run(Box::new(run.into_config(host_environment))))
        }
    }
}

const ABOUT: &str = "\
Runs unmodified Linux programs, each in ring 3 of a small kernel of its own inside a KVM machine.
No root, no image, no set-up: it starts in milliseconds and exits with the program's exit code.";

const EXAMPLES: &str = "\
Examples:
  vmm run /bin/echo hello               a program of the host, found libraries and all
  vmm run ls -la /                      found in PATH; its flags are its own
  printf 'b\\na\\n' | vmm run sort        the three standard streams are the host's
  vmm run --timeout 10s --stats ./a.out what it cost: exits, time, system calls, faults, memory";

const RUN_ABOUT: &str = "\
Runs PROGRAM in a machine of its own and exits with its exit code.
Of the host it sees its own file, its libraries and what --file, --dir and --root add: no more.";

const RUN_EXAMPLES: &str = "\
Examples:
  vmm run /bin/echo hello
  vmm run --file data.bin:/data sha256sum /data
  vmm run --dir /usr/lib/python3.13 -e PYTHONHASHSEED=0 python3 -c 'print(6*7)'
  vmm run --root rootfs.erofs --memory 1G --cwd /srv /srv/server
  vmm run --stats=json --stats-file stats.json ./a.out";

const TERMINAL_HELP: &str = "\
Terminal:
  A standard stream is a terminal in the guest when it is one here. Ctrl-C and Ctrl-D go to the
  program. Ctrl-A x leaves at once; Ctrl-A a sends one Ctrl-A.";

const TEMPLATE: &str = "{about-with-newline}\n{usage-heading} {usage}\n\n{all-args}{after-help}";

const RUN_TEMPLATE: &str = "\
{usage-heading} {usage}

Arguments:
  PROGRAM    A path (it holds a slash), or a name to be found in PATH
  [ARGS]...  Its arguments; hyphens and all, they are the program's

{all-args}{after-help}";

#[derive(Parser)]
#[command(
    name = "vmm",
    version,
    about = ABOUT,
    after_help = format!("{EXAMPLES}\n\nExit codes of `vmm run`:\n{}", indent(exit_code::TABLE)),
    help_template = TEMPLATE,
    subcommand_value_name = "COMMAND"
)]
struct Cli {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Run a Linux program in a machine of its own
    #[command(
        override_usage = "vmm run [OPTIONS] PROGRAM [ARGS]...",
        after_help = format!(
            "{RUN_EXAMPLES}\n\n{TERMINAL_HELP}\n\nExit codes:\n{}",
            indent(exit_code::TABLE)
        ),
        help_template = format!("{RUN_ABOUT}\n\n{RUN_TEMPLATE}")
    )]
    Run(Run),
}

#[derive(Args)]
struct Run {
    /// Memory of the machine: 16M to 16G, in bytes or with K, M, G, T (or KiB, MiB, GiB, TiB)
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "256M",
        value_parser = parse_size,
        allow_hyphen_values = true,
        help_heading = "Machine"
    )]
    memory: u64,

    /// Virtual CPUs; one so far
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Machine")]
    cpus: u32,

    /// End the run after this long, with exit code 124: seconds, or 500ms, 1m30s, 2h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Machine")]
    timeout: Option<Duration>,

    /// Set a variable of the program's environment; KEY alone copies the host's, if it is set there.
    /// Copied without being asked: PATH, HOME, USER, LOGNAME, SHELL, TERM, LANG, TZ and LC_*
    #[arg(
        short,
        long,
        value_name = "KEY[=VALUE]",
        value_parser = OsStringValueParser::new().try_map(parse_variable),
        help_heading = "Program"
    )]
    env: Vec<Variable>,

    /// Working directory in the guest, absolute; by default the host's
    #[arg(
        long,
        value_name = "DIR",
        value_parser = OsStringValueParser::new().try_map(parse_cwd),
        help_heading = "Program"
    )]
    cwd: Option<PathBuf>,

    /// Add a file of the host to the root, at GUEST (absolute) or at its own path
    #[arg(
        long,
        value_name = "HOST[:GUEST]",
        value_parser = OsStringValueParser::new().try_map(parse_file),
        help_heading = "Files"
    )]
    file: Vec<Addition>,

    /// Add a directory of the host and all below it to the root, at GUEST or at its own path
    #[arg(
        long,
        value_name = "HOST[:GUEST]",
        value_parser = OsStringValueParser::new().try_map(parse_dir),
        help_heading = "Files"
    )]
    dir: Vec<Addition>,

    /// Take a directory, or an EROFS image that is ready, as the whole root
    #[arg(long, value_name = "DIR|IMAGE", help_heading = "Files")]
    root: Option<PathBuf>,

    /// Write what the run cost when it has ended: exits, time, system calls, faults, bytes, memory
    #[arg(
        long,
        value_name = "FORM",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "text",
        help_heading = "Diagnostics"
    )]
    stats: Option<Form>,

    /// Write the statistics to FILE and not to standard error; implies --stats
    #[arg(long, value_name = "FILE", help_heading = "Diagnostics")]
    stats_file: Option<PathBuf>,

    /// Show the guest kernel's log on standard error
    #[arg(short, long, help_heading = "Diagnostics")]
    verbose: bool,

    /// Boot another build of the guest kernel
    #[arg(long, value_name = "FILE", help_heading = "Advanced")]
    kernel: Option<PathBuf>,

    /// Words for the guest kernel's command line
    #[arg(
        long,
        value_name = "WORDS",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true,
        help_heading = "Advanced"
    )]
    cmdline: String,

    /// Where the program's output goes: the stdio doorbell, or COM1 (both streams, to stdout)
    #[arg(
        long,
        value_name = "WHERE",
        value_enum,
        default_value = "stdio",
        help_heading = "Advanced"
    )]
    console: ConsoleName,

    /// The program and its arguments: one list, so that all that follows the program is its own.
    #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true, hide = true)]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    Text,
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum ConsoleName {
    Stdio,
    Serial,
}

/// `-e KEY=VALUE`, or `-e KEY`.
#[derive(Clone)]
struct Variable {
    key: OsString,
    value: Option<OsString>,
}

impl Run {
    fn into_config(self, host_environment: Vec<(OsString, OsString)>) -> Config {
        let mut words = self.command.into_iter();
        let mut config = Config::new(words.next().unwrap_or_default())
            .args(words)
            .inherit_env(host_environment.iter().cloned());
        for Variable { key, value } in self.env {
            let host = || host_environment.iter().find(|(name, _)| *name == key).map(|(_, v)| v);
            if let Some(value) = value.as_ref().or_else(host) {
                config = config.env(&key, value);
            }
        }
        config.memory_bytes = self.memory;
        config.cpu_count = self.cpus;
        config.timeout = self.timeout;
        config.cwd = self.cwd;
        config.additions = self.dir.into_iter().chain(self.file).collect();
        config.root = self.root;
        config.kernel = self.kernel;
        config.cmdline = self.cmdline;
        config.verbose = self.verbose;
        config.console = match self.console {
            ConsoleName::Stdio => Console::Stdio,
            ConsoleName::Serial => Console::Serial,
        };
        config.stats = match (self.stats, self.stats_file) {
            (None, None) => None,
            (form, file) => {
                let format = match form {
                    Some(Form::Json) => StatsFormat::Json,
                    Some(Form::Text) | None => StatsFormat::Text,
                };
                Some(StatsRequest { format, file })
            }
        };
        config
    }
}

/// Digits and a binary unit.
fn parse_size(text: &str) -> Result<u64, String> {
    const EXPECTED: &str = "expected a whole number with K, M, G or T, such as 512M";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err(EXPECTED.to_owned()),
    };
    if number.is_empty() {
        return Err(EXPECTED.to_owned());
    }
    // All digits: the only way to fail is to be too large.
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "more bytes than any machine has: 16G is the most".to_owned())
}

/// Plain seconds, or the units of humantime.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?,
        Err(_) => humantime::parse_duration(text)
            .map_err(|error| format!("{error}; expected seconds, or 500ms, 1m30s, 2h"))?,
    };
    if duration.is_zero() {
        return Err("must be longer than zero; leave --timeout out for no limit".to_owned());
    }
    Ok(duration)
}

fn parse_variable(text: OsString) -> Result<Variable, String> {
    let (key, value) = match split_once(&text, b'=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (text, None),
    };
    if key.is_empty() {
        return Err("expected KEY=VALUE or KEY".to_owned());
    }
    Ok(Variable { key, value })
}

fn parse_cwd(text: OsString) -> Result<PathBuf, config::GuestPathError> {
    let path = PathBuf::from(text);
    config::validate_guest_path(&path)?;
    Ok(path.components().collect())
}

fn parse_file(text: OsString) -> Result<Addition, String> {
    let addition = parse_addition(&text)?;
    if addition.host.is_dir() {
        return Err("it is a directory: use --dir".to_owned());
    }
    Ok(addition)
}

fn parse_dir(text: OsString) -> Result<Addition, String> {
    let addition = parse_addition(&text)?;
    if addition.host.is_file() {
        return Err("it is a file: use --file".to_owned());
    }
    Ok(addition)
}

/// `HOST:GUEST`, parted at the last `:` before a `/`: colons are legal in file names.
fn parse_addition(text: &OsStr) -> Result<Addition, String> {
    let bytes = text.as_bytes();
    let (host, guest) = match bytes.windows(2).rposition(|pair| pair == b":/") {
        Some(colon) => {
            let (host, guest) = bytes.split_at(colon);
            let guest = guest.strip_prefix(b":").unwrap_or(guest);
            (PathBuf::from(OsStr::from_bytes(host)), PathBuf::from(OsStr::from_bytes(guest)))
        }
        None => (PathBuf::from(text), absolute(Path::new(text))?),
    };
    if host.as_os_str().is_empty() {
        return Err("HOST is empty; expected HOST or HOST:GUEST".to_owned());
    }
    config::validate_guest_path(&guest).map_err(|error| error.to_string())?;
    Ok(Addition { host, guest: guest.components().collect() })
}

/// Where a host path is in the guest by default. `..` is resolved by the host: only there are the links.
fn absolute(path: &Path) -> Result<PathBuf, String> {
    let named = || {
        let parent = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => return fs::canonicalize(path),
        };
        match path.file_name() {
            // The last name is kept even where it is a link: it is the name the program will use.
            Some(name) => Ok(fs::canonicalize(parent)?.join(name)),
            None => fs::canonicalize(path),
        }
    };
    if path.components().any(|component| component == std::path::Component::ParentDir) {
        named().map_err(|error| error.to_string())
    } else {
        std::path::absolute(path).map_err(|error| error.to_string())
    }
}

fn split_once(text: &OsStr, separator: u8) -> Option<(&OsStr, &OsStr)> {
    let mut parts = text.as_bytes().splitn(2, |&byte| byte == separator);
    let (before, after) = (parts.next()?, parts.next()?);
    Some((OsStr::from_bytes(before), OsStr::from_bytes(after)))
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {}\n", line.trim_start())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::os::unix::ffi::OsStringExt;

    fn try_run(words: &[&str]) -> Result<Config, Stop> {
        let words = ["vmm", "run"].iter().chain(words).map(OsString::from);
        let host = [("PATH", "/bin"), ("SECRET", "s"), ("LC_ALL", "C")];
        let host = host.map(|(key, value)| (key.into(), value.into()));
        parse(words, host).map(|Command::Run(config)| *config)
    }

    fn run(words: &[&str]) -> Config {
        try_run(words).unwrap_or_else(|stop| panic!("{words:?}: {}", stop.0))
    }

    /// What `vmm run x` makes.
    fn plain() -> Config {
        Config::new("x").env("PATH", "/bin").env("LC_ALL", "C")
    }

    #[test]
    fn clap_accepts_the_definition() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_become_fields() {
        let stats =
            |format, file: Option<&str>| StatsRequest { format, file: file.map(Into::into) };
        let cases: &[(&[&str], Config)] = &[
            (&["x"], plain()),
            (&["--memory", "16M", "x"], plain().memory_bytes(16 << 20)),
            (&["--memory=1GiB", "x"], plain().memory_bytes(1 << 30)),
            (&["--memory", "4096", "x"], plain().memory_bytes(4096)),
            (&["--memory", "2t", "x"], plain().memory_bytes(2 << 40)),
            (&["--cpus", "3", "x"], Config { cpu_count: 3, ..plain() }),
            (&["--timeout", "5", "x"], plain().timeout(Duration::from_secs(5))),
            (&["--timeout", ".25", "x"], plain().timeout(Duration::from_millis(250))),
            (&["--timeout", "1m30s", "x"], plain().timeout(Duration::from_secs(90))),
            (&["-e", "A=1", "--env=B=2=3", "x"], plain().env("A", "1").env("B", "2=3")),
            (&["-e", "A=", "x"], plain().env("A", "")),
            (&["-e", "SECRET", "-eNOT_SET", "x"], plain().env("SECRET", "s")),
            (&["-e", "PATH=/usr/bin", "x"], plain().env("PATH", "/usr/bin")),
            (&["--cwd", "/a//b/./c/", "x"], plain().cwd("/a/b/c")),
            (&["--file", "/etc/passwd", "x"], plain().addition("/etc/passwd", "/etc/passwd")),
            (&["--file", "/etc/passwd:/p", "x"], plain().addition("/etc/passwd", "/p")),
            (&["--file", "a:b:/p", "x"], plain().addition("a:b", "/p")),
            (&["--dir", "/usr/../etc", "x"], plain().addition("/usr/../etc", "/etc")),
            (&["--root", "r", "x"], plain().root("r")),
            (&["--kernel", "k", "x"], Config { kernel: Some("k".into()), ..plain() }),
            (&["--cmdline", "-a b", "x"], Config { cmdline: "-a b".into(), ..plain() }),
            (&["--stats", "x"], plain().stats(stats(StatsFormat::Text, None))),
            (&["--stats=json", "x"], plain().stats(stats(StatsFormat::Json, None))),
            (&["--stats-file", "f", "x"], plain().stats(stats(StatsFormat::Text, Some("f")))),
            (
                &["--stats=json", "--stats-file=f", "x"],
                plain().stats(stats(StatsFormat::Json, Some("f"))),
            ),
            (&["-v", "x"], Config { verbose: true, ..plain() }),
            (&["--console", "serial", "x"], Config { console: Console::Serial, ..plain() }),
        ];
        for (words, expected) in cases {
            assert_eq!(run(words), *expected, "{words:?}");
        }
    }

    #[test]
    fn what_follows_the_program_is_its_own() {
        let cases: &[(&[&str], &[&str])] = &[
            (&["x", "-v", "--help", "--memory", "1"], &["-v", "--help", "--memory", "1"]),
            (&["x", "--", "-l"], &["--", "-l"]),
            (&["--", "x", "-l"], &["-l"]),
            (&["--", "x", "--"], &["--"]),
            (&["x", "", "-", "--stats"], &["", "-", "--stats"]),
        ];
        for (words, arguments) in cases {
            assert_eq!(run(words), plain().args(*arguments), "{words:?}");
        }
        assert_eq!(run(&["--", "-x"]).program, "-x");
    }

    #[test]
    fn mistakes_exit_with_125_and_say_what_is_wrong() {
        let cases: &[(&[&str], &str)] = &[
            (&[], "PROGRAM"),
            (&["--no-such", "x"], "'--no-such'"),
            (&["--memroy", "1G", "x"], "'--memory'"),
            (&["--memory", "", "x"], "--memory"),
            (&["--memory", "lots", "x"], "such as 512M"),
            (&["--memory", "-1", "x"], "such as 512M"),
            (&["--memory", "1.5G", "x"], "such as 512M"),
            (&["--memory", "1MB", "x"], "such as 512M"),
            (&["--memory", "99999999999999999999", "x"], "16G is the most"),
            (&["--memory", "18014398509481984K", "x"], "16G is the most"),
            (&["--cpus", "many", "x"], "--cpus"),
            (&["--timeout", "0", "x"], "longer than zero"),
            (&["--timeout=-1", "x"], "negative"),
            (&["--timeout", "nan", "x"], "--timeout"),
            (&["--timeout", "1e99", "x"], "--timeout"),
            (&["--timeout", "soon", "x"], "1m30s"),
            (&["-e", "=1", "x"], "KEY=VALUE"),
            (&["-e", "", "x"], "-env"),
            (&["--cwd", "tmp", "x"], "must be absolute"),
            (&["--cwd", "/a/../b", "x"], "`..`"),
            (&["--file", "/etc:/e", "x"], "use --dir"),
            (&["--dir", "/etc/passwd", "x"], "use --file"),
            (&["--file", ":/e", "x"], "HOST is empty"),
            (&["--file", "/etc/passwd:/../e", "x"], "`..`"),
            (&["--stats=xml", "x"], "json"),
            (&["--console", "vga", "x"], "serial"),
        ];
        for (words, part) in cases {
            let stop = try_run(words).expect_err(&format!("{words:?}"));
            assert_eq!(stop.exit_code(), 125, "{words:?}");
            let text = stop.0.to_string();
            assert!(text.starts_with("error: ") && text.contains(part), "{words:?}: {text}");
        }
    }

    #[test]
    fn stats_takes_its_form_after_an_equals_sign_only() {
        let config = run(&["--stats", "json"]);
        assert_eq!(config.program, "json");
    }

    #[test]
    fn any_bytes_pass() {
        let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let words = [b"vmm" as &[u8], b"run", b"-e", b"K\xff=\xfe", b"--file", b"h\xff:/g\xff"];
        let words = words.into_iter().chain([b"p\xff" as &[u8], b"a\xff"]).map(bytes);
        let Command::Run(config) = parse(words, []).unwrap();
        let expected = Config::new(bytes(b"p\xff"))
            .arg(bytes(b"a\xff"))
            .env(bytes(b"K\xff"), bytes(b"\xfe"))
            .addition(bytes(b"h\xff"), bytes(b"/g\xff"));
        assert_eq!(*config, expected);
    }

    #[test]
    fn help_and_version_are_no_mistakes() {
        for words in [&["vmm", "--help"] as &[&str], &["vmm", "run", "-h"], &["vmm", "--version"]] {
            let stop = parse(words.iter().map(OsString::from), []).unwrap_err();
            assert_eq!(stop.exit_code(), 0);
        }
        let stop = parse(["vmm", "run", "--help"].map(OsString::from), []).unwrap_err();
        let text = stop.0.to_string();
        for part in ["Machine:", "Files:", "Examples:", "Exit codes:", "PROGRAM", "Ctrl-A x"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
