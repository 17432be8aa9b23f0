//! COM1: a 16550, on the register machine of vm-superio, with output that is gathered in lines.

use std::io::{self, Write};
use std::sync::Arc;

use vm_superio::{Serial as Registers, Trigger};

use super::Device;
use crate::irq::IrqLine;

/// Output is passed on at each end of line, and at this size.
const BUFFER_LEN_MAX: usize = 4096;

/// The 16550's interrupt output.
pub struct SerialIrq(Arc<dyn IrqLine>);

impl Trigger for SerialIrq {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.pulse()
    }
}

/// Gathers bytes, because the register machine flushes after each one.
struct Lines<W: Write> {
    inner: W,
    buffer: Vec<u8>,
}

impl<W: Write> Lines<W> {
    fn pass_on(&mut self) {
        // The console is for people: when nobody can read it any more, the guest goes on.
        let _ = self.inner.write_all(&self.buffer);
        let _ = self.inner.flush();
        self.buffer.clear();
    }
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if bytes.contains(&b'\n') || self.buffer.len() >= BUFFER_LEN_MAX {
            self.pass_on();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Drop for Lines<W> {
    fn drop(&mut self) {
        if !self.buffer.is_empty() {
            self.pass_on();
        }
    }
}

/// The device.
pub struct Serial<W: Write + Send> {
    registers: Registers<SerialIrq, vm_superio::serial::NoEvents, Lines<W>>,
}

impl<W: Write + Send> Serial<W> {
    /// A 16550 that writes to `output` and interrupts by `irq`.
    pub fn new(irq: Arc<dyn IrqLine>, output: W) -> Self {
        let lines = Lines { inner: output, buffer: Vec::new() };
        Self { registers: Registers::new(SerialIrq(irq), lines) }
    }

    /// Gives the guest input, as much as the receiver holds; how many bytes went in.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        self.registers.enqueue_raw_bytes(bytes).unwrap_or(0)
    }

    /// Passes on what has no end of line yet: when the machine stops.
    pub fn flush(&mut self) {
        self.registers.writer_mut().pass_on();
    }
}

impl<W: Write + Send> Device for Serial<W> {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        // Registers are a byte wide; `insb` arrives as many accesses to one of them.
        for byte in data {
            *byte = self.registers.read(offset as u8);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        for &byte in data {
            // The only failure is a full loop-back FIFO, which a 16550 drops as well.
            let _ = self.registers.write(offset as u8, byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::irq::FakeIrq;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("one thread").push(bytes.to_vec());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn output_goes_out_by_lines_and_at_the_end() {
        let sink = Sink::default();
        let mut serial = Serial::new(Arc::new(FakeIrq::default()), sink.clone());
        for byte in b"one\ntwo" {
            serial.write(0, &[*byte]);
        }
        assert_eq!(*sink.0.lock().expect("one thread"), [b"one\n".to_vec()]);
        drop(serial);
        assert_eq!(sink.0.lock().expect("one thread").concat(), b"one\ntwo");
    }

    #[test]
    fn any_access_is_answered() {
        let mut serial = Serial::new(Arc::new(FakeIrq::default()), io::sink());
        for offset in 0..8 {
            for width in [1, 2, 4] {
                serial.write(offset, &vec![0xff; width]);
                serial.read(offset, &mut vec![0; width]);
            }
        }
    }

    #[test]
    fn input_interrupts() {
        let irq = Arc::new(FakeIrq::default());
        let mut serial = Serial::new(irq.clone(), io::sink());
        serial.write(1, &[1]); // IER: received data available
        assert_eq!(serial.receive(b"x"), 1);
        assert!(irq.pulses() > 0);
        let mut data = [0];
        serial.read(0, &mut data);
        assert_eq!(&data, b"x");
    }
}
