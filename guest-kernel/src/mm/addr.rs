//! Address types: a bare `u64` address in a signature is a bug.

use core::fmt;

use shared_abi::layout::PAGE_SIZE;

use crate::arch;

/// Bytes in a page, for indexing.
pub const PAGE: usize = PAGE_SIZE as usize;
/// End (exclusive) of user addresses. The last page below the canonical hole is never user memory,
/// so that the instruction after a `syscall` is always at a canonical address (SDM 2B, SYSRET).
pub const USER_END: u64 = 0x7fff_ffff_f000;

/// A guest-physical address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Phys(pub u64);

impl Phys {
    /// Where the kernel sees this address: in the direct map.
    #[must_use]
    pub fn as_ptr(self) -> *mut u8 {
        arch::direct_map_base().wrapping_add(self.0 as usize)
    }
}

impl fmt::Debug for Phys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "phys {:#x}", self.0)
    }
}

/// A user-space address: a claim by the program until `mm::user` or the address space accepts it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct UserAddr(pub u64);

impl UserAddr {
    /// Whether this is NULL.
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The start of its page.
    #[must_use]
    pub const fn page_down(self) -> Self {
        Self(self.0 & !(PAGE_SIZE - 1))
    }

    /// The offset in its page.
    #[must_use]
    pub const fn page_offset(self) -> usize {
        (self.0 & (PAGE_SIZE - 1)) as usize
    }

    /// `bytes` further on; wraps, and is then refused as every address outside of user space.
    #[must_use]
    pub const fn add(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl fmt::Debug for UserAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {:#x}", self.0)
    }
}

/// Rounds up to whole pages; `None` on overflow.
#[must_use]
pub const fn page_up(bytes: u64) -> Option<u64> {
    match bytes.checked_add(PAGE_SIZE - 1) {
        Some(sum) => Some(sum & !(PAGE_SIZE - 1)),
        None => None,
    }
}
