//! The guest kernel: Linux's system calls, served in ring 0 of a KVM virtual machine.
//!
//! # The map
//!
//! * `boot`: from the first instruction to the first user instruction, a flat list of calls;
//!   [`boot_info`]: what the VMM told us.
//! * [`arch`]: the processor: entry code, descriptor tables, per-CPU data, user copies. On the host
//!   (unit tests) a fake of the same names stands in.
//! * `syscall`: the table of system calls; no other logic.
//! * [`mm`]: frames, heap, page tables, address spaces, faults, user pointers.
//! * [`task`]: tasks, exec, exit, signals, waiting.
//! * [`fs`]: the VFS and its file systems: EROFS root, in-memory layer, /dev, /proc; the terminal.
//! * [`time`]: clocks and sleeping. [`random`]: random bytes.
//! * [`driver`]: the stdio doorbell.
//! * [`log`], [`report`], `panic`: what the VMM is told: lines on COM1, counters, the end.
//! * [`sync`]: spin locks, once. [`error`]: Linux's error numbers.
//!
//! `boot`, `syscall` and `panic` are for the kernel's target only; all else is built and tested on the
//! host as well.
//!
//! # Lock order
//!
//! A lock may be taken only while holding locks that stand above it. Most are held alone:
//!
//! ```text
//! fs::memfs namespace             all changes of names      driver::stdio the programs' request
//!   fs::memfs::lower node map     image inode -> node         mm::space::Space
//!     fs::memfs::node    <------- a fault asks the file ------/ (and the last page's copy in
//!                                                               fs::memfs::lower::LowerInode)
//! fs::terminal                    fs::stream the peeked byte
//!   task::signal                    driver::stdio the kernel's request
//!   driver::stdio the kernel's request
//!
//! held alone: task::Task's credentials, image, limits, interrupted sleep; fs::fd::FdTable;
//!             fs::context, fs::mount, fs::pipe; random (below /proc's boot id)
//!
//! below all of these: mm::heap, then mm::frame, then the log
//! ```
//! * A space's lock stands above the locks of inodes: the fault handler holds it while it asks an inode
//!   for a page, and unmapping drops inodes under it. So nobody may take it, nor touch user memory,
//!   which may fault, while holding the lock of an inode.
//! * No lock is held while user memory is touched. The stdio driver holds its request while it looks
//!   pages up, which takes the space's lock; it touches none, the VMM does.
//! * One node's lock at a time: what needs two nodes holds the namespace.
//! * The cache of image names ([`fs::memfs`]) is only ever tried, never waited for.
//! * Interrupt handlers take only [`sync::IrqSpinLock`]s: the terminal, the kernel's stdio request,
//!   signals, heap, frames, log.

#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

pub mod arch;
#[cfg(target_os = "none")]
pub mod boot;
pub mod boot_info;
pub mod driver;
pub mod error;
pub mod fs;
pub mod log;
pub mod mm;
#[cfg(target_os = "none")]
mod panic;
pub mod random;
pub mod report;
pub mod sync;
#[cfg(target_os = "none")]
pub mod syscall;
pub mod task;
pub mod time;
