//! The buses: which device answers at a port or an address.
//!
//! A read that no device claims gives all-ones, as on a PC; an unclaimed write is dropped. Both are
//! counted by the caller.

use std::sync::{Arc, Mutex, PoisonError};

use crate::device::Device;

/// A device with its place.
struct Window {
    start: u64,
    len: u64,
    device: Arc<Mutex<dyn Device>>,
}

/// Devices sorted by their start; windows do not overlap.
#[derive(Default)]
pub struct Bus {
    windows: Vec<Window>,
}

/// Whether a device answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// One did.
    Claimed,
    /// None did.
    Unclaimed,
}

impl Bus {
    /// Adds a device.
    ///
    /// # Panics
    /// If its window overlaps another's: the memory map is ours, fixed in `shared-abi`.
    pub fn add(&mut self, start: u64, len: u64, device: Arc<Mutex<dyn Device>>) {
        let at = self.windows.partition_point(|w| w.start < start);
        let before = at.checked_sub(1).and_then(|i| self.windows.get(i));
        assert!(before.is_none_or(|w| w.start + w.len <= start), "windows overlap at {start:#x}");
        assert!(
            self.windows.get(at).is_none_or(|w| start + len <= w.start),
            "windows overlap at {start:#x}"
        );
        self.windows.insert(at, Window { start, len, device });
    }

    /// Reads from the device at `address`, or gives all-ones.
    pub fn read(&self, address: u64, data: &mut [u8]) -> Claim {
        match self.find(address, data.len()) {
            Some((window, offset)) => {
                lock(&window.device).read(offset, data);
                Claim::Claimed
            }
            None => {
                data.fill(0xff);
                Claim::Unclaimed
            }
        }
    }

    /// Writes to the device at `address`, if there is one.
    pub fn write(&self, address: u64, data: &[u8]) -> Claim {
        match self.find(address, data.len()) {
            Some((window, offset)) => {
                lock(&window.device).write(offset, data);
                Claim::Claimed
            }
            None => Claim::Unclaimed,
        }
    }

    fn find(&self, address: u64, len: usize) -> Option<(&Window, u64)> {
        let at = self.windows.partition_point(|w| w.start <= address).checked_sub(1)?;
        let window = self.windows.get(at)?;
        let offset = address - window.start;
        let end = offset.checked_add(len as u64)?;
        (end <= window.len).then_some((window, offset))
    }
}

/// A device's state stays usable whatever happened to another thread.
fn lock(device: &Mutex<dyn Device>) -> std::sync::MutexGuard<'_, dyn Device + 'static> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch([u8; 8]);

    impl Device for Scratch {
        fn read(&mut self, offset: u64, data: &mut [u8]) {
            let offset = offset as usize;
            data.copy_from_slice(&self.0[offset..offset + data.len()]);
        }
        fn write(&mut self, offset: u64, data: &[u8]) {
            let offset = offset as usize;
            self.0[offset..offset + data.len()].copy_from_slice(data);
        }
    }

    fn bus() -> Bus {
        let mut bus = Bus::default();
        bus.add(0x100, 8, Arc::new(Mutex::new(Scratch([0; 8]))));
        bus.add(0x80, 8, Arc::new(Mutex::new(Scratch([0; 8]))));
        bus
    }

    #[test]
    fn devices_answer_in_their_windows() {
        let bus = bus();
        assert_eq!(bus.write(0x104, &[1, 2, 3, 4]), Claim::Claimed);
        let mut data = [0; 2];
        assert_eq!(bus.read(0x105, &mut data), Claim::Claimed);
        assert_eq!(data, [2, 3]);
    }

    #[test]
    fn unclaimed_reads_give_all_ones_and_writes_are_dropped() {
        let bus = bus();
        let mut data = [0; 4];
        for address in [0, 0x7f, 0x88, 0xff, 0x106, 0x108, u64::MAX] {
            assert_eq!(bus.read(address, &mut data), Claim::Unclaimed, "{address:#x}");
            assert_eq!(data, [0xff; 4]);
            assert_eq!(bus.write(address, &[0; 4]), Claim::Unclaimed);
        }
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn overlapping_windows_are_refused() {
        bus().add(0xfc, 8, Arc::new(Mutex::new(Scratch([0; 8]))));
    }
}
