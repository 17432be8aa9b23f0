//! Who and what a task is: ids, names, the calls that ask for them.

use linux_raw_sys::system::{new_utsname, sysinfo as Sysinfo};

use super::Task;
use crate::error::{Errno, Result};
use crate::mm::addr::{PAGE, UserAddr};
use crate::mm::frame;
use crate::mm::user::{UserSlice, read_c_string, write_value};
use crate::time;

/// The Linux release whose system calls these are.
pub const RELEASE: &[u8] = b"6.1.0";
/// The kernel's name for it.
pub const VERSION: &[u8] = b"#1 SMP PREEMPT_DYNAMIC vmm";

/// `getpid(2)`.
///
/// # Errors
/// None.
pub fn getpid(task: &Task) -> Result<usize> {
    Ok(task.pid as usize)
}

/// `gettid(2)`.
///
/// # Errors
/// None.
pub fn gettid(task: &Task) -> Result<usize> {
    Ok(task.tid as usize)
}

/// `getppid(2)`.
///
/// # Errors
/// None.
#[inline]
pub fn getppid(task: &Task) -> Result<usize> {
    Ok(task.ppid.load(core::sync::atomic::Ordering::Relaxed) as usize)
}

/// `getuid(2)`.
///
/// # Errors
/// None.
pub fn getuid(task: &Task) -> Result<usize> {
    Ok(task.credentials.lock().uid as usize)
}

/// `geteuid(2)`.
///
/// # Errors
/// None.
pub fn geteuid(task: &Task) -> Result<usize> {
    Ok(task.credentials.lock().euid as usize)
}

/// `getgid(2)`.
///
/// # Errors
/// None.
pub fn getgid(task: &Task) -> Result<usize> {
    Ok(task.credentials.lock().gid as usize)
}

/// `getegid(2)`.
///
/// # Errors
/// None.
pub fn getegid(task: &Task) -> Result<usize> {
    Ok(task.credentials.lock().egid as usize)
}

/// `getresuid(2)`: real, effective, saved.
///
/// # Errors
/// EFAULT.
pub fn getresuid(task: &Task, addresses: [UserAddr; 3]) -> Result<usize> {
    let ids = *task.credentials.lock();
    write_ids([ids.uid, ids.euid, ids.euid], addresses)
}

/// `getresgid(2)`: real, effective, saved.
///
/// # Errors
/// EFAULT.
pub fn getresgid(task: &Task, addresses: [UserAddr; 3]) -> Result<usize> {
    let ids = *task.credentials.lock();
    write_ids([ids.gid, ids.egid, ids.egid], addresses)
}

fn write_ids(ids: [u32; 3], addresses: [UserAddr; 3]) -> Result<usize> {
    for (address, id) in addresses.into_iter().zip(ids) {
        write_value(address, &id)?;
    }
    Ok(0)
}

/// `getgroups(2)`: the one group.
///
/// # Errors
/// EINVAL, EFAULT.
pub fn getgroups(task: &Task, size: i32, list: UserAddr) -> Result<usize> {
    if size < 0 {
        return Err(Errno::EINVAL);
    }
    if size > 0 {
        let gid = task.credentials.lock().gid;
        write_value(list, &gid)?;
    }
    Ok(1)
}

/// `getpgid(2)` and `getsid(2)`: the process leads its group and its session.
///
/// # Errors
/// ESRCH.
pub fn getpgid(task: &Task, pid: i32) -> Result<usize> {
    if pid == 0 || pid as u32 == task.pid { Ok(task.pid as usize) } else { Err(Errno::ESRCH) }
}

/// `setpgid(2)`: a session leader cannot be moved.
///
/// # Errors
/// EPERM, ESRCH.
pub fn setpgid(task: &Task, pid: i32) -> Result<usize> {
    getpgid(task, pid)?;
    Err(Errno::EPERM)
}

/// `uname(2)`.
///
/// # Errors
/// EFAULT.
pub fn uname(task: &Task, buffer: UserAddr) -> Result<usize> {
    const FIELD: usize = 65;
    const _: () = assert!(size_of::<new_utsname>() == 6 * FIELD);
    let mut bytes = [0; 6 * FIELD];
    let name = super::hostname();
    let fields: [&[u8]; 6] = [b"Linux", &name, RELEASE, VERSION, b"x86_64", b"(none)"];
    for (slot, field) in bytes.chunks_exact_mut(FIELD).zip(fields) {
        let len = field.iter().position(|&b| b == 0).unwrap_or(field.len()).min(FIELD - 1);
        slot[..len].copy_from_slice(&field[..len]);
    }
    let _ = task;
    UserSlice::new(buffer, bytes.len())?.write(&bytes)?;
    Ok(0)
}

/// `sysinfo(2)`.
///
/// # Errors
/// EFAULT.
pub fn sysinfo(buffer: UserAddr) -> Result<usize> {
    const SIZE: usize = size_of::<Sysinfo>();
    let usage = frame::usage();
    let page = PAGE as u64;
    // uptime, 3 loads, total, free, shared, buffers, swap total, swap free, procs (u16), pad.
    let words: [u64; 10] = [
        time::monotonic_ns() / time::SECOND_NS,
        0,
        0,
        0,
        usage.total * page,
        (usage.total - usage.used) * page,
        0,
        0,
        0,
        0,
    ];
    let mut bytes = [0u8; SIZE];
    for (slot, word) in bytes.chunks_exact_mut(8).zip(words) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    bytes[80] = 1; // procs
    bytes[104] = 1; // mem_unit
    UserSlice::new(buffer, SIZE)?.write(&bytes)?;
    Ok(0)
}

/// `prctl(2)`.
///
/// Limits: what is not listed is EINVAL, as on a Linux built without it.
///
/// # Errors
/// EINVAL, EFAULT.
pub fn prctl(task: &Task, option: i32, argument: u64) -> Result<usize> {
    use linux_raw_sys::prctl as pr;
    const COMM_LEN: usize = 15;
    match option as u32 {
        pr::PR_SET_NAME => {
            let name = match read_c_string(UserAddr(argument), COMM_LEN) {
                Err(Errno::ENAMETOOLONG) => {
                    let mut name = alloc::vec![0; COMM_LEN];
                    UserSlice::new(UserAddr(argument), COMM_LEN)?.read(&mut name)?;
                    name
                }
                name => name?,
            };
            task.image.lock().comm = name;
            Ok(0)
        }
        pr::PR_GET_NAME => {
            let mut name = [0; COMM_LEN + 1];
            let comm = task.image.lock().comm.clone();
            let len = comm.len().min(COMM_LEN);
            name[..len].copy_from_slice(&comm[..len]);
            UserSlice::new(UserAddr(argument), name.len())?.write(&name)?;
            Ok(0)
        }
        pr::PR_GET_DUMPABLE => Ok(1),
        pr::PR_SET_DUMPABLE if argument <= 1 => Ok(0),
        pr::PR_SET_PDEATHSIG if argument <= 64 => Ok(0), // the parent is outside of the machine
        pr::PR_GET_NO_NEW_PRIVS => Ok(0),
        _ => {
            crate::log::line(format_args!("not supported: prctl option {option}"));
            Err(Errno::EINVAL)
        }
    }
}

/// `arch_prctl(2)`.
///
/// # Errors
/// EINVAL, EPERM, EFAULT.
#[cfg(target_os = "none")]
pub fn arch_prctl(code: u32, argument: u64) -> Result<usize> {
    use crate::arch::base;
    // arch/x86/include/uapi/asm/prctl.h
    const ARCH_SET_GS: u32 = 0x1001;
    const ARCH_SET_FS: u32 = 0x1002;
    const ARCH_GET_FS: u32 = 0x1003;
    const ARCH_GET_GS: u32 = 0x1004;
    match code {
        ARCH_SET_FS => base::set_fs(check_base(argument)?),
        ARCH_SET_GS => base::set_user_gs(check_base(argument)?),
        ARCH_GET_FS => write_value(UserAddr(argument), &base::fs())?,
        ARCH_GET_GS => write_value(UserAddr(argument), &base::user_gs())?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

#[cfg(target_os = "none")]
fn check_base(address: u64) -> Result<u64> {
    if address < crate::mm::addr::USER_END { Ok(address) } else { Err(Errno::EPERM) }
}

/// `personality(2)`: Linux's.
///
/// # Errors
/// EINVAL for others.
pub fn personality(persona: u32) -> Result<usize> {
    const QUERY: u32 = 0xffff_ffff;
    const ADDR_NO_RANDOMIZE: u32 = 0x004_0000; // there is none to be turned off
    if persona == QUERY || persona & !ADDR_NO_RANDOMIZE == 0 { Ok(0) } else { Err(Errno::EINVAL) }
}
