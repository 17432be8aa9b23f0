//! `siginfo_t`: why a signal was sent.

use linux_raw_sys::general::{SI_KERNEL, SI_MAX_SIZE, SI_TKILL, SI_USER};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::Signal;
use crate::error::Result;
use crate::mm::addr::UserAddr;
use crate::mm::user::UserSlice;
use crate::task::Task;

/// Bytes of a `siginfo_t` in user memory; those that the kernel does not use are zero.
pub(crate) const USER_SIZE: usize = SI_MAX_SIZE as usize;

/// The part of `siginfo_t` that the kernel keeps, in the layout of user memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct SignalInfo {
    signo: i32,
    errno: i32,
    code: i32,
    padding: u32,
    /// By `code`: the sender's pid and uid and a value, or the address of a fault.
    fields: [u64; 4],
}

impl SignalInfo {
    /// What the kernel itself sends.
    #[must_use]
    pub fn from_kernel(signal: Signal) -> Self {
        Self { signo: i32::from(signal.0), code: SI_KERNEL as i32, ..Self::default() }
    }

    /// A fault at `addr`.
    #[must_use]
    pub fn from_fault(signal: Signal, code: i32, addr: UserAddr) -> Self {
        Self { signo: i32::from(signal.0), code, fields: [addr.0, 0, 0, 0], ..Self::default() }
    }

    /// What `sender` sends by kill.
    #[must_use]
    pub fn from_kill(signal: Signal, sender: &Task) -> Self {
        Self::from_sender(signal, SI_USER as i32, sender)
    }

    /// What `sender` sends by tkill or tgkill.
    #[must_use]
    pub fn from_tkill(signal: Signal, sender: &Task) -> Self {
        Self::from_sender(signal, SI_TKILL, sender)
    }

    fn from_sender(signal: Signal, code: i32, sender: &Task) -> Self {
        let uid = sender.credentials.lock().uid;
        let pid_and_uid = u64::from(sender.pid) | u64::from(uid) << 32;
        Self { signo: i32::from(signal.0), code, fields: [pid_and_uid, 0, 0, 0], ..Self::default() }
    }

    /// What a program made up for rt_sigqueueinfo.
    ///
    /// Limits: Linux keeps no more of it either, but says E2BIG if the rest of an unknown kind is not
    /// zero.
    ///
    /// # Errors
    /// EFAULT.
    pub fn read(addr: UserAddr) -> Result<Self> {
        let mut bytes = [0; USER_SIZE];
        UserSlice::new(addr, USER_SIZE)?.read(&mut bytes)?;
        let mut info = Self::default();
        info.as_mut_bytes().copy_from_slice(&bytes[..size_of::<Self>()]);
        info.padding = 0;
        Ok(info)
    }

    /// The same, about `signal`.
    #[must_use]
    pub fn about(self, signal: Signal) -> Self {
        Self { signo: i32::from(signal.0), ..self }
    }

    /// The whole of it as user memory has it.
    #[must_use]
    pub fn to_user(self) -> [u8; USER_SIZE] {
        let mut bytes = [0; USER_SIZE];
        bytes[..size_of::<Self>()].copy_from_slice(self.as_bytes());
        bytes
    }

    /// Which signal this is about.
    #[must_use]
    pub fn signal(&self) -> Signal {
        Signal(self.signo as u8)
    }

    /// `si_code`.
    #[must_use]
    pub const fn code(&self) -> i32 {
        self.code
    }

    /// What is left of a signal for whose information there was no room.
    #[must_use]
    pub fn lost(signal: Signal) -> Self {
        Self { signo: i32::from(signal.0), code: SI_USER as i32, ..Self::default() }
    }

    #[cfg(test)]
    pub(super) const fn fields(&self) -> [u64; 4] {
        self.fields
    }

    #[cfg(test)]
    pub(super) fn queued(signal: Signal, value: u64) -> Self {
        let code = linux_raw_sys::general::SI_QUEUE;
        Self { signo: i32::from(signal.0), code, fields: [1, value, 0, 0], ..Self::default() }
    }
}
