//! One program, run in a virtual machine or on the host, and what came of it.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal};

use crate::{limit, vmm_binary};

/// Time for a usual run.
const DEADLINE: Duration = Duration::from_secs(20);
/// As much of a stream as a failure message quotes.
const QUOTE_MAX: usize = 4000;

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In ring 3 of our kernel, by `vmm run`.
    Guest,
    /// On this machine's Linux.
    Host,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It had not ended at its deadline and was killed.
    Deadline,
}

/// Standard input of a run.
#[derive(Clone, Debug)]
enum Input {
    Null,
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// A program to run, and how.
#[derive(Clone, Debug)]
pub struct Run {
    program: OsString,
    args: Vec<OsString>,
    options: Vec<OsString>,
    launcher: Vec<OsString>,
    environment: Option<Vec<(OsString, OsString)>>,
    cwd: Option<PathBuf>,
    stdin: Input,
    deadline: Duration,
}

impl Run {
    /// Runs `program`, with no arguments and nothing on stdin.
    pub fn new(program: impl AsRef<OsStr>) -> Run {
        Run {
            program: program.as_ref().into(),
            args: Vec::new(),
            options: Vec::new(),
            launcher: Vec::new(),
            environment: None,
            cwd: None,
            stdin: Input::Null,
            deadline: DEADLINE,
        }
    }

    /// Arguments of the program.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().into()));
        self
    }

    /// Options of `vmm run`, without a meaning on the host.
    pub fn options(mut self, options: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run {
        self.options.extend(options.into_iter().map(|option| option.as_ref().into()));
        self
    }

    /// `--file` for a file of the host that the program shall find at the same path.
    pub fn file(self, path: impl AsRef<Path>) -> Run {
        self.options([OsStr::new("--file"), path.as_ref().as_os_str()])
    }

    /// A command that runs the command after it, such as `setsid -c`.
    pub fn launcher(mut self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run {
        self.launcher.extend(words.into_iter().map(|word| word.as_ref().into()));
        self
    }

    /// The whole environment, of the host's program and of `vmm`.
    pub fn environment(mut self, variables: &[(&str, &str)]) -> Run {
        self.environment = Some(variables.iter().map(|(k, v)| (k.into(), v.into())).collect());
        self
    }

    /// The working directory.
    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Run {
        self.cwd = Some(dir.into());
        self
    }

    /// Bytes for stdin, through a pipe.
    pub fn stdin_bytes(mut self, bytes: impl Into<Vec<u8>>) -> Run {
        self.stdin = Input::Bytes(bytes.into());
        self
    }

    /// A file for stdin.
    pub fn stdin_file(mut self, path: impl Into<PathBuf>) -> Run {
        self.stdin = Input::File(path.into());
        self
    }

    /// Another deadline than the usual one.
    pub fn deadline(mut self, deadline: Duration) -> Run {
        self.deadline = deadline;
        self
    }

    /// Runs it in a virtual machine.
    pub fn output(&self) -> Output {
        self.output_at(Place::Guest)
    }

    /// Runs it on the host.
    pub fn host_output(&self) -> Output {
        self.output_at(Place::Host)
    }

    /// Runs it on the host and in a virtual machine: bytes on stdout and the exit code must agree.
    /// Returns the guest's output.
    #[track_caller]
    pub fn same_as_host(&self) -> Output {
        let host = self.host_output();
        let guest = self.output();
        guest.expect_code(host.shell_code());
        if guest.stdout != host.stdout {
            guest.fail(&format!("on the host stdout is {}", quote(&host.stdout)));
        }
        guest
    }

    /// As [`Run::same_as_host`], and bytes on stderr must agree too.
    #[track_caller]
    pub fn same_as_host_with_stderr(&self) -> Output {
        let host = self.host_output();
        let guest = self.same_as_host();
        if guest.stderr != host.stderr {
            guest.fail(&format!("on the host stderr is {}", quote(&host.stderr)));
        }
        guest
    }

    fn output_at(&self, place: Place) -> Output {
        let stdin = match &self.stdin {
            Input::Null => Stdio::null(),
            Input::Bytes(_) => Stdio::piped(),
            Input::File(path) => File::open(path).expect("the file for stdin opens").into(),
        };
        let mut running = self.start(place, stdin, Stdio::piped(), Stdio::piped());
        let feeder = running.take_stdin().zip(self.stdin_content()).map(|(mut pipe, bytes)| {
            // The program may end without reading all of it.
            std::thread::spawn(move || drop(pipe.write_all(&bytes)))
        });
        let output = running.finish();
        if let Some(feeder) = feeder {
            feeder.join().expect("the thread that feeds stdin");
        }
        output
    }

    fn stdin_content(&self) -> Option<Vec<u8>> {
        match &self.stdin {
            Input::Bytes(bytes) => Some(bytes.clone()),
            Input::Null | Input::File(_) => None,
        }
    }

    /// Starts it with these streams; those that are [`Stdio::piped`] are collected.
    pub fn start(&self, place: Place, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Running {
        // A crash that a test provokes shall not leave a core file.
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        rustix::process::setrlimit(Resource::Core, none).expect("RLIMIT_CORE can be lowered");
        let words = self.words(place);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(stdin).stdout(stdout).stderr(stderr);
        if self.launcher.is_empty() {
            command.process_group(0);
        }
        if let Some(variables) = &self.environment {
            command.env_clear().envs(variables.iter().cloned());
        }
        if let Some(dir) = &self.cwd {
            command.current_dir(dir);
        }
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{:?}: {e}", words[0]));
        Running {
            run: self.clone(),
            place,
            until: Instant::now() + limit(self.deadline),
            stdin: child.stdin.take(),
            stdout: Collector::start(child.stdout.take()),
            stderr: Collector::start(child.stderr.take()),
            child,
        }
    }

    fn words(&self, place: Place) -> Vec<OsString> {
        let mut words = self.launcher.clone();
        if place == Place::Guest {
            words.push(vmm_binary().into());
            words.push("run".into());
            words.extend(self.options.iter().cloned());
        }
        words.push(self.program.clone());
        words.extend(self.args.iter().cloned());
        words
    }
}

/// Collects what comes out of a descriptor; tests can wait for it.
#[derive(Clone)]
pub struct Collector {
    shared: Arc<(Mutex<Collected>, Condvar)>,
}

#[derive(Default)]
struct Collected {
    bytes: Vec<u8>,
    ended: bool,
}

impl Collector {
    /// Collects from `source` until its end; nothing from `None`.
    pub fn start(source: Option<impl Read + Send + 'static>) -> Collector {
        let collected = Collected { ended: source.is_none(), ..Collected::default() };
        let shared = Arc::new((Mutex::new(collected), Condvar::new()));
        if let Some(mut source) = source {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                loop {
                    // A terminal whose other side is closed answers with EIO: that is its end.
                    let count = source.read(&mut buffer).unwrap_or(0);
                    let mut collected = shared.0.lock().expect("no collector panics");
                    collected.bytes.extend_from_slice(&buffer[..count]);
                    collected.ended = count == 0;
                    shared.1.notify_all();
                    if count == 0 {
                        return;
                    }
                }
            });
        }
        Collector { shared }
    }

    /// Waits until `enough` says so of what has come; false at the end of the stream or at `until`.
    pub fn wait_until(&self, until: Instant, enough: impl Fn(&[u8]) -> bool) -> bool {
        let mut collected = self.shared.0.lock().expect("no collector panics");
        while !enough(&collected.bytes) {
            let left = until.saturating_duration_since(Instant::now());
            if collected.ended || left.is_zero() {
                return false;
            }
            collected = self.shared.1.wait_timeout(collected, left).expect("no collector panics").0;
        }
        true
    }

    /// All that has come up to now.
    pub fn bytes(&self) -> Vec<u8> {
        self.shared.0.lock().expect("no collector panics").bytes.clone()
    }

    fn wait_for_end(&self, until: Instant) {
        self.wait_until(until, |_| false);
    }
}

/// A program that runs.
pub struct Running {
    run: Run,
    place: Place,
    child: Child,
    until: Instant,
    stdin: Option<ChildStdin>,
    stdout: Collector,
    stderr: Collector,
}

impl Running {
    /// The pipe to its stdin. Closing it is the end of the input.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// When it must have ended.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Waits until it has printed `text`.
    #[track_caller]
    pub fn wait_for_stdout(&mut self, text: &str) {
        if !self.stdout.wait_until(self.until, |bytes| contains(bytes, text.as_bytes())) {
            let output = self.end_now();
            output.fail(&format!("it did not print {text:?}"));
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("the process is there");
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Output {
        drop(self.stdin.take());
        let ended = self.wait(self.until);
        if !ended {
            return self.end_now();
        }
        self.collect(false)
    }

    fn end_now(&mut self) -> Output {
        let _ = self.child.kill();
        // Its process group too: children of a host program may hold the pipes open.
        let _ = rustix::process::kill_process_group(self.pid(), Signal::KILL);
        self.collect(true)
    }

    fn collect(&mut self, killed: bool) -> Output {
        let status = self.child.wait().expect("the child can be waited for");
        let end = match (killed, status.code(), status.signal()) {
            (true, ..) => End::Deadline,
            (_, Some(code), _) => End::Code(code),
            (_, None, signal) => End::Signal(signal.expect("a code or a signal")),
        };
        let patience = Instant::now() + limit(Duration::from_secs(5));
        self.stdout.wait_for_end(patience);
        self.stderr.wait_for_end(patience);
        Output {
            run: self.run.clone(),
            place: self.place,
            end,
            stdout: self.stdout.bytes(),
            stderr: self.stderr.bytes(),
        }
    }

    fn wait(&self, until: Instant) -> bool {
        let pidfd = rustix::process::pidfd_open(self.pid(), PidfdFlags::empty())
            .expect("a descriptor of the child");
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).expect("a deadline within the century");
            match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => return false,
                Ok(_) => return true,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("poll: {error}"),
            }
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = rustix::process::kill_process_group(self.pid(), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Output {
    run: Run,
    place: Place,
    /// How it ended.
    pub end: End,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text.
    #[track_caller]
    pub fn stdout_text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap_or_else(|_| self.fail("stdout is not text"))
    }

    /// Standard error as text.
    #[track_caller]
    pub fn stderr_text(&self) -> &str {
        std::str::from_utf8(&self.stderr).unwrap_or_else(|_| self.fail("stderr is not text"))
    }

    /// The exit code that a shell would show: 128+N after signal N.
    #[track_caller]
    pub fn shell_code(&self) -> i32 {
        match self.end {
            End::Code(code) => code,
            End::Signal(signal) => 128 + signal,
            End::Deadline => self.fail("it did not end"),
        }
    }

    /// It ended by itself with this exit code.
    #[track_caller]
    pub fn expect_code(&self, code: i32) -> &Output {
        if self.end != End::Code(code) {
            self.fail(&format!("expected exit code {code}"));
        }
        self
    }

    /// It printed exactly this.
    #[track_caller]
    pub fn expect_stdout(&self, expected: impl AsRef<[u8]>) -> &Output {
        if self.stdout != expected.as_ref() {
            self.fail(&format!("expected on stdout: {}", quote(expected.as_ref())));
        }
        self
    }

    /// Standard error has this in it.
    #[track_caller]
    pub fn expect_in_stderr(&self, expected: &str) -> &Output {
        if !contains(&self.stderr, expected.as_bytes()) {
            self.fail(&format!("expected in stderr: {expected:?}"));
        }
        self
    }

    /// Standard error is one line.
    #[track_caller]
    pub fn expect_one_line_on_stderr(&self) -> &Output {
        let text = self.stderr_text();
        if text.lines().count() != 1 || !text.ends_with('\n') || text.trim().is_empty() {
            self.fail("expected exactly one line on stderr");
        }
        self
    }

    /// Nothing on standard error.
    #[track_caller]
    pub fn expect_no_stderr(&self) -> &Output {
        if !self.stderr.is_empty() {
            self.fail("expected nothing on stderr");
        }
        self
    }

    /// Fails the test: says what was run, what came of it, and what the kernel logs when it is run again.
    #[track_caller]
    pub fn fail(&self, why: &str) -> ! {
        let mut text = format!("{why}\n  ran: {}\n  ended: {:?}\n", self.command_line(), self.end);
        let _ = writeln!(text, "  stdout: {}", quote(&self.stdout));
        let _ = writeln!(text, "  stderr: {}", quote(&self.stderr));
        if self.place == Place::Guest && !self.run.options.iter().any(|option| option == "-v") {
            let mut again = self.run.clone().options(["-v"]);
            again.deadline = again.deadline.min(DEADLINE);
            if again.launcher.first().is_some_and(|word| word == "setsid") {
                again.launcher.clear(); // the terminal is gone
            }
            let again = again.output();
            let _ = writeln!(text, "  the same with -v, nothing else on stdin: {:?}", again.end);
            let tail = &again.stderr[again.stderr.len().saturating_sub(QUOTE_MAX)..];
            let _ = writeln!(text, "{}", String::from_utf8_lossy(tail));
        }
        panic!("{text}");
    }

    fn command_line(&self) -> String {
        let words = self.run.words(self.place);
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }
}

/// Whether `needle` is somewhere in `bytes`.
pub fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || bytes.windows(needle.len()).any(|window| window == needle)
}

fn quote(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(QUOTE_MAX)];
    let more = if bytes.len() > head.len() { "…" } else { "" };
    format!("{} bytes, \"{}\"{more}", bytes.len(), head.escape_ascii())
}
