//! The registers of a task in user mode, as the entry code leaves them on the kernel stack. The same
//! on the host, where the unit tests make them up.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// [`UserFrame::number`] when there is no system call (any more) to make again.
pub const NO_SYSTEM_CALL: u64 = u64::MAX;

/// General registers, lowest address first: the entry code pushes them from the end. Up to
/// [`rax`](Self::rax), and rax itself, they are filled only on the slow path.
#[expect(missing_docs, reason = "the fields are the registers of those names")]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub rcx: u64,
    /// On the way out: the result of the system call.
    pub rax: u64,
    pub r9: u64,
    pub r8: u64,
    pub r10: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// The number of the system call, the error code of a trap, or [`NO_SYSTEM_CALL`].
    pub number: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// The x87 and SSE registers as `fxsave64` stores them (SDM 1, 10.5.1).
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct FxArea {
    /// x87 control word.
    pub fcw: u16,
    /// x87 status word.
    pub fsw: u16,
    /// Abridged tag word, and a reserved byte.
    pub ftw: u16,
    /// Last opcode.
    pub fop: u16,
    /// Last instruction and data address.
    pub last: [u64; 2],
    /// SSE control and status.
    pub mxcsr: u32,
    /// The bits that mxcsr may have; 0 stands for [`FxArea::MXCSR_MASK_DEFAULT`].
    pub mxcsr_mask: u32,
    /// st0 to st7, 16 bytes each.
    pub st: [[u64; 2]; 8],
    /// xmm0 to xmm15.
    pub xmm: [[u64; 2]; 16],
    /// Reserved; the processor leaves the last 48 bytes to software.
    pub reserved: [u64; 12],
}

const _: () = assert!(size_of::<FxArea>() == 512);

impl FxArea {
    /// The mask of processors that store none.
    pub const MXCSR_MASK_DEFAULT: u32 = 0xffbf;

    /// The state that a program, and a signal handler, starts with: every exception masked.
    pub const INITIAL: Self = Self {
        fcw: 0x37f,
        fsw: 0,
        ftw: 0,
        fop: 0,
        last: [0; 2],
        mxcsr: 0x1f80,
        mxcsr_mask: 0,
        st: [[0; 2]; 8],
        xmm: [[0; 2]; 16],
        reserved: [0; 12],
    };
}
