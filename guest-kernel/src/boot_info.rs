//! What the VMM told us: the checked [`BootInfo`] and the strings behind it.

#![expect(unsafe_code, reason = "boot information is raw memory that the VMM wrote")]

use core::slice;

use shared_abi::boot_info::{BootInfo, MAGIC, VERSION};

use crate::mm::addr::Phys;

/// Boot information, checked, and the strings behind it. All of it stays where the VMM put it.
pub struct Boot {
    /// The facts.
    pub info: &'static BootInfo,
    strings: &'static [u8],
    offsets: &'static [u32],
}

/// The strings that come before the arguments: program, working directory, command line.
const FIXED_COUNT: usize = 3;

/// A list of strings without gaps, each NUL-terminated.
#[derive(Clone, Copy, Debug)]
pub struct StringList<'a> {
    /// All of them.
    pub bytes: &'a [u8],
    /// Where each begins, counted from `base`.
    pub offsets: &'a [u32],
    /// The offset of the first byte of `bytes`.
    pub base: u32,
}

impl<'a> StringList<'a> {
    /// The list without its first string.
    #[must_use]
    pub fn skip_first(self) -> Self {
        match self.offsets {
            [] => self,
            [_] => Self { bytes: &[], offsets: &[], base: self.base },
            [first, rest @ ..] => Self {
                bytes: self.bytes.get((rest[0] - first) as usize..).unwrap_or_default(),
                offsets: rest,
                base: rest[0],
            },
        }
    }

    /// The strings, without their NULs.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let ends = self.offsets.iter().skip(1).map(move |&o| o - self.base);
        let ends = ends.chain([self.bytes.len() as u32]);
        self.offsets.iter().zip(ends).map(move |(&start, end)| {
            let start = (start - self.base) as usize;
            self.bytes.get(start..end as usize - 1).unwrap_or_default()
        })
    }
}

impl Boot {
    /// Reads the page that the VMM pointed at.
    ///
    /// # Panics
    /// If it was written by a VMM of another build.
    ///
    /// # Safety
    /// `page` must point at memory the size of a [`BootInfo`], which stays untouched, as do its strings.
    pub unsafe fn read(page: *const BootInfo) -> Self {
        // SAFETY: the caller says that the page is there, and stays as it is.
        let info = unsafe { &*page };
        let is_ours = info.magic == MAGIC && info.version == VERSION;
        assert!(is_ours, "kernel and VMM are of different builds");
        let strings = Phys(info.strings.gpa).as_ptr();
        let offsets = Phys(info.string_offsets.gpa).as_ptr().cast();
        let count = info.string_offsets.len as usize / size_of::<u32>();
        // SAFETY: the caller says that they are there; nothing writes to them: they lie below the
        // first free frame. The VMM aligns the offsets to a page.
        let (strings, offsets) = unsafe {
            (
                slice::from_raw_parts(strings, info.strings.len as usize),
                slice::from_raw_parts(offsets, count),
            )
        };
        Self { info, strings, offsets }
    }

    /// Path of the program.
    #[must_use]
    pub fn program(&self) -> &'static [u8] {
        self.fixed(0)
    }

    /// Its working directory.
    #[must_use]
    pub fn cwd(&self) -> &'static [u8] {
        self.fixed(1)
    }

    /// The kernel's command line.
    #[must_use]
    pub fn cmdline(&self) -> &'static [u8] {
        self.fixed(2)
    }

    /// The program's arguments, the zeroth included.
    #[must_use]
    pub fn arguments(&self) -> StringList<'static> {
        self.list(FIXED_COUNT, self.info.arg_count as usize)
    }

    /// The program's environment.
    #[must_use]
    pub fn environment(&self) -> StringList<'static> {
        self.list(FIXED_COUNT + self.info.arg_count as usize, self.info.env_count as usize)
    }

    fn fixed(&self, index: usize) -> &'static [u8] {
        self.list(index, 1).bytes.strip_suffix(&[0]).unwrap_or_default()
    }

    fn list(&self, first: usize, count: usize) -> StringList<'static> {
        let offsets = self.offsets.get(first..first + count).unwrap_or_default();
        let start = self.offsets.get(first).copied().unwrap_or_default();
        let end = self.offsets.get(first + count).copied().unwrap_or(start);
        let bytes = self.strings.get(start as usize..end as usize).unwrap_or_default();
        StringList { bytes, offsets, base: start }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn string_lists_are_cut_and_walked() {
        let list = StringList { bytes: b"ab\0\0cde\0", offsets: &[7, 10, 11], base: 7 };
        assert_eq!(list.iter().collect::<Vec<_>>(), [b"ab" as &[u8], b"", b"cde"]);
        let rest = list.skip_first();
        assert_eq!(rest.iter().collect::<Vec<_>>(), [b"" as &[u8], b"cde"]);
        assert_eq!(rest.skip_first().skip_first().iter().count(), 0);
    }
}
