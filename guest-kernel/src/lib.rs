//! The guest kernel: Linux's system calls, served in ring 0 of a KVM virtual machine.
//!
//! # The map
//!
//! * [`boot`]: from the first instruction to the first user instruction, a flat list of calls.
//! * [`arch`]: the processor: entry code, descriptor tables, per-CPU data, user copies. On the host
//!   (unit tests) a fake of the same names stands in.
//! * [`mm`]: frames, heap, page tables, address spaces, faults, user pointers.
//! * [`task`]: tasks, exec, exit, signals.
//! * [`fs`]: the VFS and its file systems: EROFS root, in-memory layer, /dev, /proc.
//! * [`driver`]: the stdio doorbell and COM1.
//! * [`syscall`]: the table of system calls; no other logic.
//! * [`sync`]: spin locks, once.
//! * [`time`]: clocks and sleeping.
//!
//! # Lock order
//!
//! A lock may be taken only while holding locks that stand above it:
//!
//! ```text
//! task::Task fields (credentials, signals, ...)
//!   fs::fd::FdTable
//!     fs open file (position)
//!       fs inode
//!         mm::space::Space
//!           mm::frame (the allocator), mm::heap
//!             log, driver::serial
//! ```
//! No lock is held while user memory is touched, except `Space`'s by the fault handler, which
//! itself never touches user memory. Interrupt handlers take only [`sync::IrqSpinLock`]s.

#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

pub mod arch;
pub mod error;
pub mod fs;
pub mod mm;
pub mod sync;
pub mod task;
pub mod time;
