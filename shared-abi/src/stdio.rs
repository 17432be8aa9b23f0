//! The stdio doorbell: three streams, whole buffers, one exit each.
//!
//! The kernel fills a [`StdioRequest`] in RAM below 4 GiB and writes its guest-physical address to
//! [`crate::ports::STDIO`]. The VMM moves the bytes straight between the segments and the host's
//! descriptor, and stores in [`StdioRequest::result`] the number of bytes, or a negative Linux errno.
//! A read that would wait answers `-EAGAIN` and arms one interrupt on
//! [`crate::ports::STDIO_VECTOR`] for when input (or its end) is there.

/// Stream number of standard input.
pub const STDIN: u32 = 0;
/// Stream number of standard output.
pub const STDOUT: u32 = 1;
/// Stream number of standard error.
pub const STDERR: u32 = 2;

/// Operation: read from the stream into the segments. Zero bytes: end of file.
pub const OP_READ: u32 = 0;
/// Operation: write the segments to the stream.
pub const OP_WRITE: u32 = 1;
/// Operation: store the terminal's size in [`StdioRequest::winsize`]; `-ENOTTY` if it is none.
pub const OP_WINSIZE: u32 = 2;

/// The most segments that one request can carry: an I/O vector of the host's `writev`.
pub const SEGMENT_COUNT_MAX: usize = 1024;

/// A run of guest-physical memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Guest-physical address of the first byte.
    pub gpa: u64,
    /// Length in bytes.
    pub len: u64,
}

/// Columns and rows of a terminal; zero when not known.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowSize {
    /// Rows, in characters.
    pub rows: u16,
    /// Columns, in characters.
    pub columns: u16,
}

/// What the doorbell's address points at.
#[repr(C)]
pub struct StdioRequest {
    /// `OP_*`.
    pub op: u32,
    /// `STDIN`, `STDOUT` or `STDERR`.
    pub stream: u32,
    /// Answer: bytes moved, or a negative errno.
    pub result: i64,
    /// Answer of [`OP_WINSIZE`].
    pub winsize: WindowSize,
    /// How many of `segments` count; at most [`SEGMENT_COUNT_MAX`].
    pub segment_count: u32,
    /// Where the bytes are, in order.
    pub segments: [Segment; SEGMENT_COUNT_MAX],
}

const _: () = assert!(core::mem::offset_of!(StdioRequest, result) == 8);
const _: () = assert!(core::mem::offset_of!(StdioRequest, segment_count) == 20);
const _: () = assert!(core::mem::offset_of!(StdioRequest, segments) == 24);
