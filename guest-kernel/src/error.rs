//! Linux error numbers.

use linux_raw_sys::errno;

/// A Linux errno: why a system call failed. Turned into `-errno` in one place, `syscall::dispatch`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(u16);

/// Result of anything that a system call can report.
pub type Result<T> = core::result::Result<T, Errno>;

impl Errno {
    /// The number as the user sees it in `errno`.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0 as i32
    }

    /// Internal: the call was interrupted by a signal before it did anything. It is made again unless
    /// a handler without SA_RESTART ran, which turns this into EINTR. Never reaches the user.
    pub(crate) const ERESTARTSYS: Self = Self(512);
    /// Internal: the call is made again, whatever handler ran.
    pub(crate) const ERESTARTNOINTR: Self = Self(513);
    /// Internal: as [`Self::ERESTARTSYS`], but any handler turns it into EINTR.
    pub(crate) const ERESTARTNOHAND: Self = Self(514);
    /// Internal: as [`Self::ERESTARTNOHAND`], but restart_syscall goes on with it.
    pub(crate) const ERESTART_RESTARTBLOCK: Self = Self(516);

    /// Whether this is one of the internal codes: a dispatcher that sees one must not return to user
    /// mode before `task::signal::deliver` has replaced it.
    #[must_use]
    pub const fn is_restart(self) -> bool {
        self.0 >= 512 && self.0 <= 516
    }

    /// The errno of a `-errno` word, if it is one (-4095..=-1).
    #[must_use]
    pub const fn from_negative(value: i64) -> Option<Self> {
        if value < 0 && value >= -4095 { Some(Self((-value) as u16)) } else { None }
    }
}

macro_rules! errnos {
    ($($name:ident)*) => {
        #[expect(missing_docs, reason = "the names are Linux's; man 3 errno has their meaning")]
        impl Errno {
            $(pub const $name: Self = Self(errno::$name as u16);)*
        }
        impl core::fmt::Debug for Errno {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match *self {
                    $(Self::$name => f.write_str(stringify!($name)),)*
                    Self(n) => write!(f, "errno {n}"),
                }
            }
        }
    };
}

errnos! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT
    EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC
    ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP
    ENODATA ETIME EOVERFLOW EILSEQ EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT
    EPROTONOSUPPORT EOPNOTSUPP EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENOTCONN ETIMEDOUT
    ECONNREFUSED EALREADY EINPROGRESS ECANCELED ELIBBAD EUCLEAN
}
