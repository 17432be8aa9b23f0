//! Decoding of `KVM_RUN`'s answers. What to do about them is decided in `vcpu.rs`.

use kvm_ioctls::VcpuExit;

/// Why the virtual CPU came back to us.
#[derive(Debug)]
pub enum Exit<'a> {
    /// `out`: port, bytes.
    IoOut(u16, &'a [u8]),
    /// `in`: port, bytes to fill.
    IoIn(u16, &'a mut [u8]),
    /// A store to an address without memory.
    MmioWrite(u64, &'a [u8]),
    /// A load from an address without memory: bytes to fill.
    MmioRead(u64, &'a mut [u8]),
    /// `hlt`, which the in-kernel interrupt controller should have kept.
    Halt,
    /// A signal, or `immediate_exit`: look at the flags, then go on.
    Interrupted,
    /// KVM could not emulate an instruction, or gave up in another way: `InternalError::read`.
    InternalError,
    /// Triple fault: final.
    Shutdown,
    /// The host memory behind a guest page is gone (a mapped file was truncated).
    MemoryGone,
    /// The processor refused the state of the virtual CPU.
    FailEntry(u64),
    /// A single step, or another debug event that was asked for.
    Step,
    /// Any other exit: its number is `kvm_run.exit_reason`.
    Other,
    /// `KVM_RUN` failed with this errno.
    Failed(i32),
}

impl<'a> Exit<'a> {
    /// Decodes the result of `KVM_RUN`.
    #[must_use]
    pub fn decode(result: Result<VcpuExit<'a>, kvm_ioctls::Error>) -> Self {
        match result {
            Ok(VcpuExit::IoOut(port, data)) => Self::IoOut(port, data),
            Ok(VcpuExit::IoIn(port, data)) => Self::IoIn(port, data),
            Ok(VcpuExit::MmioWrite(gpa, data)) => Self::MmioWrite(gpa, data),
            Ok(VcpuExit::MmioRead(gpa, data)) => Self::MmioRead(gpa, data),
            Ok(VcpuExit::Hlt) => Self::Halt,
            Ok(VcpuExit::Debug(_)) => Self::Step,
            Ok(VcpuExit::Intr) => Self::Interrupted,
            Ok(VcpuExit::InternalError) => Self::InternalError,
            Ok(VcpuExit::Shutdown) => Self::Shutdown,
            Ok(VcpuExit::FailEntry(reason, _)) => Self::FailEntry(reason),
            Ok(VcpuExit::MemoryFault { .. }) => Self::MemoryGone,
            Ok(_) => Self::Other,
            // EAGAIN: the virtual CPU was not ready to run; both are to be tried again.
            Err(e) if e.errno() == libc::EINTR || e.errno() == libc::EAGAIN => Self::Interrupted,
            Err(e) if e.errno() == libc::EFAULT => Self::MemoryGone,
            Err(e) => Self::Failed(e.errno()),
        }
    }
}

/// `KVM_INTERNAL_ERROR_EMULATION`.
const EMULATION: u32 = 1;

/// What KVM tells about an internal error (Documentation/virt/kvm/api.rst, `kvm_run`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InternalError {
    /// Kind of the error.
    pub suberror: u32,
    /// The bytes at the instruction pointer, if KVM knows them.
    pub instruction: Option<[u8; 15]>,
}

impl InternalError {
    /// From the words of `kvm_run.internal`.
    #[must_use]
    pub fn decode(suberror: u32, ndata: u32, data: &[u64; 16]) -> Self {
        // data[0]: flags, bit 0: the instruction bytes follow; data[1]: size and 7 bytes; data[2]: 8.
        let known = suberror == EMULATION && ndata >= 3 && data[0] & 1 != 0;
        let instruction = known.then(|| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&data[1].to_le_bytes());
            bytes[8..].copy_from_slice(&data[2].to_le_bytes());
            let mut instruction = [0; 15];
            instruction.copy_from_slice(&bytes[1..]);
            instruction
        });
        Self { suberror, instruction }
    }

    /// Whether KVM failed to emulate an instruction: the guest may be told by #UD.
    #[must_use]
    pub fn is_emulation(&self) -> bool {
        self.suberror == EMULATION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emulation_failure_carries_the_instruction() {
        let mut data = [0; 16];
        data[0] = 1;
        data[1] = u64::from_le_bytes([15, 0x0f, 0x01, 0xcb, 0x90, 0, 0, 0]);
        let error = InternalError::decode(1, 8, &data);
        assert!(error.is_emulation());
        assert_eq!(error.instruction.expect("bytes are given")[..4], [0x0f, 0x01, 0xcb, 0x90]);
    }

    #[test]
    fn other_internal_errors_carry_nothing() {
        assert_eq!(InternalError::decode(3, 8, &[1; 16]).instruction, None);
        assert_eq!(InternalError::decode(1, 1, &[1; 16]).instruction, None);
    }

    #[test]
    fn a_signal_is_an_interruption_and_lost_memory_is_said() {
        let interrupted = Exit::decode(Err(kvm_ioctls::Error::new(libc::EINTR)));
        assert!(matches!(interrupted, Exit::Interrupted));
        let gone = Exit::decode(Err(kvm_ioctls::Error::new(libc::EFAULT)));
        assert!(matches!(gone, Exit::MemoryGone));
    }
}
