//! The table of system calls: numbers, typed arguments, handlers. No other logic.
//!
//! A handler is a function of the module that owns the state: `fn(&Task, typed arguments) ->
//! Result<usize>`. Adding a call is one line in `call`, its handler, and a guest test.

pub mod args;

use core::sync::atomic::{AtomicU64, Ordering};

use linux_raw_sys::general as nr;
use syscalls::Sysno;

use self::args::Args;
use crate::arch::frame::UserFrame;
use crate::arch::percpu::{WORK_WHOLE_FRAME, set_exit_work};
use crate::error::{Errno, Result};
use crate::fs::attribute::Links;
use crate::fs::{attribute, control, io, name, open, pipe, poll, stat, transfer};
use crate::mm::call as memory;
use crate::task::{Task, exit, identity, limit, signal, thread};
use crate::{arch, log, random, report, time};

/// Serves a system call; what goes into RAX. Called by the entry code, with interrupts on.
pub(crate) extern "C" fn dispatch(
    a0: u64,
    a1: u64,
    a2: u64,
    frame: &UserFrame,
    number: u64,
) -> u64 {
    match call(arch::current(), number as u32, Args::new([a0, a1, a2], frame)) {
        Ok(value) => value as u64,
        Err(errno) => i64::from(-errno.number()).cast_unsigned(),
    }
}

/// Before a system call is dispatched, if the VMM wants them counted.
pub(crate) extern "C" fn on_entry_work(frame: &UserFrame) {
    report::count_syscall(frame.number);
}

/// Serves a call that changes all registers: the slow way out has filled the frame.
pub(crate) fn dispatch_whole_frame(frame: &mut UserFrame) {
    frame.rax = match signal::rt_sigreturn(arch::current(), frame) {
        Ok(value) => value as u64,
        Err(errno) => i64::from(-errno.number()).cast_unsigned(),
    };
}

#[inline(always)]
fn call(t: &Task, number: u32, a: Args<'_>) -> Result<usize> {
    match number {
        // Files: open, close, read, write
        nr::__NR_open => open::open(t, a.ptr(0), a.u32(1), a.u32(2)),
        nr::__NR_openat => open::openat(t, a.i32(0), a.ptr(1), a.u32(2), a.u32(3)),
        nr::__NR_creat => open::creat(t, a.ptr(0), a.u32(1)),
        nr::__NR_close => open::close(t, a.i32(0)),
        nr::__NR_close_range => open::close_range(t, a.u32(0), a.u32(1), a.u32(2)),
        nr::__NR_read => io::read(t, a.i32(0), a.ptr(1), a.len(2)),
        nr::__NR_write => io::write(t, a.i32(0), a.ptr(1), a.len(2)),
        nr::__NR_readv => io::readv(t, a.i32(0), a.ptr(1), a.len(2)),
        nr::__NR_writev => io::writev(t, a.i32(0), a.ptr(1), a.len(2)),
        nr::__NR_pread64 => io::pread64(t, a.i32(0), a.ptr(1), a.len(2), a.i64(3)),
        nr::__NR_pwrite64 => io::pwrite64(t, a.i32(0), a.ptr(1), a.len(2), a.i64(3)),
        nr::__NR_preadv => io::preadv(t, a.i32(0), a.ptr(1), a.len(2), a.i64(3)),
        nr::__NR_pwritev => io::pwritev(t, a.i32(0), a.ptr(1), a.len(2), a.i64(3)),
        nr::__NR_preadv2 => io::preadv2(t, a.i32(0), a.ptr(1), a.len(2), a.i64(3), a.u32(5)),
        nr::__NR_pwritev2 => io::pwritev2(t, a.i32(0), a.ptr(1), a.len(2), a.i64(3), a.u32(5)),
        nr::__NR_lseek => io::lseek(t, a.i32(0), a.i64(1), a.u32(2)),
        nr::__NR_getdents64 => io::getdents64(t, a.i32(0), a.ptr(1), a.len(2)),
        nr::__NR_sendfile => transfer::sendfile(t, a.i32(0), a.i32(1), a.ptr(2), a.len(3)),
        nr::__NR_copy_file_range => {
            transfer::copy_file_range(t, a.i32(0), a.ptr(1), a.i32(2), a.ptr(3), a.len(4), a.u32(5))
        }
        nr::__NR_pipe => pipe::pipe2(t, a.ptr(0), 0),
        nr::__NR_pipe2 => pipe::pipe2(t, a.ptr(0), a.u32(1)),

        // Files: what they are
        nr::__NR_stat => stat::stat(t, a.ptr(0), a.ptr(1)),
        nr::__NR_lstat => stat::lstat(t, a.ptr(0), a.ptr(1)),
        nr::__NR_fstat => stat::fstat(t, a.i32(0), a.ptr(1)),
        nr::__NR_newfstatat => stat::newfstatat(t, a.i32(0), a.ptr(1), a.ptr(2), a.u32(3)),
        nr::__NR_statx => stat::statx(t, a.i32(0), a.ptr(1), a.u32(2), a.u32(3), a.ptr(4)),
        nr::__NR_access => stat::access(t, a.ptr(0), a.u32(1)),
        nr::__NR_faccessat => stat::faccessat(t, a.i32(0), a.ptr(1), a.u32(2)),
        nr::__NR_faccessat2 => stat::faccessat2(t, a.i32(0), a.ptr(1), a.u32(2), a.u32(3)),
        nr::__NR_readlink => stat::readlink(t, a.ptr(0), a.ptr(1), a.i32(2)),
        nr::__NR_readlinkat => stat::readlinkat(t, a.i32(0), a.ptr(1), a.ptr(2), a.i32(3)),
        nr::__NR_getcwd => stat::getcwd(t, a.ptr(0), a.len(1)),
        nr::__NR_statfs => stat::statfs(t, a.ptr(0), a.ptr(1)),
        nr::__NR_fstatfs => stat::fstatfs(t, a.i32(0), a.ptr(1)),

        // Files: names and attributes
        nr::__NR_mkdir => name::mkdir(t, a.ptr(0), a.u32(1)),
        nr::__NR_mkdirat => name::mkdirat(t, a.i32(0), a.ptr(1), a.u32(2)),
        nr::__NR_mknod => name::mknodat(t, nr::AT_FDCWD, a.ptr(0), a.u32(1), a.u32(2)),
        nr::__NR_mknodat => name::mknodat(t, a.i32(0), a.ptr(1), a.u32(2), a.u32(3)),
        nr::__NR_rmdir => name::rmdir(t, a.ptr(0)),
        nr::__NR_unlink => name::unlink(t, a.ptr(0)),
        nr::__NR_unlinkat => name::unlinkat(t, a.i32(0), a.ptr(1), a.u32(2)),
        nr::__NR_symlink => name::symlink(t, a.ptr(0), a.ptr(1)),
        nr::__NR_symlinkat => name::symlinkat(t, a.ptr(0), a.i32(1), a.ptr(2)),
        nr::__NR_link => name::link(t, a.ptr(0), a.ptr(1)),
        nr::__NR_linkat => name::linkat(t, a.i32(0), a.ptr(1), a.i32(2), a.ptr(3), a.u32(4)),
        nr::__NR_rename => name::rename(t, a.ptr(0), a.ptr(1)),
        nr::__NR_renameat => name::renameat2(t, a.i32(0), a.ptr(1), a.i32(2), a.ptr(3), 0),
        nr::__NR_renameat2 => name::renameat2(t, a.i32(0), a.ptr(1), a.i32(2), a.ptr(3), a.u32(4)),
        nr::__NR_chdir => name::chdir(t, a.ptr(0)),
        nr::__NR_fchdir => name::fchdir(t, a.i32(0)),
        nr::__NR_chroot => name::chroot(t, a.ptr(0)),
        nr::__NR_umask => name::umask(t, a.u32(0)),
        nr::__NR_chmod => attribute::chmod(t, a.ptr(0), a.u32(1)),
        nr::__NR_fchmod => attribute::fchmod(t, a.i32(0), a.u32(1)),
        nr::__NR_fchmodat => attribute::fchmodat2(t, a.i32(0), a.ptr(1), a.u32(2), 0),
        nr::__NR_fchmodat2 => attribute::fchmodat2(t, a.i32(0), a.ptr(1), a.u32(2), a.u32(3)),
        nr::__NR_chown => attribute::chown(t, a.ptr(0), a.u32(1), a.u32(2)),
        nr::__NR_lchown => attribute::lchown(t, a.ptr(0), a.u32(1), a.u32(2)),
        nr::__NR_fchown => attribute::fchown(t, a.i32(0), a.u32(1), a.u32(2)),
        nr::__NR_fchownat => {
            attribute::fchownat(t, a.i32(0), a.ptr(1), a.u32(2), a.u32(3), a.u32(4))
        }
        nr::__NR_utimensat => attribute::utimensat(t, a.i32(0), a.ptr(1), a.ptr(2), a.u32(3)),
        nr::__NR_utime => attribute::utime(t, a.ptr(0), a.ptr(1)),
        nr::__NR_futimesat => attribute::futimesat(t, a.i32(0), a.ptr(1), a.ptr(2)),
        nr::__NR_utimes => attribute::futimesat(t, nr::AT_FDCWD, a.ptr(0), a.ptr(1)),
        nr::__NR_truncate => attribute::truncate(t, a.ptr(0), a.i64(1)),
        nr::__NR_ftruncate => attribute::ftruncate(t, a.i32(0), a.i64(1)),
        nr::__NR_fallocate => attribute::fallocate(t, a.i32(0), a.u32(1), a.i64(2), a.i64(3)),
        nr::__NR_getxattr | nr::__NR_setxattr | nr::__NR_removexattr => {
            attribute::getxattr(t, a.ptr(0), a.ptr(1), Links::Follow)
        }
        nr::__NR_lgetxattr | nr::__NR_lsetxattr | nr::__NR_lremovexattr => {
            attribute::getxattr(t, a.ptr(0), a.ptr(1), Links::Leave)
        }
        nr::__NR_fgetxattr | nr::__NR_fsetxattr | nr::__NR_fremovexattr => {
            attribute::fgetxattr(t, a.i32(0), a.ptr(1))
        }
        nr::__NR_listxattr => attribute::listxattr(t, a.ptr(0), Links::Follow),
        nr::__NR_llistxattr => attribute::listxattr(t, a.ptr(0), Links::Leave),
        nr::__NR_flistxattr => attribute::flistxattr(t, a.i32(0)),

        // Descriptors
        nr::__NR_dup => control::dup(t, a.i32(0)),
        nr::__NR_dup2 => control::dup2(t, a.i32(0), a.i32(1)),
        nr::__NR_dup3 => control::dup3(t, a.i32(0), a.i32(1), a.u32(2)),
        nr::__NR_fcntl => control::fcntl(t, a.i32(0), a.u32(1), a.u64(2)),
        nr::__NR_ioctl => control::ioctl(t, a.i32(0), a.u32(1), a.u64(2)),
        nr::__NR_flock => control::flock(t, a.i32(0), a.u32(1)),
        nr::__NR_fsync | nr::__NR_fdatasync => control::fsync(t, a.i32(0)),
        nr::__NR_sync_file_range => control::syncfs(t, a.i32(0)),
        nr::__NR_syncfs => control::syncfs(t, a.i32(0)),
        nr::__NR_sync => control::sync(t),
        nr::__NR_fadvise64 => control::fadvise64(t, a.i32(0), a.i64(1), a.i64(2), a.u32(3)),
        nr::__NR_readahead => control::readahead(t, a.i32(0)),
        nr::__NR_poll => poll::poll(t, a.ptr(0), a.len(1), a.i32(2)),
        nr::__NR_ppoll => poll::ppoll(t, a.ptr(0), a.len(1), a.ptr(2), a.ptr(3), a.len(4)),
        nr::__NR_select => poll::select(t, a.i32(0), [a.ptr(1), a.ptr(2), a.ptr(3)], a.ptr(4)),
        nr::__NR_pselect6 => {
            poll::pselect6(t, a.i32(0), [a.ptr(1), a.ptr(2), a.ptr(3)], a.ptr(4), a.ptr(5))
        }

        // Memory
        nr::__NR_mmap => {
            memory::mmap(t, a.ptr(0), a.u64(1), a.u32(2), a.u32(3), a.i32(4), a.u64(5))
        }
        nr::__NR_munmap => memory::munmap(t, a.ptr(0), a.u64(1)),
        nr::__NR_mprotect => memory::mprotect(t, a.ptr(0), a.u64(1), a.u32(2)),
        nr::__NR_brk => memory::brk(t, a.ptr(0)),
        nr::__NR_madvise => memory::madvise(t, a.ptr(0), a.u64(1), a.u32(2)),
        nr::__NR_mincore => memory::mincore(t, a.ptr(0), a.u64(1), a.ptr(2)),
        nr::__NR_msync => memory::msync(t, a.ptr(0), a.u64(1), a.u32(2)),
        nr::__NR_mlock | nr::__NR_mlock2 | nr::__NR_munlock => memory::mlock(t, a.ptr(0), a.u64(1)),

        // Signals
        nr::__NR_rt_sigaction => signal::rt_sigaction(t, a.i32(0), a.ptr(1), a.ptr(2), a.len(3)),
        nr::__NR_rt_sigprocmask => {
            signal::rt_sigprocmask(t, a.i32(0), a.ptr(1), a.ptr(2), a.len(3))
        }
        nr::__NR_rt_sigpending => signal::rt_sigpending(t, a.ptr(0), a.len(1)),
        nr::__NR_rt_sigsuspend => signal::rt_sigsuspend(t, a.ptr(0), a.len(1)),
        nr::__NR_rt_sigtimedwait => {
            signal::rt_sigtimedwait(t, a.ptr(0), a.ptr(1), a.ptr(2), a.len(3))
        }
        nr::__NR_rt_sigqueueinfo => signal::rt_sigqueueinfo(t, a.i32(0), a.i32(1), a.ptr(2)),
        nr::__NR_rt_tgsigqueueinfo => {
            signal::rt_tgsigqueueinfo(t, a.i32(0), a.i32(1), a.i32(2), a.ptr(3))
        }
        nr::__NR_rt_sigreturn => {
            set_exit_work(WORK_WHOLE_FRAME);
            Ok(0)
        }
        nr::__NR_sigaltstack => signal::sigaltstack(t, a.frame(), a.ptr(0), a.ptr(1)),
        nr::__NR_kill => signal::kill(t, a.i32(0), a.i32(1)),
        nr::__NR_tkill => signal::tkill(t, a.i32(0), a.i32(1)),
        nr::__NR_tgkill => signal::tgkill(t, a.i32(0), a.i32(1), a.i32(2)),
        nr::__NR_pause => signal::pause(t),

        // Time
        nr::__NR_clock_gettime => time::clock_gettime(t, a.i32(0), a.ptr(1)),
        nr::__NR_clock_getres => time::clock_getres(t, a.i32(0), a.ptr(1)),
        nr::__NR_gettimeofday => time::gettimeofday(t, a.ptr(0), a.ptr(1)),
        nr::__NR_time => time::time(t, a.ptr(0)),
        nr::__NR_times => time::times(t, a.ptr(0)),
        nr::__NR_nanosleep => time::nanosleep(t, a.ptr(0), a.ptr(1)),
        nr::__NR_clock_nanosleep => {
            time::clock_nanosleep(t, a.i32(0), a.u32(1), a.ptr(2), a.ptr(3))
        }
        nr::__NR_restart_syscall => time::restart_sleep(t),

        // The process, and what it asks about itself and the machine
        nr::__NR_exit | nr::__NR_exit_group => exit::exit_group(a.i32(0)),
        nr::__NR_getpid => identity::getpid(t),
        nr::__NR_gettid => identity::gettid(t),
        nr::__NR_getppid => identity::getppid(t),
        nr::__NR_getuid => identity::getuid(t),
        nr::__NR_geteuid => identity::geteuid(t),
        nr::__NR_getgid => identity::getgid(t),
        nr::__NR_getegid => identity::getegid(t),
        nr::__NR_getresuid => identity::getresuid(t, [a.ptr(0), a.ptr(1), a.ptr(2)]),
        nr::__NR_getresgid => identity::getresgid(t, [a.ptr(0), a.ptr(1), a.ptr(2)]),
        nr::__NR_getgroups => identity::getgroups(t, a.i32(0), a.ptr(1)),
        nr::__NR_getpgrp => identity::getpgid(t, 0),
        nr::__NR_getpgid | nr::__NR_getsid => identity::getpgid(t, a.i32(0)),
        nr::__NR_setpgid => identity::setpgid(t, a.i32(0)),
        nr::__NR_setsid => Err(Errno::EPERM), // it leads its process group
        nr::__NR_wait4 | nr::__NR_waitid => Err(Errno::ECHILD), // there are no children
        nr::__NR_uname => identity::uname(t, a.ptr(0)),
        nr::__NR_sysinfo => identity::sysinfo(a.ptr(0)),
        nr::__NR_prctl => identity::prctl(t, a.i32(0), a.u64(1)),
        nr::__NR_arch_prctl => identity::arch_prctl(a.u32(0), a.u64(1)),
        nr::__NR_personality => identity::personality(a.u32(0)),
        nr::__NR_prlimit64 => limit::prlimit64(t, a.i32(0), a.u32(1), a.ptr(2), a.ptr(3)),
        nr::__NR_getrlimit => limit::prlimit64(t, 0, a.u32(0), NULL, a.ptr(1)),
        nr::__NR_setrlimit => limit::prlimit64(t, 0, a.u32(0), a.ptr(1), NULL),
        nr::__NR_getrusage => limit::getrusage(a.i32(0), a.ptr(1)),
        nr::__NR_getpriority => limit::getpriority(a.u32(0)),
        nr::__NR_sched_yield => Ok(0), // to nobody
        nr::__NR_sched_getaffinity => limit::sched_getaffinity(t, a.i32(0), a.len(1), a.ptr(2)),
        nr::__NR_sched_setaffinity => limit::sched_setaffinity(t, a.i32(0), a.len(1), a.ptr(2)),
        nr::__NR_getcpu => limit::getcpu(a.ptr(0), a.ptr(1)),
        nr::__NR_getrandom => random::getrandom(a.ptr(0), a.len(1), a.u32(2)),
        nr::__NR_set_tid_address => thread::set_tid_address(t),
        nr::__NR_set_robust_list => thread::set_robust_list(a.len(1)),
        nr::__NR_futex => thread::futex(t, a.ptr(0), a.u32(1), a.u32(2), a.ptr(3)),
        _ => missing(number),
    }
}

const NULL: crate::mm::addr::UserAddr = crate::mm::addr::UserAddr(0);

/// A call that is not there: named once in the log.
#[cold]
fn missing(number: u32) -> Result<usize> {
    static NAMED: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];
    let bit = 1 << (number % 64);
    let is_new = NAMED
        .get(number as usize / 64)
        .is_none_or(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0);
    if is_new {
        let name = Sysno::new(number as usize).map_or("unknown", |call| call.name());
        log::line(format_args!("system call {name} ({number}) is not there yet"));
    }
    Err(Errno::ENOSYS)
}
