//! Tasks: a kernel stack and a user context each, and what they share, by `Arc`.

pub mod elf;
#[cfg(target_os = "none")]
pub mod exec;
#[cfg(target_os = "none")]
pub mod exit;
pub mod identity;
pub mod limit;
pub mod script;
pub mod signal;
pub mod stack;
pub mod thread;
pub mod wait;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU32;

use crate::fs::context::FsContext;
use crate::fs::fd::FdTable;
use crate::mm::space::Space;
use crate::sync::SpinLock;

/// Process, user and group ids.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials {
    /// Real, effective, saved and file-system user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective group id.
    pub egid: u32,
}

/// What exec was given: shown in /proc.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Absolute path of the program, symlinks resolved: /proc/self/exe.
    pub exe: Vec<u8>,
    /// Arguments, each NUL-terminated: /proc/self/cmdline.
    pub arguments: Vec<u8>,
    /// Environment, each NUL-terminated: /proc/self/environ.
    pub environment: Vec<u8>,
    /// The last component of the path, at most 15 bytes: /proc/self/comm.
    pub comm: Vec<u8>,
}

/// A thread of a process. The parts that clone can share are behind `Arc`.
pub struct Task {
    /// Thread id.
    pub tid: u32,
    /// Process id.
    pub pid: u32,
    /// Parent's process id.
    pub ppid: AtomicU32,
    /// Who it acts as.
    pub credentials: SpinLock<Credentials>,
    /// The program.
    pub image: SpinLock<Image>,
    /// Its memory.
    pub space: Arc<Space>,
    /// Open files.
    pub files: Arc<FdTable>,
    /// Root, working directory, umask.
    pub context: Arc<FsContext>,
    /// Signals: pending, blocked, handled.
    pub signals: signal::SignalState,
    /// The sleep that restart_syscall goes on with.
    pub interrupted_sleep: SpinLock<Option<crate::time::InterruptedSleep>>,
    /// What it may use.
    pub limits: limit::Limits,
}

impl Task {
    /// Process 1.
    #[must_use]
    pub fn first(
        credentials: Credentials,
        space: Space,
        files: FdTable,
        context: FsContext,
    ) -> Self {
        Self {
            tid: 1,
            pid: 1,
            ppid: AtomicU32::new(0),
            credentials: SpinLock::new(credentials),
            image: SpinLock::new(Image::default()),
            space: Arc::new(space),
            files: Arc::new(files),
            context: Arc::new(context),
            signals: signal::SignalState::new(),
            interrupted_sleep: SpinLock::new(None),
            limits: limit::Limits::new(),
        }
    }

    /// A task 1 with nothing in it.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        crate::mm::frame::initialise_for_tests();
        let space = Space::new().expect("memory");
        Self::first(Credentials::default(), space, FdTable::new(), FsContext::for_tests())
    }
}

/// Bytes of a host name.
const HOSTNAME_LEN: usize = 64;

static HOSTNAME: SpinLock<[u8; HOSTNAME_LEN]> = SpinLock::new([0; HOSTNAME_LEN]);

/// The machine's name, NUL-padded.
pub fn hostname() -> [u8; HOSTNAME_LEN] {
    *HOSTNAME.lock()
}

/// Names the machine.
pub fn set_hostname(name: [u8; HOSTNAME_LEN]) {
    *HOSTNAME.lock() = name;
}
