//! `poll(2)` on one descriptor.

#![expect(unsafe_code, reason = "poll has no safe wrapper in the crates we use")]

use std::io;
use std::os::fd::RawFd;

/// Whether a descriptor can be read without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Data, the end of file, or an error is there.
    Ready,
    /// A read would wait.
    NotReady,
}

/// Whether `fd` can be read now.
///
/// # Errors
/// EBADF if `fd` is closed.
pub(crate) fn readable_now(fd: RawFd) -> io::Result<Readiness> {
    let revents = poll(fd, libc::POLLIN, 0)?;
    Ok(if revents == 0 { Readiness::NotReady } else { Readiness::Ready })
}

/// Waits until `fd` can be written to.
///
/// # Errors
/// EINTR when a signal arrives: the machine is to stop. EBADF if `fd` is closed.
pub(crate) fn wait_writable(fd: RawFd) -> io::Result<()> {
    poll(fd, libc::POLLOUT, -1).map(|_| ())
}

fn poll(fd: RawFd, events: libc::c_short, timeout_ms: i32) -> io::Result<libc::c_short> {
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: one valid entry.
    let result = unsafe { libc::poll(&raw mut entry, 1, timeout_ms) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if entry.revents & libc::POLLNVAL != 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    Ok(entry.revents)
}

/// `read(2)`.
///
/// # Errors
/// The host's.
pub(crate) fn read(fd: RawFd, bytes: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is as long as we say.
    let result = unsafe { libc::read(fd, bytes.as_mut_ptr().cast(), bytes.len()) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
