//! What the VMM tells the kernel: one page at [`crate::layout::BOOT_INFO_GPA`].
//!
//! The kernel starts in 64-bit mode with RDI = the direct-map address of this page, RSP undefined,
//! interrupts off, and the page tables of [`crate::layout`] in CR3.

use crate::stdio::WindowSize;

/// First word of the page.
pub const MAGIC: u64 = u64::from_le_bytes(*b"vmmboot\0");
/// Grows with each change of this crate that old kernels would misread.
pub const VERSION: u32 = 1;

/// What one standard stream is on the host.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// `STREAM_*`.
    pub kind: u32,
    /// Size of the terminal, if it is one.
    pub winsize: WindowSize,
}

/// The stream is closed on the host: using it is EBADF.
pub const STREAM_CLOSED: u32 = 0;
/// A pipe, a socket or a file: bytes that cannot be sought in.
pub const STREAM_PIPE: u32 = 1;
/// A terminal, in raw mode on the host: the guest's line discipline does the rest.
pub const STREAM_TERMINAL: u32 = 2;
/// The host's /dev/null.
pub const STREAM_NULL: u32 = 3;

/// A piece of guest-physical memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// Guest-physical address of the first byte.
    pub gpa: u64,
    /// Length in bytes; zero: absent.
    pub len: u64,
}

/// The kernel log is wanted on COM1 down to the debug level (`-v`).
pub const FLAG_VERBOSE: u64 = 1 << 0;
/// Count system calls by number in the report (`--stats`).
pub const FLAG_COUNT_SYSCALLS: u64 = 1 << 1;
/// What the program writes goes out over COM1 (`--console serial`).
pub const FLAG_CONSOLE_SERIAL: u64 = 1 << 2;

/// The facts of the machine.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BootInfo {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`VERSION`].
    pub version: u32,
    /// Number of virtual CPUs.
    pub cpu_count: u32,
    /// `FLAG_*`.
    pub flags: u64,
    /// End (exclusive) of RAM below 4 GiB; it begins at 0.
    pub low_ram_end: u64,
    /// End (exclusive) of RAM above 4 GiB, or [`crate::layout::HIGH_RAM_GPA`] if there is none.
    pub high_ram_end: u64,
    /// First frame that nothing occupies. From here to the end of RAM all is zero.
    pub free_start: u64,
    /// The EROFS image.
    pub root: Range,
    /// NUL-terminated strings, one behind the other: the program's path, the working directory, the
    /// kernel's own command line, `arg_count` arguments, `env_count` environment entries.
    pub strings: Range,
    /// Where each of these strings begins in `strings`, in that order, as `u32`s, and the end of the
    /// last: nobody has to look for the NULs.
    pub string_offsets: Range,
    /// Number of arguments, the zeroth included.
    pub arg_count: u32,
    /// Number of environment entries.
    pub env_count: u32,
    /// Frequency of the time-stamp counter, in kHz.
    pub tsc_khz: u32,
    /// File mode creation mask of the VMM's process.
    pub umask: u32,
    /// The guest's time-stamp counter at the moment of `realtime_ns`.
    pub tsc_base: u64,
    /// Wall-clock time at `tsc_base`, in nanoseconds since 1970.
    pub realtime_ns: u64,
    /// Real user id of the program.
    pub uid: u32,
    /// Real group id of the program.
    pub gid: u32,
    /// Random bytes from the host, never used twice: for the kernel's generator.
    pub seed: [u8; 32],
    /// Random bytes from the host, never used twice: for the first program's AT_RANDOM.
    pub program_random: [u8; 16],
    /// stdin, stdout, stderr.
    pub streams: [Stream; 3],
    /// Host name, NUL-padded.
    pub hostname: [u8; 64],
}
