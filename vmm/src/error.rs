//! The top error: what ends a run before, or instead of, the program's own exit.
//!
//! It prints as one line, `what: why: what to do`: the failed thing, the chain of sources, the remedy.
//! Modules keep error enums of their own; they become this one where [`crate::run`] meets them, with
//! the [`Kind`] that decides the exit code.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::{self, Write as _};
use std::io::Write as _;

use crate::{exit_code, program, root, terminal};

/// What sort of failure it is; each has an exit code of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The VMM could not set up the machine, or could not go on.
    Vmm,
    /// The program was found but cannot be executed.
    NotExecutable,
    /// The program was not found.
    NotFound,
    /// The wall-clock limit was over.
    TimedOut,
    /// The guest kernel panicked, or the virtual CPU gave up.
    GuestCrashed,
}

impl Kind {
    /// The process exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Vmm => exit_code::VMM_FAILED,
            Self::NotExecutable => exit_code::NOT_EXECUTABLE,
            Self::NotFound => exit_code::NOT_FOUND,
            Self::TimedOut => exit_code::TIMED_OUT,
            Self::GuestCrashed => exit_code::GUEST_CRASHED,
        }
    }
}

/// Why a run failed.
///
/// ```
/// use vmm::error::{Error, Kind};
///
/// let refused = std::io::Error::from_raw_os_error(13);
/// let error = Error::new(Kind::Vmm, "cannot open /dev/kvm")
///     .because(refused)
///     .remedy("add yourself to its group: sudo usermod -aG kvm $USER");
/// assert_eq!(error.exit_code(), 125);
/// assert_eq!(
///     error.line(),
///     "cannot open /dev/kvm: Permission denied (os error 13): \
///      add yourself to its group: sudo usermod -aG kvm $USER"
/// );
/// ```
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    what: String,
    why: Option<Box<dyn StdError + Send + Sync>>,
    remedy: Option<Cow<'static, str>>,
}

impl Error {
    /// An error of `kind`; `what` names the thing that failed.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), why: None, remedy: None }
    }

    /// Adds the cause: another error, or a text.
    #[must_use]
    pub fn because(mut self, why: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<Cow<'static, str>>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The sort of failure.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The process exit code.
    pub fn exit_code(&self) -> u8 {
        self.kind.exit_code()
    }

    /// The whole error on one line, control characters escaped.
    pub fn line(&self) -> String {
        let mut text = self.what.clone();
        let mut source = self.source();
        while let Some(error) = source {
            let why = error.to_string();
            // Some libraries repeat their source in their own text.
            if !why.is_empty() && !text.ends_with(&why) {
                let _ = write!(text, ": {why}");
            }
            source = error.source();
        }
        if let Some(remedy) = &self.remedy {
            let _ = write!(text, ": {remedy}");
        }
        one_line(&text)
    }

    /// Prints `vmm: ` and the line to standard error, where nothing can be done about a failure.
    pub fn print(&self) {
        print_line(&self.line());
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.why.as_deref().map(|why| why as _)
    }
}

impl From<program::Error> for Error {
    /// Its text is the whole line already.
    fn from(error: program::Error) -> Self {
        let kind = match error.exit_code() {
            exit_code::NOT_FOUND => Kind::NotFound,
            _ => Kind::NotExecutable,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<root::Error> for Error {
    /// Its text is the whole line already.
    fn from(error: root::Error) -> Self {
        let kind = match error.exit_code() {
            exit_code::NOT_FOUND => Kind::NotFound,
            _ => Kind::Vmm,
        };
        Self::new(kind, error.to_string())
    }
}

/// Prints `vmm: ` and `text` to standard error; a closed or full standard error is not our problem.
pub fn print_line(text: &str) {
    let line = format!("vmm: {text}{}", terminal::line_end());
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// Prints text of our own making, of one or more lines, as it is.
pub fn print_text(text: &str) {
    let text = format!("{}\n", text.trim_end());
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// `text` with control characters escaped: file names and guests must not drive the user's terminal.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_debug());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer: {0}")]
    struct Repeating(#[source] std::num::ParseIntError);

    #[test]
    fn the_line_is_what_why_remedy() {
        let number = "x".parse::<u8>().unwrap_err();
        let cases: [(Error, &str); 4] = [
            (Error::new(Kind::Vmm, "a"), "a"),
            (Error::new(Kind::Vmm, "a").remedy("c"), "a: c"),
            (Error::new(Kind::Vmm, "a\n\x1b[2J").because("b"), "a\\n\\u{1b}[2J: b"),
            (
                Error::new(Kind::Vmm, "a").because(Repeating(number)).remedy("c"),
                "a: outer: invalid digit found in string: c",
            ),
        ];
        for (error, line) in cases {
            assert_eq!(error.line(), line);
        }
    }

    #[test]
    fn a_program_that_cannot_run_keeps_its_code() {
        let missing = Error::from(program::Error::NotFound("/no/such".into(), None));
        assert_eq!((missing.exit_code(), missing.kind()), (127, Kind::NotFound));
        let directory = Error::from(program::Error::Directory("/tmp".into()));
        assert_eq!(directory.line(), "/tmp: is a directory: name a program in it");
        assert_eq!(directory.exit_code(), 126);
        let image = Error::from(root::Error::FixedImage("/image".into()));
        assert_eq!(image.exit_code(), 125);
    }

    #[test]
    fn kinds_have_the_documented_codes() {
        let kinds = [
            (Kind::TimedOut, 124),
            (Kind::Vmm, 125),
            (Kind::NotExecutable, 126),
            (Kind::NotFound, 127),
            (Kind::GuestCrashed, 255),
        ];
        for (kind, code) in kinds {
            assert_eq!(Error::new(kind, "").exit_code(), code);
        }
    }
}
