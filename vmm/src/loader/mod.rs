//! From a kernel file to a machine that is ready to run its first instruction.
//!
//! [`elf`] puts the segments into memory, [`page_tables`] and [`boot_info`] what the kernel needs to
//! find, [`cpu_state`] gives the first virtual CPU its registers.

pub mod boot_info;
pub mod cpu_state;
pub mod elf;
pub mod page_tables;

/// Why a kernel cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not a kernel of ours.
    #[error("kernel {name}: {reason}")]
    NotOurs {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Guest memory could not be written.
    #[error(transparent)]
    Memory(#[from] crate::memory::Error),
    /// It does not fit.
    #[error("guest memory is too small for {what}: use a larger --memory")]
    TooSmall {
        /// What needs the room.
        what: &'static str,
    },
}
