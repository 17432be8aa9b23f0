//! What the root has to know of a host ELF file: can it run here, and which files does it need?
//!
//! Reads the headers and the few strings they name with positioned reads and never the whole file: a
//! library of 150 MB costs a few pages. Every number in the file is a claim, and every read has a bound.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::dynamic::{
    DT_NEEDED, DT_NULL, DT_RPATH, DT_RUNPATH, DT_SONAME, DT_STRTAB, Dynamic,
};
use goblin::elf::header::header64::{self, Header};
use goblin::elf::header::{
    EI_CLASS, EI_DATA, ELFCLASS64, ELFDATA2LSB, ELFMAG, EM_386, EM_X86_64, ET_CORE, ET_DYN,
    ET_EXEC, ET_REL,
};
use goblin::elf::program_header::{
    PT_DYNAMIC, PT_INTERP, PT_LOAD, ProgramHeader, program_header64,
};

/// Bytes read from the start of a file: the headers and, in most files, the interpreter's name.
pub(crate) const HEAD_LEN: usize = 2048;
/// Linux reads no more than this of program headers (`fs/binfmt_elf.c`, `load_elf_phdrs`).
const PROGRAM_HEADERS_LEN_MAX: usize = 65536;
/// A dynamic section has some 30 entries; this allows 16,000.
const DYNAMIC_LEN_MAX: u64 = 256 << 10;
/// Longest path or list of paths that is read from a file.
const STRING_LEN_MAX: usize = 64 << 10;
/// Longest interpreter path (Linux: `PATH_MAX`).
const INTERPRETER_LEN_MAX: u64 = 4096;

/// Why a file is no ELF program for this machine. Each is the end of a sentence that begins with the
/// file's name.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// Another processor.
    #[error("is for {0}, this machine is x86_64: build it for x86_64")]
    WrongMachine(String),
    /// i386 or x32.
    #[error("is a 32-bit program, only 64-bit ones run here: build it with -m64")]
    ThirtyTwoBit,
    /// `ET_REL`.
    #[error("is an object file (ET_REL), not a program: link it")]
    Object,
    /// `ET_CORE`.
    #[error("is a core dump, not a program: name the program that dumped it")]
    Core,
    /// Any other `e_type`.
    #[error("has the unknown ELF type {0}: build it as an executable")]
    UnknownType(u16),
    /// The file ends before something that its headers promise.
    #[error("is truncated, its {0} beyond the end of the file: copy or build it again")]
    Truncated(&'static str),
    /// A field with a value that Linux refuses, too.
    #[error("is malformed ({0}): build it again")]
    Malformed(&'static str),
    /// Nothing to load.
    #[error("has no loadable segment, so it is not a program: link it as an executable")]
    NoSegment,
    /// Reading failed.
    #[error("cannot be read: {0}: check the file")]
    Io(#[from] io::Error),
}

/// What the headers of an ELF file say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elf {
    /// `PT_INTERP`; absent in static programs and in most libraries.
    pub(crate) interpreter: Option<PathBuf>,
    /// `DT_NEEDED`, in order.
    pub(crate) needed: Vec<OsString>,
    /// `DT_SONAME`.
    pub(crate) soname: Option<OsString>,
    /// `DT_RPATH`, as written.
    pub(crate) rpath: Option<OsString>,
    /// `DT_RUNPATH`, as written.
    pub(crate) runpath: Option<OsString>,
}

/// What a file is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// To be executed.
    Program,
    /// To be loaded by ld.so.
    Library,
}

impl Elf {
    /// Reads `file`, `len` bytes long, whose first bytes (up to [`HEAD_LEN`]) are `head`.
    pub(crate) fn parse(file: &File, len: u64, head: &[u8], role: Role) -> Result<Elf, ElfError> {
        let header = parse_header(head)?;
        let segments = read_segments(file, len, head, &header)?;
        let mut elf = Elf::default();
        let mut is_loadable = false;
        for segment in &segments {
            let end = segment.p_offset.checked_add(segment.p_filesz);
            match segment.p_type {
                PT_LOAD | PT_INTERP | PT_DYNAMIC if end.is_none_or(|end| end > len) => {
                    return Err(ElfError::Truncated("segments lie"));
                }
                PT_LOAD => is_loadable = true,
                PT_INTERP if elf.interpreter.is_none() => {
                    elf.interpreter = Some(read_interpreter(file, head, segment)?);
                }
                _ => {}
            }
        }
        if !is_loadable {
            return Err(ElfError::NoSegment);
        }
        // A program without an interpreter relocates itself: its dynamic section asks for nothing.
        if role == Role::Program && elf.interpreter.is_none() {
            return Ok(elf);
        }
        if let Some(segment) = segments.iter().find(|segment| segment.p_type == PT_DYNAMIC) {
            elf.read_dynamic(file, len, &segments, segment)?;
        }
        Ok(elf)
    }

    fn read_dynamic(
        &mut self,
        file: &File,
        len: u64,
        segments: &[ProgramHeader],
        segment: &ProgramHeader,
    ) -> Result<(), ElfError> {
        if segment.p_filesz > DYNAMIC_LEN_MAX {
            return Err(ElfError::Malformed("its dynamic section is longer than 256 KiB"));
        }
        let bytes = read_range(file, segment.p_offset, segment.p_filesz)?;
        // The segment alone, at offset 0: goblin then looks at no other byte.
        let alone = ProgramHeader { p_offset: 0, ..segment.clone() };
        let context = Ctx::new(Container::Big, Endian::Little);
        let entries = match Dynamic::parse(&bytes, std::slice::from_ref(&alone), context) {
            Ok(Some(dynamic)) => dynamic.dyns,
            _ => return Err(ElfError::Malformed("its dynamic section cannot be decoded")),
        };
        let entries = || entries.iter().take_while(|entry| entry.d_tag != DT_NULL);
        let Some(table) = entries().find(|entry| entry.d_tag == DT_STRTAB) else {
            return Ok(());
        };
        let Some(table) = file_offset(segments, table.d_val) else {
            return Err(ElfError::Malformed("its string table lies in no segment"));
        };
        for entry in entries() {
            if !matches!(entry.d_tag, DT_NEEDED | DT_SONAME | DT_RPATH | DT_RUNPATH) {
                continue;
            }
            let string = match table.checked_add(entry.d_val) {
                Some(offset) if offset < len => read_string(file, offset)?,
                _ => return Err(ElfError::Truncated("library names lie")),
            };
            match entry.d_tag {
                DT_NEEDED => self.needed.push(string),
                DT_SONAME => self.soname = Some(string),
                DT_RPATH => self.rpath = Some(string),
                _ => self.runpath = Some(string),
            }
        }
        Ok(())
    }
}

fn parse_header(head: &[u8]) -> Result<Header, ElfError> {
    let (class, encoding) = match (head.get(EI_CLASS), head.get(EI_DATA)) {
        (Some(&class), Some(&encoding)) if head.starts_with(ELFMAG) => (class, encoding),
        _ => return Err(ElfError::Truncated("ELF header ends")),
    };
    // The header's first 20 bytes are the same in every class; the machine is what people mix up.
    if let Some(&[low, high]) = head.get(18..20) {
        let machine = match encoding {
            ELFDATA2LSB => u16::from_le_bytes([low, high]),
            _ => u16::from_be_bytes([low, high]),
        };
        if machine != EM_X86_64 && machine != EM_386 {
            let name = match goblin::elf::header::machine_to_str(machine) {
                name if name.contains("UNKNOWN") => format!("machine number {machine}"),
                name => name.to_ascii_lowercase(),
            };
            return Err(ElfError::WrongMachine(name));
        }
        if class != ELFCLASS64 || machine == EM_386 {
            return Err(ElfError::ThirtyTwoBit);
        }
    }
    if head.len() < header64::SIZEOF_EHDR {
        return Err(ElfError::Truncated("ELF header ends"));
    }
    if encoding != ELFDATA2LSB {
        return Err(ElfError::Malformed("it is not little-endian"));
    }
    let header = Header::parse(head).map_err(|_| ElfError::Malformed("its header"))?;
    match header.e_type {
        ET_EXEC | ET_DYN => Ok(header),
        ET_REL => Err(ElfError::Object),
        ET_CORE => Err(ElfError::Core),
        other => Err(ElfError::UnknownType(other)),
    }
}

fn read_segments(
    file: &File,
    len: u64,
    head: &[u8],
    header: &Header,
) -> Result<Vec<ProgramHeader>, ElfError> {
    let count = usize::from(header.e_phnum);
    if count == 0 {
        return Err(ElfError::NoSegment);
    }
    if usize::from(header.e_phentsize) != program_header64::SIZEOF_PHDR {
        return Err(ElfError::Malformed("its program headers are not 56 bytes each"));
    }
    let table_len = count * program_header64::SIZEOF_PHDR;
    if table_len > PROGRAM_HEADERS_LEN_MAX {
        return Err(ElfError::Malformed("it has more than 64 KiB of program headers"));
    }
    if header.e_phoff.checked_add(table_len as u64).is_none_or(|end| end > len) {
        return Err(ElfError::Truncated("program headers lie"));
    }
    let table = read_in_head(file, head, header.e_phoff, table_len as u64)?;
    ProgramHeader::parse(&table, 0, count, Ctx::new(Container::Big, Endian::Little))
        .map_err(|_| ElfError::Malformed("its program headers cannot be decoded"))
}

fn read_interpreter(
    file: &File,
    head: &[u8],
    segment: &ProgramHeader,
) -> Result<PathBuf, ElfError> {
    if !(2..=INTERPRETER_LEN_MAX).contains(&segment.p_filesz) {
        return Err(ElfError::Malformed("its interpreter's name is empty or longer than 4 KiB"));
    }
    let mut name = read_in_head(file, head, segment.p_offset, segment.p_filesz)?;
    if name.last() != Some(&0) {
        return Err(ElfError::Malformed("its interpreter's name does not end"));
    }
    name.truncate(name.iter().position(|&byte| byte == 0).unwrap_or(0));
    match name.is_empty() {
        true => Err(ElfError::Malformed("its interpreter's name is empty")),
        false => Ok(PathBuf::from(OsString::from_vec(name))),
    }
}

/// Where the byte at `address` of the loaded file lies in the file.
fn file_offset(segments: &[ProgramHeader], address: u64) -> Option<u64> {
    segments.iter().filter(|segment| segment.p_type == PT_LOAD).find_map(|segment| {
        let within = address.checked_sub(segment.p_vaddr)?;
        (within < segment.p_filesz).then(|| segment.p_offset.checked_add(within))?
    })
}

fn read_in_head(file: &File, head: &[u8], offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let start = usize::try_from(offset).ok();
    let end = offset.checked_add(len).and_then(|end| usize::try_from(end).ok());
    match start.zip(end).and_then(|(start, end)| head.get(start..end)) {
        Some(bytes) => Ok(bytes.to_vec()),
        None => read_range(file, offset, len),
    }
}

/// Reads `len` bytes; the caller has bounded `len`.
fn read_range(file: &File, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn read_string(file: &File, offset: u64) -> Result<OsString, ElfError> {
    // Nearly all are a library's name; a list of paths can be longer.
    let mut bytes = vec![0; 128];
    loop {
        let read_len = file.read_at(&mut bytes, offset)?;
        let read = bytes.get(..read_len).unwrap_or(&bytes);
        if let Some(len) = read.iter().position(|&byte| byte == 0) {
            bytes.truncate(len);
            return Ok(OsString::from_vec(bytes));
        }
        if read_len < bytes.len() {
            return Err(ElfError::Truncated("library names end"));
        }
        if bytes.len() >= STRING_LEN_MAX {
            return Err(ElfError::Malformed("a library's name is longer than 64 KiB"));
        }
        bytes.resize(bytes.len() * 8, 0);
    }
}
