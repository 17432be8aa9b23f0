//! Facts of the host that the guest is told.

#![expect(unsafe_code, reason = "identity and host name have no safe wrapper in the crates we use")]

use std::fs::File;
use std::io::{self, Read};

/// Bytes of a host name in a `BootInfo`.
const HOSTNAME_LEN: usize = 64;

/// Real user id, real group id, file mode creation mask of this process.
pub(crate) fn user() -> (u32, u32, u32) {
    // SAFETY: neither can fail, nor touches memory.
    let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
    // SAFETY: the mask can only be read by setting it; it is set back at once, and no other thread
    // of ours creates files.
    let umask = unsafe {
        let umask = libc::umask(0o022);
        libc::umask(umask);
        umask
    };
    (uid, gid, umask)
}

/// Fresh random bytes.
///
/// # Errors
/// The host's.
pub(crate) fn random_bytes() -> io::Result<[u8; 48]> {
    let mut bytes = [0; 48];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The host's name, NUL-padded; empty if there is none.
pub(crate) fn hostname() -> [u8; HOSTNAME_LEN] {
    let mut name = [0u8; HOSTNAME_LEN];
    // SAFETY: the buffer is as long as we say; its last byte stays zero.
    unsafe { libc::gethostname(name.as_mut_ptr().cast(), HOSTNAME_LEN - 1) };
    name
}
