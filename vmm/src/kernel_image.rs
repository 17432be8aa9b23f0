//! The guest kernel: the one that was built with this VMM, or a file.

use std::borrow::Cow;
use std::path::Path;

use crate::error::{Error, Kind};

/// The built-in kernel, an ELF file with its symbols.
static BUILT_IN: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/guest-kernel.elf")));

/// On pages of its own: ELF readers want words aligned, and [`KernelImage::release`] whole pages.
#[repr(C, align(4096))]
struct Aligned<T: ?Sized>(T);

/// A kernel file in memory.
pub struct KernelImage {
    /// For messages.
    pub name: String,
    /// The ELF file.
    pub bytes: Cow<'static, [u8]>,
}

impl KernelImage {
    /// To be called when the kernel has been loaded: its file is needed no more, but for a panic.
    pub fn release(&self) {
        if let Cow::Borrowed(bytes) = self.bytes {
            crate::memory::release(bytes);
        }
    }
}

/// The kernel to run.
///
/// # Errors
/// When the file cannot be read.
pub fn get(path: Option<&Path>) -> Result<KernelImage, Error> {
    match path {
        None => Ok(KernelImage { name: "(built in)".into(), bytes: Cow::Borrowed(&BUILT_IN.0) }),
        Some(path) => {
            let name = path.display().to_string();
            let bytes = std::fs::read(path).map_err(|e| {
                Error::new(Kind::Vmm, format!("cannot read kernel {name}")).because(e)
            })?;
            Ok(KernelImage { name, bytes: Cow::Owned(bytes) })
        }
    }
}
