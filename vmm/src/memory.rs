//! Guest memory: RAM, the root image, and the bytes that move between them and the host.
//!
//! RAM is anonymous memory that the host gives page by page as the guest touches it. The root image
//! is a reservation into which the host's files are mapped, read-only for the guest. Guest addresses
//! are claims: every access goes through [`Memory`], which checks them.

#![expect(unsafe_code, reason = "maps memory, registers it with KVM, and hands iovecs to the host")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;

use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use shared_abi::layout::{
    HIGH_RAM_GPA, LARGE_PAGE_SIZE, LOW_RAM_END_GPA, PAGE_SIZE, RAM_PER_FRAME_TABLE_BYTE,
    ROOT_END_GPA, ROOT_GPA,
};
use shared_abi::stdio::Segment;
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    mmap::MmapRegionBuilder,
};

use crate::root::{Content, Image};

/// Why guest memory could not be set up or reached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// RAM could not be mapped.
    #[error("cannot map {bytes} bytes of guest memory: try a smaller --memory")]
    Map {
        /// How much.
        bytes: u64,
        /// Why not.
        source: io::Error,
    },
    /// KVM refused a memory slot.
    #[error("KVM refused the memory at guest address {gpa:#x}")]
    Slot {
        /// Where.
        gpa: u64,
        /// Why.
        source: kvm_ioctls::Error,
    },
    /// The root image does not fit.
    #[error("the root image of {bytes} bytes is too large: at most {max} bytes fit")]
    RootTooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// A host file of the root image could not be mapped.
    #[error("cannot map {path} into the root")]
    File {
        /// Which.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// A guest address outside of RAM.
    #[error("guest address {gpa:#x} is not RAM")]
    Address {
        /// Which.
        gpa: u64,
    },
}

/// A mapping of the host's address space, unmapped when dropped.
#[derive(Debug)]
struct Mapping {
    address: *mut u8,
    len: usize,
}

// SAFETY: the mapping is plain memory; who may touch it is decided by `Memory`.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn reserve(len: usize) -> io::Result<Self> {
        // SAFETY: a new anonymous mapping touches no existing one.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { address: address.cast(), len })
    }

    /// As [`Self::reserve`], at a multiple of `align`, so that the host can back it by large pages.
    fn reserve_aligned(len: usize, align: usize) -> io::Result<Self> {
        let whole = Self::reserve(len.checked_add(align).ok_or(io::ErrorKind::OutOfMemory)?)?;
        let lead = whole.address.align_offset(align);
        let (address, tail) = (whole.address.wrapping_add(lead), align - lead);
        std::mem::forget(whole);
        let aligned = Self { address, len };
        // SAFETY: what lies before and behind the aligned part is ours, and nobody knows of it.
        unsafe {
            libc::munmap(address.wrapping_sub(lead).cast(), lead);
            libc::munmap(address.wrapping_add(len).cast(), tail);
        }
        Ok(aligned)
    }

    /// Advises the host about a range within the mapping; a host that takes no advice is no error.
    fn advise(&self, range: std::ops::Range<usize>, advice: libc::c_int) {
        assert!(range.start <= range.end && range.end <= self.len, "a range within the mapping");
        // SAFETY: the range is ours, and neither advice that we give changes its contents.
        unsafe { libc::madvise(self.address.add(range.start).cast(), range.len(), advice) };
    }

    /// Puts `len` bytes of `file` at `offset`; both are within the reservation.
    fn map_file(&self, offset: usize, file: &File, len: usize) -> io::Result<()> {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len),
            "a piece within the image"
        );
        // SAFETY: the range lies inside our own reservation, checked above, so MAP_FIXED replaces
        // nothing else.
        let address = unsafe {
            libc::mmap(
                self.address.add(offset).cast(),
                len,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_FIXED,
                file.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(
            offset.checked_add(bytes.len()).is_some_and(|end| end <= self.len),
            "a piece within the image"
        );
        // SAFETY: in bounds, checked above; no guest runs yet, and nobody else knows the mapping.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.address.add(offset), bytes.len()) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours; the VM that used it is gone (`Memory` outlives it).
        unsafe { libc::munmap(self.address.cast(), self.len) };
    }
}

/// All memory of one guest.
#[derive(Debug)]
pub struct Memory {
    ram: GuestMemoryMmap,
    /// What `ram` is a view of.
    _ram_mappings: Vec<Mapping>,
    root: Mapping,
    low_ram_end: u64,
    high_ram_end: u64,
}

impl Memory {
    /// Maps `ram_bytes` of RAM, and the root image.
    ///
    /// # Errors
    /// When the host refuses a mapping, or a file of the image has gone.
    pub fn new(ram_bytes: u64, image: &Image) -> Result<Self, Error> {
        let low = ram_bytes.min(LOW_RAM_END_GPA);
        let high = ram_bytes - low;
        let (mut mappings, mut regions) = (Vec::new(), Vec::new());
        let ram_end = if high > 0 { HIGH_RAM_GPA + high } else { low };
        for (gpa, bytes) in [(0, low), (HIGH_RAM_GPA, high)] {
            if bytes > 0 {
                let small = SMALL_PAGES_BYTES + ram_end / RAM_PER_FRAME_TABLE_BYTE;
                let small = if gpa == 0 { small.min(bytes) } else { 0 };
                let (mapping, region) = ram_region(gpa, bytes, small)?;
                mappings.push(mapping);
                regions.push(region);
            }
        }
        let ram = GuestMemoryMmap::from_regions(regions).map_err(|e| Error::Map {
            bytes: ram_bytes,
            source: io::Error::other(e.to_string()),
        })?;
        let root = map_root(image)?;
        Ok(Self {
            ram,
            _ram_mappings: mappings,
            root,
            low_ram_end: low,
            high_ram_end: HIGH_RAM_GPA + high,
        })
    }

    /// Tells KVM about all of it. Before the interrupt controller is created: KVM is much slower
    /// at it afterwards.
    ///
    /// # Errors
    /// KVM's.
    pub fn register(&self, vm: &VmFd) -> Result<(), Error> {
        let mut slot = 0;
        let mut add = |gpa: u64, len: u64, address: u64, flags: u32| {
            let region = kvm_userspace_memory_region {
                slot,
                flags,
                guest_phys_addr: gpa,
                memory_size: len,
                userspace_addr: address,
            };
            slot += 1;
            // SAFETY: the mapping is at least `len` long and lives as long as this `Memory`, which
            // is dropped after the VM.
            unsafe { vm.set_user_memory_region(region) }
                .map_err(|source| Error::Slot { gpa, source })
        };
        for region in self.ram.iter() {
            add(region.start_addr().0, region.len(), region.as_ptr() as u64, 0)?;
        }
        add(ROOT_GPA, self.root.len as u64, self.root.address as u64, KVM_MEM_READONLY)
    }

    /// End of RAM below 4 GiB.
    #[must_use]
    pub fn low_ram_end(&self) -> u64 {
        self.low_ram_end
    }

    /// End of RAM above 4 GiB, or its start if there is none.
    #[must_use]
    pub fn high_ram_end(&self) -> u64 {
        self.high_ram_end
    }

    /// Length of the root image.
    #[must_use]
    pub fn root_len(&self) -> u64 {
        self.root.len as u64
    }

    /// RAM, for the loader.
    #[must_use]
    pub fn ram(&self) -> &GuestMemoryMmap {
        &self.ram
    }

    /// Host address ranges of RAM and of the root: start, length.
    #[must_use]
    pub fn host_ranges(&self) -> (Vec<(u64, u64)>, (u64, u64)) {
        let ram = self.ram.iter().map(|r| (r.as_ptr() as u64, r.len())).collect();
        (ram, (self.root.address as u64, self.root.len as u64))
    }

    /// Writes bytes into RAM.
    ///
    /// # Errors
    /// If any of them would lie outside.
    pub fn write(&self, gpa: u64, bytes: &[u8]) -> Result<(), Error> {
        self.ram.write_slice(bytes, GuestAddress(gpa)).map_err(|_| Error::Address { gpa })
    }

    /// Copies bytes out of RAM.
    ///
    /// # Errors
    /// If any of them lie outside.
    pub fn read(&self, gpa: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.ram.read_slice(bytes, GuestAddress(gpa)).map_err(|_| Error::Address { gpa })
    }

    /// Writes one of the structures that the kernel shares with us.
    ///
    /// # Errors
    /// If it would lie outside of RAM.
    pub fn write_shared<T: Shared>(&self, gpa: u64, value: &T) -> Result<(), Error> {
        // SAFETY: `Shared` types are plain data without padding that matters, and live for the borrow.
        let bytes = unsafe {
            std::slice::from_raw_parts(ptr::from_ref(value).cast::<u8>(), size_of::<T>())
        };
        self.write(gpa, bytes)
    }

    /// Copies one of the structures that the kernel shares with us.
    ///
    /// # Errors
    /// If it lies outside of RAM.
    pub fn read_shared<T: Shared>(&self, gpa: u64) -> Result<T, Error> {
        let mut value = std::mem::MaybeUninit::<T>::zeroed();
        // SAFETY: the memory is the value's own, initialised to zero.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(value.as_mut_ptr().cast::<u8>(), size_of::<T>())
        };
        self.read(gpa, bytes)?;
        // SAFETY: every bit pattern is a valid `Shared` value.
        Ok(unsafe { value.assume_init() })
    }

    /// Turns guest segments into an I/O vector of host memory. RAM only if it is to be `Written`;
    /// the root image too if it is only read.
    ///
    /// # Errors
    /// A segment that is not wholly inside one of them.
    pub fn io_vector(&self, segments: &[Segment], access: Access) -> Result<IoVector<'_>, Error> {
        let mut iovecs = Vec::with_capacity(segments.len());
        for segment in segments {
            let address =
                self.host_address(*segment, access).ok_or(Error::Address { gpa: segment.gpa })?;
            iovecs.push(libc::iovec { iov_base: address.cast(), iov_len: segment.len as usize });
        }
        Ok(IoVector { iovecs, _memory: self })
    }

    fn host_address(&self, segment: Segment, access: Access) -> Option<*mut u8> {
        let len = usize::try_from(segment.len).ok()?;
        if let Ok(slice) = self.ram.get_slice(GuestAddress(segment.gpa), len) {
            return Some(slice.ptr_guard_mut().as_ptr());
        }
        let offset = usize::try_from(segment.gpa.checked_sub(ROOT_GPA)?).ok()?;
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.root.len);
        // SAFETY: the offset is inside the mapping.
        (access == Access::Read && inside).then(|| unsafe { self.root.address.add(offset) })
    }
}

/// What the host does to guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads it (the guest's output).
    Read,
    /// It writes it (the guest's input).
    Write,
}

/// Guest memory as the host's `readv` and `writev` want it.
pub struct IoVector<'a> {
    iovecs: Vec<libc::iovec>,
    _memory: &'a Memory,
}

impl IoVector<'_> {
    /// `writev(2)`.
    ///
    /// # Errors
    /// The host's.
    pub fn write_to(&self, fd: i32) -> io::Result<usize> {
        // SAFETY: every entry was checked to be guest memory, which the borrow keeps mapped.
        let result = unsafe { libc::writev(fd, self.iovecs.as_ptr(), self.iovecs.len() as i32) };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }

    /// `readv(2)`.
    ///
    /// # Errors
    /// The host's.
    pub fn read_from(&self, fd: i32) -> io::Result<usize> {
        // SAFETY: as above, and all of it is RAM, which a guest may see change.
        let result = unsafe { libc::readv(fd, self.iovecs.as_ptr(), self.iovecs.len() as i32) };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }

    /// Fills the vector from `bytes`; how many fitted.
    #[must_use]
    pub fn fill(&self, mut bytes: &[u8]) -> usize {
        let mut done = 0;
        for iovec in &self.iovecs {
            let len = bytes.len().min(iovec.iov_len);
            // SAFETY: the entry was checked to be RAM of at least this length.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), iovec.iov_base.cast(), len) };
            bytes = &bytes[len..];
            done += len;
        }
        done
    }
}

/// Structures of `shared-abi` that cross the wall.
///
/// # Safety
/// `repr(C)`, no pointers, and every bit pattern is valid.
pub unsafe trait Shared: Copy {}
// SAFETY: integers and arrays of integers only.
unsafe impl Shared for shared_abi::boot_info::BootInfo {}
// SAFETY: integers and arrays of integers only.
unsafe impl Shared for shared_abi::report::Report {}

/// RAM beginning with the kernel, the table of frames and this much more is not backed by large pages: it is
/// all that a small program needs, and would cost 2 MiB for the first byte.
const SMALL_PAGES_BYTES: u64 = 4 << 20;

/// RAM at `gpa`, in large pages where the host has them, but for the first `small_bytes`.
fn ram_region(gpa: u64, bytes: u64, small_bytes: u64) -> Result<(Mapping, GuestRegionMmap), Error> {
    let failed = |source: io::Error| Error::Map { bytes, source };
    let len = usize::try_from(bytes).map_err(|e| failed(io::Error::other(e)))?;
    let mapping = Mapping::reserve_aligned(len, LARGE_PAGE_SIZE as usize).map_err(failed)?;
    let small = small_bytes as usize;
    mapping.advise(0..small, libc::MADV_NOHUGEPAGE);
    mapping.advise(small..len, libc::MADV_HUGEPAGE);
    let builder = MmapRegionBuilder::new(len)
        .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
        .with_mmap_flags(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: the mapping has that length, protection and flags, and outlives the region: both are
    // fields of `Memory`.
    let region = unsafe { builder.with_raw_mmap_pointer(mapping.address) }
        .build()
        .map_err(|e| failed(io::Error::other(e)))?;
    let region = GuestRegionMmap::new(region, GuestAddress(gpa))
        .ok_or_else(|| failed(io::Error::other("the address space ends")))?;
    Ok((mapping, region))
}

/// Gives back the memory of file-backed, read-only bytes that will hardly be read again: they come
/// back from the file when they are.
pub fn release(bytes: &'static [u8]) {
    let page = PAGE_SIZE as usize;
    let start = (bytes.as_ptr() as usize).next_multiple_of(page);
    let end = (bytes.as_ptr() as usize + bytes.len()) / page * page;
    if start < end {
        // SAFETY: whole pages of this program's read-only data, mapped from its file: their
        // contents do not change. A host that takes no advice is no error.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

fn map_root(image: &Image) -> Result<Mapping, Error> {
    let max = ROOT_END_GPA - ROOT_GPA;
    let len = image.len.next_multiple_of(PAGE_SIZE).max(PAGE_SIZE);
    if len > max {
        return Err(Error::RootTooLarge { bytes: len, max });
    }
    let mapping =
        Mapping::reserve(len as usize).map_err(|source| Error::Map { bytes: len, source })?;
    for piece in &image.pieces {
        let offset = piece.offset as usize;
        match &piece.content {
            Content::Bytes(bytes) => mapping.write(offset, bytes),
            Content::File(host) => {
                let failed = |source| Error::File { path: host.path.display().to_string(), source };
                let file = host.open().map_err(failed)?;
                mapping.map_file(offset, &file, host.len as usize).map_err(failed)?;
            }
        }
    }
    Ok(mapping)
}
