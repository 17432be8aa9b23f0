//! The stdio doorbell: one request, one exit, whole buffers. See `shared_abi::stdio`.
//!
//! There are two requests, both static (the doorbell takes an address below 4 GiB): one for the
//! memory of programs, used by tasks only, and one with a buffer of its own for the line discipline,
//! which interrupt handlers use as well.

#![expect(unsafe_code, reason = "the VMM writes to the request and to what it points at")]

use core::sync::atomic::{AtomicBool, Ordering};

use shared_abi::layout::{DIRECT_MAP, KERNEL_BASE};
use shared_abi::stdio::{
    OP_READ, OP_WINSIZE, OP_WRITE, SEGMENT_COUNT_MAX, Segment, StdioRequest, WindowSize,
};

use crate::arch;
use crate::error::{Errno, Result};
use crate::mm::addr::Phys;
use crate::mm::space::Access;
use crate::mm::user::{Owner, UserBuffer, user_segments};
use crate::sync::{IrqSpinLock, SpinLock};

/// Bytes of the line discipline's buffer.
pub const KERNEL_BUFFER_SIZE: usize = 4096;
/// The most bytes of one request.
const REQUEST_LEN_MAX: u64 = 1 << 30;

const EMPTY: StdioRequest = StdioRequest {
    op: OP_READ,
    stream: 0,
    result: 0,
    winsize: WindowSize { rows: 0, columns: 0 },
    segment_count: 0,
    segments: [Segment { gpa: 0, len: 0 }; SEGMENT_COUNT_MAX],
};

/// A request with its buffer.
struct KernelRequest {
    request: StdioRequest,
    buffer: [u8; KERNEL_BUFFER_SIZE],
}

static USER: SpinLock<StdioRequest> = SpinLock::new(EMPTY);
static KERNEL: IrqSpinLock<KernelRequest> =
    IrqSpinLock::new(KernelRequest { request: EMPTY, buffer: [0; KERNEL_BUFFER_SIZE] });

/// Set by the interrupt that announces input.
static INPUT_READY: AtomicBool = AtomicBool::new(false);

/// What programs write goes out over COM1 (`--console serial`).
static OVER_SERIAL: AtomicBool = AtomicBool::new(false);

/// From now on, what programs write goes out over COM1.
///
/// Limits: input still comes through the doorbell.
pub fn write_to_serial() {
    OVER_SERIAL.store(true, Ordering::Relaxed);
}

/// Writes the request's memory to COM1, byte by byte.
fn write_over_serial(request: &StdioRequest) -> usize {
    let mut done = 0;
    for segment in &request.segments[..request.segment_count as usize] {
        // SAFETY: segments are made of pages that are mapped for the program, and so are in the direct
        // map; the program's one thread is in this call, and changes nothing meanwhile.
        let bytes = unsafe {
            core::slice::from_raw_parts(Phys(segment.gpa).as_ptr(), segment.len as usize)
        };
        arch::serial_write(bytes);
        done += bytes.len();
    }
    done
}

/// The interrupt at `ports::STDIO_VECTOR`.
pub fn on_input_interrupt() {
    INPUT_READY.store(true, Ordering::Release);
    crate::fs::terminal::on_input();
}

/// Forgets earlier interrupts; done before a read, so that none that comes after it is missed.
pub fn clear_input_ready() {
    INPUT_READY.store(false, Ordering::Relaxed);
}

/// Whether input was announced.
#[must_use]
pub fn is_input_ready() -> bool {
    INPUT_READY.load(Ordering::Acquire)
}

/// Moves bytes between a stream and a program's memory (or the kernel's heap): one exit, or several
/// beyond [`SEGMENT_COUNT_MAX`] pieces of memory. The buffer's cursor moves by what was moved, so that
/// the caller may wait after EAGAIN and call again.
///
/// # Errors
/// What the host says; EFAULT.
pub fn transfer(op: u32, stream: u32, buffer: &mut UserBuffer<'_>) -> Result<usize> {
    let mut done = 0;
    loop {
        let start = buffer.cursor();
        let mut request = USER.lock();
        let filled = fill(&mut request, op, buffer);
        let outcome = filled.and_then(|wanted| Ok((ring(&mut request, op, stream)?, wanted)));
        drop(request);
        let (count, wanted) = match outcome {
            // A VMM that says more than it was asked for is not believed.
            Ok((count, wanted)) => (count.min(wanted as usize), wanted as usize),
            Err(errno) => {
                buffer.rewind(start, 0);
                return if done > 0 { Ok(done) } else { Err(errno) };
            }
        };
        done += count;
        if count < wanted {
            buffer.rewind(start, count);
            return Ok(done);
        }
        if buffer.remaining() == 0 {
            return Ok(done);
        }
    }
}

/// Writes memory that lies in one piece.
///
/// # Errors
/// What the host says.
pub fn write_physical(stream: u32, start: Phys, len: u64) -> Result<usize> {
    let mut request = USER.lock();
    request.segments[0] = Segment { gpa: start.0, len: len.min(REQUEST_LEN_MAX) };
    request.segment_count = 1;
    ring(&mut request, OP_WRITE, stream)
}

/// Reads into kernel memory, at most [`KERNEL_BUFFER_SIZE`] bytes.
///
/// # Errors
/// What the host says.
pub fn read_kernel(stream: u32, dst: &mut [u8]) -> Result<usize> {
    let mut guard = KERNEL.lock();
    let KernelRequest { request, buffer } = &mut *guard;
    let len = dst.len().min(buffer.len());
    request.segments[0] = kernel_segment(&mut buffer[..len]);
    request.segment_count = 1;
    let count = ring(request, OP_READ, stream)?.min(len);
    dst[..count].copy_from_slice(&buffer[..count]);
    Ok(count)
}

/// Writes kernel memory.
///
/// # Errors
/// What the host says.
pub fn write_kernel(stream: u32, src: &[u8]) -> Result<usize> {
    let mut guard = KERNEL.lock();
    let KernelRequest { request, buffer } = &mut *guard;
    let mut done = 0;
    for piece in src.chunks(buffer.len()) {
        buffer[..piece.len()].copy_from_slice(piece);
        request.segments[0] = kernel_segment(&mut buffer[..piece.len()]);
        request.segment_count = 1;
        let count = ring(request, OP_WRITE, stream)?;
        done += count;
        if count < piece.len() {
            break;
        }
    }
    Ok(done)
}

/// The size of a terminal.
///
/// # Errors
/// ENOTTY.
pub fn window_size(stream: u32) -> Result<WindowSize> {
    let mut guard = KERNEL.lock();
    guard.request.segment_count = 0;
    ring(&mut guard.request, OP_WINSIZE, stream)?;
    Ok(guard.request.winsize)
}

/// Fills the segments from the buffer; how many bytes they cover.
fn fill(request: &mut StdioRequest, op: u32, buffer: &mut UserBuffer<'_>) -> Result<u64> {
    let access = if op == OP_READ { Access::Write } else { Access::Read };
    let mut covered = 0;
    request.segment_count = 0;
    while (request.segment_count as usize) < SEGMENT_COUNT_MAX {
        // A piece of n bytes is n / 4096 + 2 segments at most.
        let room = SEGMENT_COUNT_MAX - request.segment_count as usize;
        let len_max = (room.saturating_sub(2) * 4096).min((REQUEST_LEN_MAX - covered) as usize);
        if len_max == 0 {
            break;
        }
        let Some(range) = buffer.next_range(len_max) else { break };
        let before = covered;
        let mut sink = |start: Phys, len: usize| {
            add(request, Segment { gpa: start.0, len: len as u64 });
            covered += len as u64;
        };
        let outcome = match buffer.owner() {
            Owner::User => user_segments(arch::current(), range, access, &mut sink),
            Owner::Kernel => {
                sink(heap_phys(range.addr.0), range.len);
                Ok(range.len)
            }
        };
        match outcome {
            Ok(len) if len == range.len => {}
            Ok(_) => break,
            Err(errno) if before == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(covered)
}

fn add(request: &mut StdioRequest, segment: Segment) {
    let count = request.segment_count as usize;
    if let Some(last) = request.segments[..count].last_mut()
        && last.gpa + last.len == segment.gpa
    {
        last.len += segment.len;
    } else if count < SEGMENT_COUNT_MAX {
        request.segments[count] = segment;
        request.segment_count += 1;
    }
}

/// The kernel's heap is in the direct map.
fn heap_phys(address: u64) -> Phys {
    Phys(if cfg!(target_os = "none") { address - DIRECT_MAP } else { address })
}

/// The kernel's statics are in its image.
fn kernel_segment(bytes: &mut [u8]) -> Segment {
    let address = bytes.as_mut_ptr().expose_provenance() as u64;
    let gpa = if cfg!(target_os = "none") { address - KERNEL_BASE } else { address };
    Segment { gpa, len: bytes.len() as u64 }
}

/// Rings the doorbell: the VMM has done it all when this returns.
fn ring(request: &mut StdioRequest, op: u32, stream: u32) -> Result<usize> {
    if op == OP_WRITE && OVER_SERIAL.load(Ordering::Relaxed) {
        return Ok(write_over_serial(request));
    }
    request.op = op;
    request.stream = stream;
    request.result = 0;
    #[cfg(not(target_os = "none"))]
    fake::ring(request);
    let request: *mut StdioRequest = request;
    if cfg!(target_os = "none") {
        let gpa = request.expose_provenance() as u64 - KERNEL_BASE;
        arch::ring_doorbell(gpa as u32);
    }
    // SAFETY: the pointer comes from a reference; volatile, because the VMM has written.
    let result = unsafe { (&raw const (*request).result).read_volatile() };
    match usize::try_from(result) {
        Ok(count) => Ok(count),
        Err(_) => Err(Errno::from_negative(result).unwrap_or(Errno::EIO)),
    }
}

/// The VMM of the unit tests.
#[cfg(not(target_os = "none"))]
pub mod fake {
    use std::boxed::Box;
    use std::cell::RefCell;
    use std::vec::Vec;

    use shared_abi::stdio::StdioRequest;

    use crate::error::Errno;

    type Vmm = Box<dyn FnMut(&mut StdioRequest)>;

    std::thread_local! {
        static VMM: RefCell<Option<Vmm>> = const { RefCell::new(None) };
    }

    /// Makes `vmm` answer the doorbell of this test thread.
    pub fn set(vmm: impl FnMut(&mut StdioRequest) + 'static) {
        VMM.set(Some(Box::new(vmm)));
    }

    pub(super) fn ring(request: &mut StdioRequest) {
        VMM.with_borrow_mut(|vmm| match vmm {
            Some(vmm) => vmm(request),
            None => request.result = -i64::from(Errno::EIO.number()),
        });
    }

    /// What the request's segments hold.
    #[must_use]
    pub fn gather(request: &StdioRequest) -> Vec<u8> {
        let mut bytes = Vec::new();
        for segment in &request.segments[..request.segment_count as usize] {
            let start = core::ptr::with_exposed_provenance::<u8>(segment.gpa as usize);
            // SAFETY: on the host a segment is memory of the test.
            let piece = unsafe { core::slice::from_raw_parts(start, segment.len as usize) };
            bytes.extend_from_slice(piece);
        }
        bytes
    }

    /// Puts bytes into the request's segments; how many went in.
    pub fn scatter(request: &StdioRequest, mut bytes: &[u8]) -> usize {
        let all = bytes.len();
        for segment in &request.segments[..request.segment_count as usize] {
            let len = bytes.len().min(segment.len as usize);
            let start = core::ptr::with_exposed_provenance_mut::<u8>(segment.gpa as usize);
            // SAFETY: on the host a segment is memory of the test.
            unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), start, len) };
            bytes = &bytes[len..];
        }
        all - bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_had_to_wait_starts_over_where_it_began() {
        let mut answers =
            [Err(Errno::EAGAIN), Ok(b"abc" as &[u8]), Err(Errno::EAGAIN), Ok(b"defghi")]
                .into_iter();
        fake::set(move |request| {
            request.result = match answers.next() {
                Some(Ok(bytes)) => fake::scatter(request, bytes) as i64,
                Some(Err(errno)) => -i64::from(errno.number()),
                None => -i64::from(Errno::EIO.number()),
            };
        });
        let mut bytes = [0; 9];
        UserBuffer::with_kernel_memory(&mut bytes, |buffer| {
            assert_eq!(transfer(OP_READ, 0, buffer), Err(Errno::EAGAIN));
            assert_eq!(buffer.remaining(), 9);
            assert_eq!(transfer(OP_READ, 0, buffer), Ok(3));
            assert_eq!(buffer.remaining(), 6);
            assert_eq!(transfer(OP_READ, 0, buffer), Err(Errno::EAGAIN));
            assert_eq!(transfer(OP_READ, 0, buffer), Ok(6));
            assert_eq!(buffer.remaining(), 0);
        });
        assert_eq!(&bytes, b"abcdefghi");
    }

    #[test]
    fn a_short_write_leaves_the_rest_in_the_buffer() {
        fake::set(|request| request.result = fake::gather(request).len().min(4) as i64);
        UserBuffer::with_kernel_memory(&mut [b'x'; 10], |buffer| {
            assert_eq!(transfer(OP_WRITE, 1, buffer), Ok(4));
            assert_eq!(buffer.next_range(100).map(|range| range.len), Some(6));
        });
    }
}
