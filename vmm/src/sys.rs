//! What the standard library and vmm-sys-util leave to us: terminal settings, and which standard
//! streams were closed when the process began. [`crate::terminal`] is the safe face of it.

#![expect(unsafe_code, reason = "system calls that no crate of ours wraps")]

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering};

use libc::{c_int, c_void, siginfo_t, termios};

/// The terminal in raw mode and its settings before. The box is never freed: a signal handler or the
/// panic hook may read it at any moment. One per [`enter_raw`].
struct Saved {
    fd: RawFd,
    before: termios,
    raw: termios,
}

static SAVED: AtomicPtr<Saved> = AtomicPtr::new(ptr::null_mut());
static IS_RAW: AtomicBool = AtomicBool::new(false);

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Saves the settings of the terminal `fd` and makes it raw, unless this process is in the
/// background, where [`reenter_raw`] does it later.
pub(crate) fn enter_raw(fd: RawFd) -> io::Result<()> {
    let mut before = MaybeUninit::<termios>::uninit();
    // SAFETY: the pointer is valid for a termios.
    check(unsafe { libc::tcgetattr(fd, before.as_mut_ptr()) })?;
    // SAFETY: tcgetattr has succeeded and so has filled it.
    let before = unsafe { before.assume_init() };
    let mut raw = before;
    // SAFETY: a valid termios, changed in place.
    unsafe { libc::cfmakeraw(&mut raw) };
    restore();
    SAVED.store(Box::into_raw(Box::new(Saved { fd, before, raw })), Ordering::Release);
    reenter_raw()
}

/// Makes the terminal of the last [`enter_raw`] raw again, after a stop or a move to the foreground.
pub(crate) fn reenter_raw() -> io::Result<()> {
    // SAFETY: null, or a box that is never freed.
    let Some(saved) = (unsafe { SAVED.load(Ordering::Acquire).as_ref() }) else {
        return Ok(());
    };
    if !in_foreground(saved.fd) {
        return Ok(());
    }
    // First the flag: whoever dies in between restores what need not be restored.
    IS_RAW.store(true, Ordering::SeqCst);
    // SAFETY: a valid termios.
    check(unsafe { libc::tcsetattr(saved.fd, libc::TCSANOW, &saved.raw) }).map(|_| ())
}

/// Gives the terminal its settings back if it is raw. Async-signal-safe.
pub(crate) fn restore() {
    if !IS_RAW.swap(false, Ordering::SeqCst) {
        return;
    }
    // SAFETY: null, or a box that is never freed.
    if let Some(saved) = unsafe { SAVED.load(Ordering::Acquire).as_ref() } {
        let mut ttou = MaybeUninit::<libc::sigset_t>::uninit();
        let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
        // A process in the background is stopped for setting its terminal, unless SIGTTOU is blocked.
        // SAFETY: a pointer to a sigset_t, which it fills.
        unsafe { libc::sigemptyset(ttou.as_mut_ptr()) };
        // SAFETY: filled by sigemptyset, which cannot fail.
        unsafe { libc::sigaddset(ttou.as_mut_ptr(), libc::SIGTTOU) };
        // SAFETY: both are valid, the second is filled.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ttou.as_ptr(), mask.as_mut_ptr()) };
        // SAFETY: a valid termios.
        unsafe { libc::tcsetattr(saved.fd, libc::TCSANOW, &saved.before) };
        // SAFETY: `mask` was filled by the call above, which cannot fail with these arguments.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask.as_ptr(), ptr::null_mut()) };
    }
}

/// Whether the terminal is raw now.
pub(crate) fn is_raw() -> bool {
    IS_RAW.load(Ordering::Relaxed)
}

/// Whether this process is in the foreground of the terminal `fd`. A terminal that is not the
/// controlling one has no foreground: it is ours to set.
fn in_foreground(fd: RawFd) -> bool {
    // SAFETY: no pointers.
    let foreground = unsafe { libc::tcgetpgrp(fd) };
    // SAFETY: no pointers.
    foreground < 0 || foreground == unsafe { libc::getpgrp() }
}

/// Stops this process as SIGTSTP would; returns when it is continued.
pub(crate) fn stop_process() {
    // To this thread: a signal to the process may go to another one, and this one would run on a while.
    // SAFETY: no pointers.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// Rows and columns of the terminal `fd`.
pub(crate) fn window_size(fd: RawFd) -> io::Result<(u16, u16)> {
    let mut size = MaybeUninit::<libc::winsize>::uninit();
    // SAFETY: TIOCGWINSZ fills a winsize.
    check(unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, size.as_mut_ptr()) })?;
    // SAFETY: the call has succeeded.
    let size = unsafe { size.assume_init() };
    Ok((size.ws_row, size.ws_col))
}

/// Mode and device number of an open file.
pub(crate) fn stat(fd: RawFd) -> io::Result<(libc::mode_t, libc::dev_t)> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat fills a stat.
    check(unsafe { libc::fstat(fd, stat.as_mut_ptr()) })?;
    // SAFETY: the call has succeeded.
    let stat = unsafe { stat.assume_init() };
    Ok((stat.st_mode, stat.st_rdev))
}

/// Whether `fd` is open for reading and writing.
pub(crate) fn is_read_write(fd: RawFd) -> bool {
    // SAFETY: no third argument for F_GETFL.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    flags >= 0 && flags & libc::O_ACCMODE == libc::O_RDWR
}

/// Bit n: descriptor n was closed when the process began.
static CLOSED_AT_START: AtomicU8 = AtomicU8::new(0);

/// Whether a standard stream was closed when the process began. Rust's runtime opens /dev/null in its
/// place before main, so only this tells.
pub(crate) fn was_closed_at_start(fd: RawFd) -> bool {
    (0..3).contains(&fd) && CLOSED_AT_START.load(Ordering::Relaxed) & (1 << fd) != 0
}

extern "C" fn look_at_standard_streams() {
    for fd in 0..3 {
        // SAFETY: no pointers; a descriptor that is not open is an error.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            CLOSED_AT_START.fetch_or(1 << fd, Ordering::Relaxed);
        }
    }
}

// SAFETY: the section holds pointers to functions without arguments or result that are run before
// Rust's runtime; this one uses nothing of the runtime.
#[unsafe(link_section = ".init_array")]
#[used]
static AT_START: extern "C" fn() = look_at_standard_streams;

/// Signals that end the process where no event loop can help. SIGBUS is absent: it has an owner, the
/// code that maps host files.
const FATAL_SIGNALS: [c_int; 4] = [libc::SIGSEGV, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// What was installed for each of [`FATAL_SIGNALS`] before. Never freed.
static PREVIOUS: [AtomicPtr<libc::sigaction>; 4] = [const { AtomicPtr::new(ptr::null_mut()) }; 4];
static HANDLERS_INSTALLED: AtomicBool = AtomicBool::new(false);

/// Has fatal signals restore the terminal before they do what they did before. Once per process.
pub(crate) fn restore_on_fatal_signals() {
    if HANDLERS_INSTALLED.swap(true, Ordering::SeqCst) {
        return;
    }
    for (&signal, previous) in FATAL_SIGNALS.iter().zip(&PREVIOUS) {
        // SAFETY: a sigaction of zeroes is a valid one.
        let old: Box<libc::sigaction> = Box::new(unsafe { mem::zeroed() });
        let old = Box::into_raw(old);
        // SAFETY: asks only; `old` is valid.
        if unsafe { libc::sigaction(signal, ptr::null(), old) } < 0 {
            continue;
        }
        previous.store(old, Ordering::Release);
        // SAFETY: a sigaction of zeroes is a valid one: default, no flags, empty mask.
        let mut new: libc::sigaction = unsafe { mem::zeroed() };
        new.sa_sigaction = on_fatal_signal as *const () as usize;
        // On the alternate stack: a stack overflow is one of the reasons to come here.
        new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        // SAFETY: a valid sigaction; the handler is async-signal-safe.
        unsafe { libc::sigaction(signal, &new, ptr::null_mut()) };
    }
}

/// Restores the terminal, puts the previous action back and has it happen: by running the faulting
/// instruction again, or by sending the signal again.
extern "C" fn on_fatal_signal(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
    restore();
    for (&fatal, previous) in FATAL_SIGNALS.iter().zip(&PREVIOUS) {
        if fatal == signal {
            // SAFETY: stored before this handler was installed, never freed.
            unsafe { libc::sigaction(signal, previous.load(Ordering::Acquire), ptr::null_mut()) };
        }
    }
    // SAFETY: the kernel passes a valid siginfo_t to a handler with SA_SIGINFO.
    let code = unsafe { (*info).si_code };
    // Positive codes come from the kernel: a fault, which happens again on return.
    if code <= 0 {
        // SAFETY: no pointers.
        unsafe { libc::raise(signal) };
    }
}

/// A pseudo-terminal: the user's side, the program's side.
#[cfg(test)]
pub(crate) fn open_pty() -> io::Result<(std::os::fd::OwnedFd, std::os::fd::OwnedFd)> {
    use std::os::fd::{FromRawFd, OwnedFd};
    let (mut user, mut program) = (-1, -1);
    let size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: two valid places for descriptors, a valid size, no name, no settings.
    check(unsafe { libc::openpty(&mut user, &mut program, ptr::null_mut(), ptr::null(), &size) })?;
    // SAFETY: openpty has opened it for us alone.
    let user = unsafe { OwnedFd::from_raw_fd(user) };
    // SAFETY: as above.
    let program = unsafe { OwnedFd::from_raw_fd(program) };
    Ok((user, program))
}

/// The local and output flags of a terminal.
#[cfg(test)]
pub(crate) fn terminal_flags(fd: RawFd) -> (libc::tcflag_t, libc::tcflag_t) {
    let mut settings = MaybeUninit::<termios>::uninit();
    // SAFETY: the pointer is valid for a termios.
    check(unsafe { libc::tcgetattr(fd, settings.as_mut_ptr()) }).unwrap();
    // SAFETY: tcgetattr has succeeded.
    let settings = unsafe { settings.assume_init() };
    (settings.c_lflag, settings.c_oflag)
}
