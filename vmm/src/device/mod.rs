//! Devices: register machines that know neither their address nor KVM.

pub mod serial;
pub mod stdio;

/// Something on a bus. Accesses cannot fail: what makes no sense is answered by the device's
/// specification, and never by a panic, since the guest chooses every word.
pub trait Device: Send {
    /// Fills `data` from the registers at `offset`.
    fn read(&mut self, offset: u64, data: &mut [u8]);
    /// Stores `data` into the registers at `offset`.
    fn write(&mut self, offset: u64, data: &[u8]);
}
