//! The kernel's ELF file: checked here, loaded by linux-loader.
//!
//! linux-loader checks the magic and loads at physical addresses. The class, the machine, the type,
//! overlaps, and where the segments end with their zero-filled parts, are checked here.

use std::io::Cursor;

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::header::{EI_CLASS, ELFCLASS64, ELFMAG, EM_X86_64, ET_EXEC};
use goblin::elf::program_header::program_header64::SIZEOF_PHDR;
use goblin::elf::program_header::{PF_W, PF_X, PT_LOAD};
use goblin::elf::{Elf, ProgramHeader};
use linux_loader::loader::KernelLoader;
use linux_loader::loader::elf::Elf as ElfLoader;
use shared_abi::layout::{KERNEL_BASE, KERNEL_GPA, PAGE_SIZE};

use super::Error;
use crate::memory::Memory;

/// A page-aligned piece of the kernel with its rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Guest-physical start.
    pub start: u64,
    /// Guest-physical end (exclusive), the zero-filled part included.
    pub end: u64,
    /// Whether the kernel may write to it.
    pub writable: bool,
    /// Whether it holds code.
    pub executable: bool,
}

/// A kernel that has been checked.
#[derive(Debug)]
pub struct Kernel {
    /// Virtual address of the first instruction.
    pub entry: u64,
    /// Its segments, in ascending order.
    pub segments: Vec<Segment>,
}

impl Kernel {
    /// End (exclusive) of the kernel in guest-physical memory, on a page boundary.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.segments.last().map_or(KERNEL_GPA, |s| s.end)
    }

    /// Checks the file.
    ///
    /// # Errors
    /// A message that says what is wrong with it.
    pub fn parse(name: &str, file: &[u8]) -> Result<Self, Error> {
        let fail = |reason: String| Error::NotOurs { name: name.to_owned(), reason };
        if !file.starts_with(ELFMAG) {
            return Err(fail("not an ELF file".into()));
        }
        let header = Elf::parse_header(file).map_err(|e| fail(e.to_string()))?;
        if header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64 {
            return Err(fail("not for 64-bit x86".into()));
        }
        if header.e_type != ET_EXEC {
            let reason =
                format!("ELF type {}, not an executable at fixed addresses", header.e_type);
            return Err(fail(reason));
        }
        let (start, count) = (header.e_phoff as usize, usize::from(header.e_phnum));
        let len = count * usize::from(header.e_phentsize);
        if usize::from(header.e_phentsize) != SIZEOF_PHDR
            || start.checked_add(len).is_none_or(|end| end > file.len())
        {
            return Err(fail("the program headers are cut off".into()));
        }
        let context = Ctx::new(Container::Big, Endian::Little);
        let headers =
            ProgramHeader::parse(file, start, count, context).map_err(|e| fail(e.to_string()))?;
        let mut segments = Vec::new();
        for header in headers.iter().filter(|h| h.p_type == PT_LOAD && h.p_memsz > 0) {
            segments.push(segment(header, file.len() as u64).map_err(fail)?);
        }
        segments.sort_by_key(|s| s.start);
        if segments.windows(2).any(|pair| pair[0].end > pair[1].start) {
            return Err(fail("segments share a page".into()));
        }
        let entry = header.e_entry;
        let entered = |s: &Segment| {
            s.executable && (s.start..s.end).contains(&entry.wrapping_sub(KERNEL_BASE))
        };
        if !segments.iter().any(entered) {
            return Err(fail(format!("the entry point {entry:#x} is not in its code")));
        }
        Ok(Self { entry, segments })
    }

    /// Loads the file that was checked.
    ///
    /// # Errors
    /// When the machine's memory is too small for it.
    pub fn load(&self, name: &str, file: &[u8], memory: &Memory) -> Result<(), Error> {
        if self.end() >= memory.low_ram_end() {
            return Err(Error::TooSmall { what: "the kernel" });
        }
        let loaded = ElfLoader::load(memory.ram(), None, &mut Cursor::new(file), None);
        loaded
            .map(|_| ())
            .map_err(|e| Error::NotOurs { name: name.to_owned(), reason: e.to_string() })
    }
}

fn segment(header: &ProgramHeader, file_len: u64) -> Result<Segment, String> {
    let file_end = header.p_offset.checked_add(header.p_filesz);
    if header.p_filesz > header.p_memsz || file_end.is_none_or(|end| end > file_len) {
        return Err("a segment is cut off".into());
    }
    if header.p_vaddr.wrapping_sub(KERNEL_BASE) != header.p_paddr || header.p_paddr < KERNEL_GPA {
        return Err(format!(
            "a segment at {:#x} is not where this VMM loads kernels",
            header.p_vaddr
        ));
    }
    let end = header
        .p_paddr
        .checked_add(header.p_memsz)
        .filter(|&end| end < 1 << 30)
        .ok_or("a segment is larger than kernels may be")?;
    let (writable, executable) = (header.p_flags & PF_W != 0, header.p_flags & PF_X != 0);
    if writable && executable {
        return Err("a segment is writable and executable".into());
    }
    Ok(Segment {
        start: header.p_paddr & !(PAGE_SIZE - 1),
        end: end.next_multiple_of(PAGE_SIZE),
        writable,
        executable,
    })
}

#[cfg(test)]
mod tests;
