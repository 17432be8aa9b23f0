//! The system calls of memory.

use linux_raw_sys::general as linux;

use super::addr::{PAGE, UserAddr, page_up};
use super::space::{Access, Placement};
use super::user::write_value;
use super::vma::{Protection, Sharing, Source};
use crate::error::{Errno, Result};
use crate::fs::inode::FileType;
use crate::log;
use crate::task::Task;

/// /dev/zero: major 1, minor 5.
const ZERO_DEVICE: u64 = 0x105;

fn protection(bits: u32) -> Result<Protection> {
    Protection::from_bits(bits).ok_or(Errno::EINVAL)
}

/// `mmap(2)`.
///
/// Flags that only advise, or that have no meaning without swap, are ignored, as are unknown ones: so
/// does Linux.
///
/// Limits: MAP_HUGETLB is refused; MAP_GROWSDOWN areas do not grow; shared anonymous memory is private
/// to the one process that there is.
///
/// # Errors
/// As the manual page has them.
pub fn mmap(
    task: &Task,
    addr: UserAddr,
    len: u64,
    prot: u32,
    flags: u32,
    fd: i32,
    offset: u64,
) -> Result<usize> {
    let protection = protection(prot)?;
    if len == 0 || !offset.is_multiple_of(PAGE as u64) {
        return Err(Errno::EINVAL);
    }
    let sharing = match flags & linux::MAP_TYPE {
        linux::MAP_PRIVATE => Sharing::Private,
        linux::MAP_SHARED | linux::MAP_SHARED_VALIDATE => Sharing::Shared,
        _ => return Err(Errno::EINVAL),
    };
    if flags & linux::MAP_HUGETLB != 0 {
        log::unsupported("mmap with MAP_HUGETLB");
        return Err(Errno::ENOMEM);
    }
    let placement = if flags & linux::MAP_FIXED_NOREPLACE != 0 {
        Placement::FixedNoReplace(addr)
    } else if flags & linux::MAP_FIXED != 0 {
        Placement::Fixed(addr)
    } else {
        Placement::Hint(addr)
    };
    let source = if flags & linux::MAP_ANONYMOUS != 0 {
        Source::Anonymous
    } else {
        file_source(task, fd, offset, len, protection, sharing)?
    };
    let at = task.space.map(placement, len, protection, sharing, source)?;
    if flags & linux::MAP_POPULATE != 0 {
        populate(task, at, len, protection);
    }
    Ok(at.0 as usize)
}

fn populate(task: &Task, at: UserAddr, len: u64, protection: Protection) {
    let access = if protection.contains(Protection::WRITE) { Access::Write } else { Access::Read };
    let end = at.0 + page_up(len).unwrap_or(0);
    let mut page = at;
    // It is a hint: what cannot be had now is a fault later.
    while page.0 < end && task.space.page_for(page, access).is_ok() {
        page = page.add(PAGE as u64);
    }
}

fn file_source(
    task: &Task,
    fd: i32,
    offset: u64,
    len: u64,
    protection: Protection,
    sharing: Sharing,
) -> Result<Source> {
    let file = task.files.get(fd)?;
    offset.checked_add(len).ok_or(Errno::EOVERFLOW)?;
    let for_write = sharing == Sharing::Shared && protection.contains(Protection::WRITE);
    if !file.is_readable() || (for_write && !file.is_writable()) {
        return Err(Errno::EACCES);
    }
    if file.inode().file_type() == FileType::CharDevice
        && file.inode().metadata().rdev == ZERO_DEVICE
    {
        return Ok(Source::Anonymous);
    }
    if file.inode().file_type() != FileType::Regular {
        return Err(Errno::ENODEV);
    }
    Ok(Source::File { inode: file.inode().clone(), page: offset / PAGE as u64 })
}

/// `munmap(2)`.
///
/// # Errors
/// EINVAL.
pub fn munmap(task: &Task, addr: UserAddr, len: u64) -> Result<usize> {
    task.space.unmap(addr, len)?;
    Ok(0)
}

/// `mprotect(2)`.
///
/// # Errors
/// EINVAL, ENOMEM, EACCES.
pub fn mprotect(task: &Task, addr: UserAddr, len: u64, prot: u32) -> Result<usize> {
    const GROWS: u32 = linux::PROT_GROWSDOWN | linux::PROT_GROWSUP;
    let protection = protection(prot & !GROWS)?;
    if len > 0 {
        task.space.protect(addr, len, protection)?;
    }
    Ok(0)
}

/// `brk(2)`.
///
/// # Errors
/// None: the answer tells.
pub fn brk(task: &Task, addr: UserAddr) -> Result<usize> {
    Ok(task.space.set_heap_end(addr).0 as usize)
}

/// `madvise(2)`.
///
/// # Errors
/// EINVAL, ENOMEM.
pub fn madvise(task: &Task, addr: UserAddr, len: u64, advice: u32) -> Result<usize> {
    let len = page_up(len).ok_or(Errno::EINVAL)?;
    let end = addr.0.checked_add(len).map(UserAddr).ok_or(Errno::EINVAL)?;
    if addr.page_offset() != 0 {
        return Err(Errno::EINVAL);
    }
    match advice {
        linux::MADV_DONTNEED | linux::MADV_FREE => task.space.forget(addr, end)?,
        linux::MADV_NORMAL..=linux::MADV_WILLNEED
        | linux::MADV_DONTFORK..=linux::MADV_DOFORK
        | linux::MADV_MERGEABLE..=linux::MADV_DODUMP
        | linux::MADV_COLD
        | linux::MADV_PAGEOUT => {
            if !task.space.lock().areas.covers(addr, end) {
                return Err(Errno::ENOMEM);
            }
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// `mincore(2)`: everything that is mapped counts as resident.
///
/// # Errors
/// EINVAL, ENOMEM, EFAULT.
pub fn mincore(task: &Task, addr: UserAddr, len: u64, vector: UserAddr) -> Result<usize> {
    let len = page_up(len).ok_or(Errno::ENOMEM)?;
    let end = addr.0.checked_add(len).map(UserAddr).ok_or(Errno::ENOMEM)?;
    if addr.page_offset() != 0 {
        return Err(Errno::EINVAL);
    }
    if !task.space.lock().areas.covers(addr, end) {
        return Err(Errno::ENOMEM);
    }
    for i in 0..len / PAGE as u64 {
        write_value(vector.add(i), &1u8)?;
    }
    Ok(0)
}

/// `msync(2)`: what is shared is the file itself.
///
/// # Errors
/// EINVAL, ENOMEM.
pub fn msync(task: &Task, addr: UserAddr, len: u64, flags: u32) -> Result<usize> {
    const KNOWN: u32 = linux::MS_ASYNC | linux::MS_INVALIDATE | linux::MS_SYNC;
    const BOTH: u32 = linux::MS_ASYNC | linux::MS_SYNC;
    let len = page_up(len).ok_or(Errno::ENOMEM)?;
    let end = addr.0.checked_add(len).map(UserAddr).ok_or(Errno::ENOMEM)?;
    if addr.page_offset() != 0 || flags & !KNOWN != 0 || flags & BOTH == BOTH {
        return Err(Errno::EINVAL);
    }
    if task.space.lock().areas.covers(addr, end) { Ok(0) } else { Err(Errno::ENOMEM) }
}

/// The `mlock(2)` family: nothing is ever swapped out.
///
/// # Errors
/// ENOMEM where nothing is mapped.
pub fn mlock(task: &Task, addr: UserAddr, len: u64) -> Result<usize> {
    let start = addr.page_down();
    let end = addr.0.checked_add(len).and_then(page_up).map(UserAddr).ok_or(Errno::EINVAL)?;
    if task.space.lock().areas.covers(start, end) { Ok(0) } else { Err(Errno::ENOMEM) }
}
