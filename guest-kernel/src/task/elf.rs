//! ELF programs: their segments, and those of their interpreter, become areas of an address space (System
//! V ABI, AMD64 supplement 3; Linux's fs/binfmt_elf.c for what it leaves open).

use alloc::vec::Vec;

use elf::abi::{EM_X86_64, ET_DYN, ET_EXEC, PF_R, PF_W, PF_X, PT_INTERP, PT_LOAD, PT_PHDR};
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::parse::ParseAt;
use elf::segment::ProgramHeader;

use crate::error::{Errno, Result};
use crate::fs::inode::{FileType, InodeRef};
use crate::mm::addr::{PAGE, USER_END, UserAddr, page_up};
use crate::mm::space::{Placement, Space};
use crate::mm::vma::{Protection, Sharing, Source};

/// Where a position-independent program is put.
const PIE_BASE: u64 = 0x5555_5555_4000;
/// Bytes of a file that decide what it is; the longest `#!` line.
pub const HEAD_LEN: usize = 256;
/// The most program headers: what fits into a page.
const PROGRAM_HEADERS_MAX: usize = PAGE / PROGRAM_HEADER_LEN;
const PROGRAM_HEADER_LEN: usize = 56;
const FILE_HEADER_LEN: usize = 64;
/// Longest interpreter path.
const PATH_LEN_MAX: usize = 4096;

/// A program in memory, ready to be started.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    /// First instruction: the interpreter's if there is one.
    pub entry: UserAddr,
    /// The program's own entry point: AT_ENTRY.
    pub program_entry: UserAddr,
    /// Where its program headers are: AT_PHDR.
    pub headers: UserAddr,
    /// How many: AT_PHNUM.
    pub header_count: u64,
    /// Where the interpreter is: AT_BASE; 0 without one.
    pub interpreter_base: u64,
}

/// An ELF file whose headers have been read and checked.
struct Elf {
    inode: InodeRef,
    header: FileHeader<LittleEndian>,
    segments: Vec<ProgramHeader>,
}

/// Reads the first bytes of a file that is to be executed.
///
/// # Errors
/// EACCES if it is not a regular file, or the file system's.
pub fn read_head(inode: &InodeRef) -> Result<([u8; HEAD_LEN], usize)> {
    if inode.file_type() != FileType::Regular {
        return Err(Errno::EACCES);
    }
    let mut head = [0; HEAD_LEN];
    let len = inode.read_kernel(0, &mut head)?;
    Ok((head, len))
}

/// Loads an ELF program and its interpreter, which `open` finds by path.
///
/// # Errors
/// ENOEXEC if it is not a program for this processor, ENOMEM, EINVAL, or what `open` says.
pub fn load(
    space: &Space,
    inode: &InodeRef,
    head: &[u8],
    open: impl FnOnce(&[u8]) -> Result<InodeRef>,
) -> Result<Loaded> {
    let program = Elf::read(inode.clone(), head)?;
    let interpreter = match program.interpreter()? {
        Some(path) => {
            let inode = open(&path)?;
            let (head, len) = read_head(&inode)?;
            Some(Elf::read(inode, &head[..len]).map_err(|_| Errno::ELIBBAD)?)
        }
        None => None,
    };
    let (bias, end) = program.map(space, Some(PIE_BASE))?;
    space.set_heap_start(UserAddr(end));
    let program_entry = UserAddr(program.header.e_entry.wrapping_add(bias));
    let (entry, interpreter_base) = match interpreter {
        Some(elf) => {
            let (bias, _) = elf.map(space, None)?;
            (UserAddr(elf.header.e_entry.wrapping_add(bias)), bias)
        }
        None => (program_entry, 0),
    };
    Ok(Loaded {
        entry,
        program_entry,
        headers: program.headers_address(bias),
        header_count: program.segments.len() as u64,
        interpreter_base,
    })
}

impl Elf {
    fn read(inode: InodeRef, head: &[u8]) -> Result<Self> {
        let bytes = head.get(..FILE_HEADER_LEN).ok_or(Errno::ENOEXEC)?;
        let ident = parse_ident::<LittleEndian>(bytes).map_err(|_| Errno::ENOEXEC)?;
        let header = FileHeader::parse_tail(ident, &bytes[16..]).map_err(|_| Errno::ENOEXEC)?;
        let is_ours = header.class == Class::ELF64
            && header.e_machine == EM_X86_64
            && (header.e_type == ET_EXEC || header.e_type == ET_DYN)
            && usize::from(header.e_phentsize) == PROGRAM_HEADER_LEN;
        let count = usize::from(header.e_phnum);
        if !is_ours || count == 0 || count > PROGRAM_HEADERS_MAX {
            return Err(Errno::ENOEXEC);
        }
        let mut bytes = alloc::vec![0; count * PROGRAM_HEADER_LEN];
        let start = header.e_phoff;
        match usize::try_from(start).ok().and_then(|s| head.get(s..s.checked_add(bytes.len())?)) {
            Some(headers) => bytes.copy_from_slice(headers),
            None if inode.read_kernel(start, &mut bytes)? == bytes.len() => {}
            None => return Err(Errno::ENOEXEC),
        }
        let mut offset = 0;
        let mut segments = Vec::with_capacity(count);
        for _ in 0..count {
            let segment = ProgramHeader::parse_at(LittleEndian, Class::ELF64, &mut offset, &bytes);
            segments.push(segment.map_err(|_| Errno::ENOEXEC)?);
        }
        Ok(Self { inode, header, segments })
    }

    fn loads(&self) -> impl Iterator<Item = &ProgramHeader> {
        self.segments.iter().filter(|s| s.p_type == PT_LOAD && s.p_memsz > 0)
    }

    fn interpreter(&self) -> Result<Option<Vec<u8>>> {
        let Some(segment) = self.segments.iter().find(|s| s.p_type == PT_INTERP) else {
            return Ok(None);
        };
        let len = usize::try_from(segment.p_filesz).map_err(|_| Errno::ENOEXEC)?;
        if !(2..=PATH_LEN_MAX).contains(&len) {
            return Err(Errno::ENOEXEC);
        }
        let mut path = alloc::vec![0; len];
        if self.inode.read_kernel(segment.p_offset, &mut path)? != len || path.pop() != Some(0) {
            return Err(Errno::ENOEXEC);
        }
        Ok(Some(path))
    }

    /// Maps the segments; the load bias, and the end of the last one.
    fn map(&self, space: &Space, pie_base: Option<u64>) -> Result<(u64, u64)> {
        let (first, end) = self.span()?;
        let bias = match (self.header.e_type, pie_base) {
            (ET_EXEC, _) => 0,
            (_, Some(base)) => {
                let align = self.loads().map(|s| s.p_align).max().unwrap_or(1);
                let align =
                    if align.is_power_of_two() { align.max(PAGE as u64) } else { PAGE as u64 };
                base.checked_next_multiple_of(align).ok_or(Errno::EINVAL)?.wrapping_sub(first)
            }
            // Anywhere: the first segment reserves the place of all.
            (_, None) => {
                let none = Protection::empty();
                let at = space.map(
                    Placement::Hint(UserAddr(0)),
                    end - first,
                    none,
                    Sharing::Private,
                    Source::Anonymous,
                )?;
                space.unmap(at, end - first)?;
                at.0.wrapping_sub(first)
            }
        };
        for segment in self.loads() {
            self.map_segment(space, segment, bias)?;
        }
        Ok((bias, end.wrapping_add(bias)))
    }

    /// First page and end of all segments together.
    fn span(&self) -> Result<(u64, u64)> {
        let mut first = u64::MAX;
        let mut last = 0;
        for segment in self.loads() {
            let end = segment.p_vaddr.checked_add(segment.p_memsz).ok_or(Errno::EINVAL)?;
            if end > USER_END || segment.p_filesz > segment.p_memsz {
                return Err(Errno::EINVAL);
            }
            first = first.min(UserAddr(segment.p_vaddr).page_down().0);
            last = last.max(end);
        }
        if last == 0 {
            return Err(Errno::ENOEXEC);
        }
        Ok((first, page_up(last).ok_or(Errno::EINVAL)?))
    }

    fn map_segment(&self, space: &Space, segment: &ProgramHeader, bias: u64) -> Result<()> {
        let start = segment.p_vaddr.wrapping_add(bias);
        let page = UserAddr(start).page_down();
        let lead = start - page.0;
        if segment.p_offset % PAGE as u64 != lead {
            return Err(Errno::EINVAL);
        }
        let protection = protection_of(segment);
        let file_end = start + segment.p_filesz;
        let file_pages_end = page_up(file_end).ok_or(Errno::EINVAL)?;
        let memory_end = page_up(start + segment.p_memsz).ok_or(Errno::EINVAL)?;
        if segment.p_filesz > 0 {
            let source =
                Source::File { inode: self.inode.clone(), page: segment.p_offset / PAGE as u64 };
            let len = file_pages_end - page.0;
            space.map(Placement::Fixed(page), len, protection, Sharing::Private, source)?;
            // What follows the file's bytes in its last page is zero, not what the file has there.
            let tail = (file_end % PAGE as u64) as usize;
            if segment.p_memsz > segment.p_filesz && tail != 0 && segment.p_flags & PF_W != 0 {
                let at = UserAddr(file_end).page_down();
                let offset = (segment.p_offset - lead) + (at.0 - page.0);
                space.fill_page(at, &self.inode, offset, tail)?;
            }
        }
        let zero_start = if segment.p_filesz > 0 { file_pages_end } else { page.0 };
        if memory_end > zero_start {
            let len = memory_end - zero_start;
            let at = Placement::Fixed(UserAddr(zero_start));
            space.map(at, len, protection, Sharing::Private, Source::Anonymous)?;
        }
        Ok(())
    }

    /// Where the program headers are in memory.
    fn headers_address(&self, bias: u64) -> UserAddr {
        if let Some(segment) = self.segments.iter().find(|s| s.p_type == PT_PHDR) {
            return UserAddr(segment.p_vaddr.wrapping_add(bias));
        }
        let offset = self.header.e_phoff;
        let holds = |s: &&ProgramHeader| s.p_offset <= offset && offset - s.p_offset < s.p_filesz;
        self.loads()
            .find(holds)
            .map_or(UserAddr(0), |s| UserAddr((offset - s.p_offset + s.p_vaddr).wrapping_add(bias)))
    }
}

fn protection_of(segment: &ProgramHeader) -> Protection {
    let bits = [(PF_R, Protection::READ), (PF_W, Protection::WRITE), (PF_X, Protection::EXECUTE)];
    bits.into_iter().filter(|(flag, _)| segment.p_flags & flag != 0).map(|(_, bit)| bit).collect()
}
