//! Finds the program on the host and checks, before any machine exists, that it can run.
//!
//! What is checked is what Linux's `execve` checks (`fs/binfmt_elf.c`, `fs/binfmt_script.c`, man 2
//! execve), so that a mistake costs one line on standard error and the exit code that a shell would
//! give: [`Error::exit_code`].

#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::root::elf::{Elf, ElfError, HEAD_LEN, Role};
use crate::root::resolve::resolve;

/// Linux looks at this much of a script's first line (`BINPRM_BUF_SIZE`).
const SCRIPT_HEAD_LEN: usize = 256;
/// The most scripts that interpret one another (Linux: `exec_binprm`).
const SCRIPT_DEPTH_MAX: usize = 4;
/// Where to search when there is no PATH (glibc: `confstr(_CS_PATH)`).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Why the program cannot run. One line each: what, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is the empty string.
    #[error("PROGRAM is empty: name a program")]
    NoName,
    /// A path that leads nowhere.
    #[error("{}: no such file: check the path{}", .0.display(), in_root(.1))]
    NotFound(PathBuf, Option<PathBuf>),
    /// A bare name that no directory in PATH has.
    #[error("{}: not found in PATH ({}): give its path, or set PATH{}",
        .0.display(), .1.display(), in_root(.2))]
    NotInPath(PathBuf, OsString, Option<PathBuf>),
    /// The kernel refused to look.
    #[error("{}: cannot be reached: {source}: check the path", path.display())]
    Unreachable {
        /// The program.
        path: PathBuf,
        /// What the host's kernel said.
        source: io::Error,
    },
    /// A directory.
    #[error("{}: is a directory: name a program in it", .0.display())]
    Directory(PathBuf),
    /// A device, a pipe, a socket.
    #[error("{}: is not a regular file: name a program", .0.display())]
    NotRegular(PathBuf),
    /// The caller may not execute it.
    #[error("{}: has no execute permission: run chmod +x {}", .0.display(), .0.display())]
    NotExecutable(PathBuf),
    /// The caller may not read it, so its pages cannot be given to the guest.
    #[error("{}: cannot be read: {source}: run chmod +r {}", path.display(), path.display())]
    NotReadable {
        /// The program.
        path: PathBuf,
        /// What the host's kernel said.
        source: io::Error,
    },
    /// Zero bytes long.
    #[error("{}: is empty: build or copy it again", .0.display())]
    Empty(PathBuf),
    /// Text, but nothing says which interpreter.
    #[error("{}: is text without #!: put #!/bin/sh on its first line, or run sh {}",
        .0.display(), .0.display())]
    NoInterpreterLine(PathBuf),
    /// Neither ELF nor a script.
    #[error("{}: is neither an ELF program nor a script: name a Linux program", .0.display())]
    UnknownFormat(PathBuf),
    /// A `#!` line that Linux does not accept.
    #[error("{}: its #! line names no interpreter within {SCRIPT_HEAD_LEN} bytes: correct the line",
        .0.display())]
    BadInterpreterLine(PathBuf),
    /// Scripts that interpret scripts without end.
    #[error("{}: its #! lines nest more than {SCRIPT_DEPTH_MAX} deep: name a program there",
        .0.display())]
    TooDeep(PathBuf),
    /// The interpreter of a script cannot run.
    #[error("{}: bad interpreter: {source}", script.display())]
    ScriptInterpreter {
        /// The script.
        script: PathBuf,
        /// What is wrong with its interpreter.
        source: Box<Error>,
    },
    /// An ELF file that cannot run.
    #[error("{}: {source}", path.display())]
    Elf {
        /// The program.
        path: PathBuf,
        /// What is wrong with it.
        source: ElfError,
    },
    /// The ELF interpreter (ld.so) cannot run.
    #[error("{}: its ELF interpreter cannot be used: {source} (install its libc, or link it \
        with -static)", program.display())]
    ElfInterpreter {
        /// The program.
        program: PathBuf,
        /// What is wrong with its interpreter.
        source: Box<Error>,
    },
}

fn in_root(root: &Option<PathBuf>) -> String {
    root.as_ref().map(|root| format!(" inside --root {}", root.display())).unwrap_or_default()
}

impl Error {
    /// 127 if it was not found, 126 if it was found and cannot run: the shell's rule.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::NoName | Error::NotFound(..) | Error::NotInPath(..) => 127,
            Error::ScriptInterpreter { source, .. } | Error::ElfInterpreter { source, .. } => {
                source.exit_code()
            }
            _ => 126,
        }
    }
}

/// A program that can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its absolute path in the guest, links not resolved. With a ready image as the root, where the
    /// host cannot look, it is what the user gave: possibly a bare name that the guest searches for.
    pub path: PathBuf,
    /// What is executed, in order: the program, and if that is a script its interpreter, and so on;
    /// behind `#!/usr/bin/env NAME` also what NAME is in the search path. Empty with a ready image as
    /// the root.
    pub chain: Vec<Link>,
}

/// One file of a [`Program`]'s chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its absolute path in the guest.
    pub path: PathBuf,
    /// Its headers, if it is an ELF file.
    pub(crate) elf: Option<Elf>,
}

impl Program {
    /// Finds and checks `config.program`, with the search path of this process.
    pub fn find(config: &Config) -> Result<Program, Error> {
        Program::find_in(config, std::env::var_os("PATH").as_deref())
    }

    /// Finds and checks `config.program`; a bare name is searched in the directories of `search_path`.
    ///
    /// With a directory as the root all paths are the guest's, the search path is the one in
    /// `config.environment`, and symbolic links are followed inside of that directory.
    pub fn find_in(config: &Config, search_path: Option<&OsStr>) -> Result<Program, Error> {
        if config.program.is_empty() {
            return Err(Error::NoName);
        }
        let name = Path::new(&config.program);
        let Some(root) = &config.root else {
            let search_path = search_path.unwrap_or(OsStr::new(DEFAULT_PATH));
            let cwd = std::env::current_dir()
                .map_err(|source| Error::Unreachable { path: name.to_path_buf(), source })?;
            return Finder { base: Path::new("/"), root: None, cwd: &cwd }.find(name, search_path);
        };
        let cwd = config.cwd.clone().unwrap_or_else(|| PathBuf::from("/"));
        if !root.is_dir() {
            let path = match is_bare(name) {
                true => name.to_path_buf(),
                false => cwd.join(name),
            };
            return Ok(Program { path, chain: Vec::new() });
        }
        let search_path = config.environment.iter().find_map(|entry| variable(entry, "PATH"));
        Finder { base: root, root: Some(root), cwd: &cwd }
            .find(name, search_path.unwrap_or(OsStr::new(DEFAULT_PATH)))
    }
}

/// The value of an environment entry if its key is `key`.
pub(crate) fn variable<'a>(entry: &'a OsStr, key: &str) -> Option<&'a OsStr> {
    let value = entry.as_bytes().strip_prefix(key.as_bytes())?.strip_prefix(b"=")?;
    Some(OsStr::from_bytes(value))
}

fn is_bare(name: &Path) -> bool {
    !name.as_os_str().as_bytes().contains(&b'/')
}

/// Where to look.
struct Finder<'a> {
    /// The host directory that is the guest's root.
    base: &'a Path,
    /// The same when the user named it, for messages.
    root: Option<&'a PathBuf>,
    /// Working directory, absolute, in the guest.
    cwd: &'a Path,
}

impl Finder<'_> {
    fn find(&self, name: &Path, search_path: &OsStr) -> Result<Program, Error> {
        let path = match is_bare(name) {
            true => self.search(name, search_path)?,
            false => self.cwd.join(name),
        };
        // Without `.` and doubled slashes; `..` stays, it may follow a link.
        let path: PathBuf = path.components().collect();
        let chain = self.check_chain(&path, search_path)?;
        Ok(Program { path, chain })
    }

    /// As `execvp` does: the first file that could be executed; else, if there were files that could
    /// not, the complaint about the first of them.
    fn search(&self, name: &Path, search_path: &OsStr) -> Result<PathBuf, Error> {
        let mut refusal = None;
        for directory in search_path.as_bytes().split(|&byte| byte == b':') {
            // An empty entry is the working directory.
            let path = self.cwd.join(OsStr::from_bytes(directory)).join(name);
            match self.open(&path) {
                Ok(_) => return Ok(path),
                Err(Error::NotFound(..)) => {}
                // A directory of that name, or a search path entry that is a file: not what is meant.
                Err(Error::Directory(_) | Error::Unreachable { .. }) => {}
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        Err(refusal.unwrap_or_else(|| {
            let root = self.root.cloned();
            Error::NotInPath(name.to_path_buf(), search_path.to_os_string(), root)
        }))
    }

    fn check_chain(&self, program: &Path, search_path: &OsStr) -> Result<Vec<Link>, Error> {
        let mut chain = Vec::new();
        let mut path = program.to_path_buf();
        let mut script_count = 0;
        // What `env` on the last script's first line will execute.
        let mut env_name = None;
        loop {
            let checked = self.check(&path).map_err(|error| blame(error, &chain))?;
            path = match checked {
                Checked::Script(line) => {
                    chain.push(Link { path, elf: None });
                    script_count += 1;
                    if script_count > SCRIPT_DEPTH_MAX {
                        return Err(Error::TooDeep(program.to_path_buf()));
                    }
                    env_name = line.env_name();
                    self.cwd.join(line.interpreter)
                }
                Checked::Elf(elf) => {
                    self.check_elf_interpreter(&path, &elf)
                        .map_err(|error| blame(error, &chain))?;
                    chain.push(Link { path, elf: Some(elf) });
                    // A name that is not found is for `env` to complain about.
                    match env_name.take().map(|name| self.search(&name, search_path)) {
                        Some(Ok(path)) => path,
                        Some(Err(_)) | None => return Ok(chain),
                    }
                }
            };
        }
    }

    fn check_elf_interpreter(&self, program: &Path, elf: &Elf) -> Result<(), Error> {
        let Some(interpreter) = &elf.interpreter else {
            return Ok(());
        };
        let path = self.cwd.join(interpreter);
        let checked = self.check(&path).and_then(|checked| match checked {
            Checked::Elf(_) => Ok(()),
            Checked::Script(_) => Err(Error::UnknownFormat(path)),
        });
        checked.map_err(|source| Error::ElfInterpreter {
            program: program.to_path_buf(),
            source: Box::new(source),
        })
    }

    /// Opens a file that the caller may execute.
    fn open(&self, path: &Path) -> Result<(File, Metadata), Error> {
        let fail = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => Error::NotFound(path.to_path_buf(), self.root.cloned()),
            _ => Error::Unreachable { path: path.to_path_buf(), source },
        };
        let host = resolve(self.base, path).map_err(fail)?;
        let metadata = host.metadata().map_err(fail)?;
        if metadata.is_dir() {
            return Err(Error::Directory(path.to_path_buf()));
        }
        if !metadata.is_file() {
            return Err(Error::NotRegular(path.to_path_buf()));
        }
        if !may_execute(&metadata) {
            return Err(Error::NotExecutable(path.to_path_buf()));
        }
        match File::open(&host) {
            Ok(file) => Ok((file, metadata)),
            Err(source) => Err(Error::NotReadable { path: path.to_path_buf(), source }),
        }
    }

    fn check(&self, path: &Path) -> Result<Checked, Error> {
        let (file, metadata) = self.open(path)?;
        let mut head = [0; HEAD_LEN];
        let head_len = file
            .read_at(&mut head, 0)
            .map_err(|source| Error::NotReadable { path: path.to_path_buf(), source })?;
        let head = head.get(..head_len).unwrap_or(&head);
        if head.is_empty() {
            return Err(Error::Empty(path.to_path_buf()));
        }
        if head.starts_with(b"#!") {
            return match ScriptLine::parse(head) {
                Some(line) => Ok(Checked::Script(line)),
                None => Err(Error::BadInterpreterLine(path.to_path_buf())),
            };
        }
        if head.starts_with(b"\x7fELF") {
            return Elf::parse(&file, metadata.len(), head, Role::Program)
                .map(Checked::Elf)
                .map_err(|source| Error::Elf { path: path.to_path_buf(), source });
        }
        // The shell's test: a NUL in the first line makes it binary.
        let first_line = head.split(|&byte| byte == b'\n').next().unwrap_or(head);
        match first_line.contains(&0) || head.starts_with(b"\x7f") {
            true => Err(Error::UnknownFormat(path.to_path_buf())),
            false => Err(Error::NoInterpreterLine(path.to_path_buf())),
        }
    }
}

enum Checked {
    Script(ScriptLine),
    Elf(Elf),
}

/// Says which script wanted what cannot run.
fn blame(error: Error, chain: &[Link]) -> Error {
    chain.iter().rev().fold(error, |source, link| Error::ScriptInterpreter {
        script: link.path.clone(),
        source: Box::new(source),
    })
}

/// A script's first line.
struct ScriptLine {
    interpreter: PathBuf,
    /// The rest of the line: one argument, blanks and all.
    argument: OsString,
}

impl ScriptLine {
    /// By the rules of `load_script`: blanks around the interpreter do not count, and the line must
    /// end, or its interpreter must be followed by a blank, within 256 bytes.
    fn parse(head: &[u8]) -> Option<ScriptLine> {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        // Linux's buffer ends in NULs where the file is shorter.
        let is_whole = head.len() < SCRIPT_HEAD_LEN;
        let line = head.get(2..head.len().min(SCRIPT_HEAD_LEN))?;
        let (line, is_ended) = match line.iter().position(|byte| matches!(byte, b'\n' | 0)) {
            Some(end) => (line.get(..end)?, true),
            None => (line, is_whole),
        };
        let line = line.get(line.iter().position(|byte| !is_blank(byte))?..)?;
        let (interpreter, argument) = match line.iter().position(is_blank) {
            Some(end) => line.split_at(end),
            None if is_ended => (line, &[][..]),
            None => return None,
        };
        let argument = OsStr::from_bytes(argument.trim_ascii()).to_os_string();
        Some(ScriptLine { interpreter: PathBuf::from(OsStr::from_bytes(interpreter)), argument })
    }

    /// The bare name after `#!/usr/bin/env`, which is searched in PATH: `-S` splits the argument
    /// into options, variables and that name (man 1 env).
    fn env_name(&self) -> Option<PathBuf> {
        if self.interpreter.file_name() != Some(OsStr::new("env")) {
            return None;
        }
        let mut words = self.argument.as_bytes().split(|byte| matches!(byte, b' ' | b'\t'));
        let name = words.find(|word| !word.starts_with(b"-") && !word.contains(&b'='))?;
        let name = PathBuf::from(OsStr::from_bytes(name));
        (!name.as_os_str().is_empty() && is_bare(&name)).then_some(name)
    }
}

/// Whether this process may execute a file, by owner, group or others (man 7 path_resolution).
fn may_execute(metadata: &Metadata) -> bool {
    let execute = metadata.mode() & 0o111;
    if execute == 0 || execute == 0o111 {
        return execute != 0;
    }
    // The effective ids of this process are those of its directory in /proc.
    let Ok(process) = Path::new("/proc/self").metadata() else {
        return true;
    };
    if process.uid() == 0 {
        return true;
    }
    if process.uid() == metadata.uid() {
        return execute & 0o100 != 0;
    }
    let is_member = process.gid() == metadata.gid() || groups().contains(&metadata.gid());
    execute & if is_member { 0o010 } else { 0o001 } != 0
}

fn groups() -> Vec<u32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    line.split_whitespace().filter_map(|group| group.parse().ok()).collect()
}

#[cfg(test)]
mod tests;
