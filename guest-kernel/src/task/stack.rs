//! The first words on a program's stack: strings, auxiliary vector, environment, arguments (System V
//! ABI, AMD64 supplement 3.4.1).

use alloc::vec::Vec;

use linux_raw_sys::auxvec as at;
use zerocopy::IntoBytes;

use super::elf::Loaded;
use crate::boot_info::StringList;
use crate::error::{Errno, Result};
use crate::mm::addr::{PAGE, USER_END, UserAddr};
use crate::mm::space::{Placement, Space};
use crate::mm::vma::{Protection, Sharing, Source};

/// Size of the stack: RLIMIT_STACK.
pub const STACK_SIZE: u64 = 8 << 20;
/// The most that arguments and environment may take of it, as on Linux.
const STRINGS_MAX: u64 = STACK_SIZE / 4;
/// The end of the stack.
pub const STACK_TOP: UserAddr = UserAddr(USER_END);
/// Ticks of `times(2)` per second: AT_CLKTCK.
const CLOCK_TICKS: u64 = 100;
/// What a signal frame needs with the FXSAVE area: AT_MINSIGSTKSZ.
const SIGNAL_STACK_MIN: u64 = 2048;

/// What the stack shall hold.
pub struct Contents<'a> {
    /// Arguments that come first: the script's interpreter and so on.
    pub first_arguments: &'a [Vec<u8>],
    /// The other arguments.
    pub arguments: StringList<'a>,
    /// The environment.
    pub environment: StringList<'a>,
    /// The path that was executed: AT_EXECFN.
    pub path: &'a [u8],
    /// AT_RANDOM.
    pub random: [u8; 16],
    /// Real and effective user, real and effective group.
    pub ids: [u32; 4],
    /// Where the vDSO is: AT_SYSINFO_EHDR.
    pub vdso: UserAddr,
    /// AT_HWCAP: CPUID leaf 1, EDX.
    pub hwcap: u64,
}

/// Maps the stack and fills its top; the initial stack pointer.
///
/// # Errors
/// E2BIG if the strings are too long, ENOMEM.
pub fn build(space: &Space, contents: &Contents<'_>, loaded: &Loaded) -> Result<UserAddr> {
    let limit = UserAddr(STACK_TOP.0 - STACK_SIZE);
    let first = UserAddr(STACK_TOP.0 - PAGE as u64);
    let protection = Protection::READ | Protection::WRITE;
    let source = Source::Stack { limit };
    space.map(Placement::Fixed(first), PAGE as u64, protection, Sharing::Private, source)?;

    let mut stack = Stack { space, at: STACK_TOP.0 - 8 }; // Linux leaves a null word at the very end
    let path = stack.push(contents.path, 1)?;
    let environment = stack.push(contents.environment.bytes, 0)?;
    let arguments = stack.push(contents.arguments.bytes, 0)?;
    let mut pointers = Vec::new();
    for argument in contents.first_arguments {
        pointers.push(stack.push(argument, 1)?.0);
    }
    let platform = stack.push(b"x86_64", 1)?;
    stack.at &= !15;
    let random = stack.push(&contents.random, 0)?;

    let argument_count = (pointers.len() + contents.arguments.offsets.len()) as u64;
    let environment_count = contents.environment.offsets.len() as u64;
    let [uid, euid, gid, egid] = contents.ids.map(u64::from);
    let auxiliary = [
        (at::AT_SYSINFO_EHDR, contents.vdso.0),
        (at::AT_HWCAP, contents.hwcap),
        (at::AT_PAGESZ, PAGE as u64),
        (at::AT_CLKTCK, CLOCK_TICKS),
        (at::AT_PHDR, loaded.headers.0),
        (at::AT_PHENT, 56),
        (at::AT_PHNUM, loaded.header_count),
        (at::AT_BASE, loaded.interpreter_base),
        (at::AT_FLAGS, 0),
        (at::AT_ENTRY, loaded.program_entry.0),
        (at::AT_UID, uid),
        (at::AT_EUID, euid),
        (at::AT_GID, gid),
        (at::AT_EGID, egid),
        (at::AT_SECURE, 0),
        (at::AT_RANDOM, random.0),
        (at::AT_HWCAP2, 0),
        (at::AT_EXECFN, path.0),
        (at::AT_PLATFORM, platform.0),
        (at::AT_MINSIGSTKSZ, SIGNAL_STACK_MIN),
        (at::AT_NULL, 0),
    ];
    let words = 1 + argument_count + 1 + environment_count + 1 + 2 * auxiliary.len() as u64;
    let start = stack.at.checked_sub(words * 8).ok_or(Errno::E2BIG)? & !15;
    if STACK_TOP.0 - start > STRINGS_MAX + 4 * PAGE as u64 {
        return Err(Errno::E2BIG);
    }
    let mut out = Words { space, at: start, buffer: [0; Words::BATCH], len: 0 };
    out.push(argument_count)?;
    for pointer in pointers {
        out.push(pointer)?;
    }
    out.push_pointers(contents.arguments, arguments)?;
    out.push(0)?;
    out.push_pointers(contents.environment, environment)?;
    out.push(0)?;
    out.flush()?;
    let auxiliary = auxiliary.map(|(kind, value)| [u64::from(kind), value]);
    space.write(UserAddr(out.at), auxiliary.as_bytes())?;
    Ok(UserAddr(start))
}

/// A stack that grows down by strings.
struct Stack<'a> {
    space: &'a Space,
    at: u64,
}

impl Stack<'_> {
    /// Pushes bytes and `zeroes` NULs behind them.
    fn push(&mut self, bytes: &[u8], zeroes: u64) -> Result<UserAddr> {
        let len = bytes.len() as u64 + zeroes;
        if STACK_TOP.0 - self.at + len > STRINGS_MAX {
            return Err(Errno::E2BIG);
        }
        self.at -= len; // fresh stack pages are zero already
        self.space.write(UserAddr(self.at), bytes)?;
        Ok(UserAddr(self.at))
    }
}

/// Words upwards from an address, written in batches.
struct Words<'a> {
    space: &'a Space,
    at: u64,
    buffer: [u64; Words::BATCH],
    len: usize,
}

impl Words<'_> {
    const BATCH: usize = 64;

    fn push(&mut self, word: u64) -> Result<()> {
        self.buffer[self.len] = word;
        self.len += 1;
        if self.len == Self::BATCH { self.flush() } else { Ok(()) }
    }

    fn push_pointers(&mut self, strings: StringList<'_>, base: UserAddr) -> Result<()> {
        let base = base.0.wrapping_sub(u64::from(strings.base));
        for &offset in strings.offsets {
            self.push(base.wrapping_add(u64::from(offset)))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.space.write(UserAddr(self.at), self.buffer[..self.len].as_bytes())?;
        self.at += self.len as u64 * 8;
        self.len = 0;
        Ok(())
    }
}
