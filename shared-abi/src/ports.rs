//! I/O ports: the wall's only doors besides memory-mapped devices.

/// First port of COM1, a 16550 (eight ports).
pub const COM1: u16 = 0x3f8;
/// The stdio doorbell: a 32-bit write of the guest-physical address of a
/// [`crate::stdio::StdioRequest`]. When the write has returned, the request holds its result.
pub const STDIO: u16 = 0x700;
/// The exit port: a 32-bit write of an exit word ends the machine.
pub const EXIT: u16 = 0x704;

/// Exit word: the first process called `exit_group` with the status in bits 0 to 7.
pub const EXIT_STATUS: u32 = 0 << 8;
/// Exit word: the first process was killed by the signal in bits 0 to 6; bit 7: a core-dump signal.
pub const EXIT_SIGNAL: u32 = 1 << 8;
/// Exit word: the kernel panicked; [`crate::report::Report::panic`] says why.
pub const EXIT_PANIC: u32 = 2 << 8;
/// Exit word: the kernel could not start the program; the errno is in bits 0 to 7.
pub const EXIT_EXEC: u32 = 3 << 8;
/// Exit word: the working directory cannot be entered; the errno is in bits 0 to 7.
pub const EXIT_CWD: u32 = 4 << 8;
/// Exit word: the root image cannot be mounted; the errno is in bits 0 to 7.
pub const EXIT_ROOT: u32 = 5 << 8;

/// GSI of COM1, as on every PC.
pub const COM1_GSI: u32 = 4;
/// Interrupt vector of the stdio doorbell's "input is ready", sent as a message (MSI).
pub const STDIO_VECTOR: u8 = 0x31;
/// GSI whose route is that message.
pub const STDIO_GSI: u32 = 24;
