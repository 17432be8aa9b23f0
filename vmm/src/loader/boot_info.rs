//! What the kernel is told: [`BootInfo`] and the strings behind it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use shared_abi::boot_info::{BootInfo, MAGIC, Range, Stream, VERSION};
use shared_abi::layout::{BOOT_INFO_GPA, PAGE_SIZE, ROOT_GPA};

use super::Error;
use crate::memory::Memory;

/// The facts that do not follow from the machine's memory.
#[derive(Debug)]
pub struct Facts<'a> {
    /// `FLAG_*` of `shared_abi::boot_info`.
    pub flags: u64,
    /// Number of virtual CPUs.
    pub cpu_count: u32,
    /// Frequency of the guest's time-stamp counter.
    pub tsc_khz: u32,
    /// The guest's time-stamp counter, and the wall clock at that moment.
    pub clock: (u64, u64),
    /// The program's path in the guest.
    pub program: &'a OsStr,
    /// Its working directory.
    pub cwd: &'a OsStr,
    /// Its arguments, the zeroth included.
    pub arguments: &'a [&'a OsStr],
    /// Its environment.
    pub environment: &'a [&'a OsStr],
    /// The kernel's own command line.
    pub cmdline: &'a OsStr,
    /// stdin, stdout, stderr.
    pub streams: [Stream; 3],
    /// User id, group id, file mode creation mask.
    pub user: (u32, u32, u32),
    /// Fresh random bytes.
    pub seed: [u8; 32],
    /// Fresh random bytes.
    pub program_random: [u8; 16],
    /// The host's name.
    pub hostname: [u8; 64],
}

/// Writes both behind the kernel, which ends at `kernel_end`.
///
/// # Errors
/// When the strings do not fit into low memory.
pub fn write(memory: &Memory, kernel_end: u64, facts: &Facts<'_>) -> Result<(), Error> {
    let fixed = [facts.program, facts.cwd, facts.cmdline];
    let (mut strings, mut offsets) = (Vec::new(), Vec::new());
    for string in fixed.iter().chain(facts.arguments).chain(facts.environment) {
        offsets.extend_from_slice(&(strings.len() as u32).to_le_bytes());
        strings.extend_from_slice(string.as_bytes());
        strings.push(0);
    }
    offsets.extend_from_slice(&(strings.len() as u32).to_le_bytes());
    let offsets_range = Range { gpa: kernel_end, len: offsets.len() as u64 };
    let strings_range = Range { gpa: kernel_end + offsets_range.len, len: strings.len() as u64 };
    let free_start = (strings_range.gpa + strings_range.len).next_multiple_of(PAGE_SIZE);
    if free_start >= memory.low_ram_end() {
        return Err(Error::TooSmall { what: "the program's arguments" });
    }
    memory.write(offsets_range.gpa, &offsets)?;
    memory.write(strings_range.gpa, &strings)?;
    let (uid, gid, umask) = facts.user;
    let (tsc_base, realtime_ns) = facts.clock;
    let info = BootInfo {
        magic: MAGIC,
        version: VERSION,
        cpu_count: facts.cpu_count,
        flags: facts.flags,
        low_ram_end: memory.low_ram_end(),
        high_ram_end: memory.high_ram_end(),
        free_start,
        root: Range { gpa: ROOT_GPA, len: memory.root_len() },
        strings: strings_range,
        string_offsets: offsets_range,
        arg_count: facts.arguments.len() as u32,
        env_count: facts.environment.len() as u32,
        tsc_khz: facts.tsc_khz,
        umask,
        tsc_base,
        realtime_ns,
        uid,
        gid,
        seed: facts.seed,
        program_random: facts.program_random,
        streams: facts.streams,
        hostname: facts.hostname,
    };
    memory.write_shared(BOOT_INFO_GPA, &info)?;
    Ok(())
}
