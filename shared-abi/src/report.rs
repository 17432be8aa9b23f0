//! What the kernel leaves for the VMM to read: counters, time marks, and why it panicked.
//!
//! The page set at [`crate::layout::REPORT_GPA`] is written by the guest and only ever *copied* by the
//! VMM, after the virtual CPUs have stopped: it costs no exit. The VMM trusts none of it.

/// System calls are counted by number below this.
pub const SYSCALL_COUNT: usize = 512;
/// The most return addresses in a [`PanicRecord`].
pub const BACKTRACE_MAX: usize = 32;
/// The most bytes of a panic message.
pub const PANIC_MESSAGE_MAX: usize = 1024;

/// Kinds of page faults, an index of [`Report::faults`].
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A fresh anonymous page.
    Anonymous = 0,
    /// A page of the root image was mapped where it lies.
    Image = 1,
    /// A page of an in-memory file was mapped.
    Memory = 2,
    /// A private page was copied (or taken over) for writing.
    CopyOnWrite = 3,
    /// The access was not allowed: a signal.
    Signal = 4,
    /// The kernel touched user memory and was helped by a fix-up.
    Kernel = 5,
}

/// Number of [`FaultKind`]s.
pub const FAULT_KIND_COUNT: usize = 6;
/// The names of [`FaultKind`]s, in order: the keys of `--stats=json`.
pub const FAULT_KIND_NAMES: [&str; FAULT_KIND_COUNT] =
    ["anonymous", "image", "memory", "copy_on_write", "signal", "kernel"];

/// General registers at a panic.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct PanicRegisters {
    /// rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8 to r15.
    pub general: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
    /// CR2: the address of the last page fault.
    pub cr2: u64,
    /// CR3: the page tables in use.
    pub cr3: u64,
    /// The exception's vector, or all ones when there was none.
    pub vector: u64,
    /// The exception's error code.
    pub error_code: u64,
}

/// Why the kernel panicked.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PanicRecord {
    /// Bytes of `message` that count.
    pub message_len: u32,
    /// Addresses in `backtrace` that count.
    pub backtrace_len: u32,
    /// Text, UTF-8.
    pub message: [u8; PANIC_MESSAGE_MAX],
    /// Registers.
    pub registers: PanicRegisters,
    /// Return addresses, innermost first.
    pub backtrace: [u64; BACKTRACE_MAX],
}

/// The whole report.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Time-stamp counter at the kernel's first instruction; zero if it never got there.
    pub tsc_kernel_entry: u64,
    /// Time-stamp counter just before the first user instruction.
    pub tsc_user_entry: u64,
    /// Time-stamp counter when the program ended.
    pub tsc_exit: u64,
    /// Frames in use when the program ended, and the most there were (never handed-out frames do
    /// not count).
    pub frames_used: u64,
    /// See `frames_used`.
    pub frames_used_max: u64,
    /// Page faults by [`FaultKind`].
    pub faults: [u64; FAULT_KIND_COUNT],
    /// The faulting address when a signal from a fault killed the program.
    pub fault_address: u64,
    /// The instruction pointer at that moment.
    pub fault_rip: u64,
    /// System calls by number, if [`crate::boot_info::FLAG_COUNT_SYSCALLS`] is set.
    pub syscalls: [u64; SYSCALL_COUNT],
    /// Filled before [`crate::ports::EXIT_PANIC`].
    pub panic: PanicRecord,
}
