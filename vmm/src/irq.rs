//! Interrupt lines: how a device reaches the guest's processor.

use std::io;
use std::sync::Arc;

use kvm_bindings::kvm_msi;
use kvm_ioctls::VmFd;

/// An edge-triggered interrupt.
pub trait IrqLine: Send + Sync {
    /// Raises the interrupt once.
    ///
    /// # Errors
    /// When KVM refuses it.
    fn pulse(&self) -> io::Result<()>;
}

/// A pin of the in-kernel interrupt controllers.
pub struct PinIrq {
    /// The virtual machine.
    pub vm: Arc<VmFd>,
    /// The pin, as KVM numbers them.
    pub gsi: u32,
}

impl IrqLine for PinIrq {
    fn pulse(&self) -> io::Result<()> {
        self.vm.set_irq_line(self.gsi, true)?;
        self.vm.set_irq_line(self.gsi, false)?;
        Ok(())
    }
}

/// A message to the local APIC of CPU 0 (SDM 3A 11.11): a vector, without any controller between.
pub struct MessageIrq {
    /// The virtual machine.
    pub vm: Arc<VmFd>,
    /// The vector.
    pub vector: u8,
}

impl IrqLine for MessageIrq {
    fn pulse(&self) -> io::Result<()> {
        const LOCAL_APIC: u32 = 0xfee0_0000;
        let message =
            kvm_msi { address_lo: LOCAL_APIC, data: u32::from(self.vector), ..Default::default() };
        self.vm.signal_msi(message)?;
        Ok(())
    }
}

/// Counts pulses.
#[cfg(test)]
#[derive(Default)]
pub struct FakeIrq(std::sync::atomic::AtomicU32);

#[cfg(test)]
impl FakeIrq {
    /// How many there were.
    pub fn pulses(&self) -> u32 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[cfg(test)]
impl IrqLine for FakeIrq {
    fn pulse(&self) -> io::Result<()> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }
}
