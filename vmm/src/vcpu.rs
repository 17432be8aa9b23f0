//! The run loop of a virtual CPU: run, match, answer.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kvm_bindings::{
    KVM_EXIT_INTERNAL_ERROR, KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, kvm_guest_debug,
};
use kvm_ioctls::VcpuFd;
use shared_abi::ports;

use crate::bus::{Bus, Claim};
use crate::exit::{Exit, InternalError};
use crate::kick::Kickable;
use crate::stats::{Direction, ExitCounts};

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The kernel wrote this word to the exit port.
    Word(u32),
    /// The virtual CPU gave up: why.
    GaveUp(String),
    /// A mapped host file became shorter under the guest.
    MemoryGone,
    /// We were asked to stop.
    Stopped,
}

/// A virtual CPU with the buses that it sees.
pub struct Vcpu {
    /// KVM's.
    pub fd: VcpuFd,
    /// Port I/O.
    pub ports: Arc<Bus>,
    /// Memory-mapped I/O.
    pub mmio: Arc<Bus>,
    /// Guest addresses of the root image. Where KVM emulates instructions, a load from one whose host
    /// file became shorter looks like a load from a device.
    pub root: Range<u64>,
    /// Set before a kick: the loop ends.
    pub stop: Arc<AtomicBool>,
    /// Report what is odd on standard error.
    pub verbose: bool,
}

impl Vcpu {
    /// Runs until the guest ends.
    pub fn run(mut self) -> (End, ExitCounts) {
        let mut counts = ExitCounts::default();
        let end = match Kickable::new(&mut self.fd) {
            Ok(_kickable) => self.run_loop(&mut counts),
            Err(e) => End::GaveUp(format!("cannot install the signal handler: {e}")),
        };
        (end, counts)
    }

    /// Steps through the kernel's instructions one by one until `is_done`; how many there were. What they
    /// write to devices is dropped.
    ///
    /// # Errors
    /// When the guest ends before, or takes more than `count_max`.
    pub fn count_instructions(
        &mut self,
        count_max: u64,
        is_done: impl Fn() -> bool,
    ) -> Result<u64, String> {
        let debug = kvm_guest_debug {
            control: KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP,
            ..Default::default()
        };
        self.fd.set_guest_debug(&debug).map_err(|e| format!("KVM cannot single-step: {e}"))?;
        for count in 0..count_max {
            if is_done() {
                return Ok(count);
            }
            match Exit::decode(self.fd.run()) {
                Exit::Step | Exit::Interrupted => {}
                Exit::IoOut(ports::EXIT, _) => return Err("the guest ended before".into()),
                Exit::IoOut(..) => {}
                Exit::InternalError => {
                    self.refuse_instruction(None)?;
                }
                other => return Err(format!("unexpected exit: {other:?}")),
            }
        }
        Err(format!("not done after {count_max} instructions"))
    }

    fn run_loop(&mut self, counts: &mut ExitCounts) -> End {
        let mut refused_at = None;
        while !self.stop.load(Ordering::Acquire) {
            match Exit::decode(self.fd.run()) {
                Exit::IoOut(ports::EXIT, data) => {
                    counts.count_io(Direction::Out, ports::EXIT);
                    let mut word = [0; 4];
                    let len = data.len().min(4);
                    word[..len].copy_from_slice(&data[..len]);
                    return End::Word(u32::from_le_bytes(word));
                }
                Exit::IoOut(port, data) => {
                    counts.count_io(Direction::Out, port);
                    counts.unclaimed_writes += unclaimed(self.ports.write(u64::from(port), data));
                }
                Exit::IoIn(port, data) => {
                    counts.count_io(Direction::In, port);
                    counts.unclaimed_reads += unclaimed(self.ports.read(u64::from(port), data));
                }
                Exit::MmioWrite(gpa, data) => {
                    counts.mmio_write += 1;
                    counts.unclaimed_writes += unclaimed(self.mmio.write(gpa, data));
                }
                Exit::MmioRead(gpa, _) if self.root.contains(&gpa) => return End::MemoryGone,
                Exit::MmioRead(gpa, data) => {
                    counts.mmio_read += 1;
                    counts.unclaimed_reads += unclaimed(self.mmio.read(gpa, data));
                }
                Exit::Halt => counts.hlt += 1,
                Exit::Interrupted => counts.interrupted += 1,
                Exit::InternalError => {
                    counts.emulation_failure += 1;
                    match self.refuse_instruction(refused_at) {
                        Ok(rip) => refused_at = Some(rip),
                        Err(reason) => return End::GaveUp(reason),
                    }
                }
                Exit::Shutdown => {
                    counts.other += 1;
                    return self.gave_up("triple fault");
                }
                Exit::MemoryGone => return End::MemoryGone,
                Exit::FailEntry(reason) => {
                    counts.other += 1;
                    return self.gave_up(&format!("entry failed, hardware reason {reason:#x}"));
                }
                Exit::Step | Exit::Other => {
                    counts.other += 1;
                    let reason = self.fd.get_kvm_run().exit_reason;
                    return self.gave_up(&format!("unexpected exit {reason}"));
                }
                Exit::Failed(errno) => {
                    return self.gave_up(&format!("KVM_RUN failed with errno {errno}"));
                }
            }
        }
        End::Stopped
    }

    /// An instruction that KVM cannot emulate becomes #UD, as on a processor that does not have it;
    /// twice at one place, and the guest has no answer to it.
    fn refuse_instruction(&mut self, refused_at: Option<u64>) -> Result<u64, String> {
        let error = self.internal_error();
        let rip = self.fd.get_regs().map_err(|e| format!("no registers: {e}"))?.rip;
        let what = match error.instruction {
            Some(bytes) => format!("instruction {bytes:02x?} at {rip:#x}"),
            None => format!("internal error {} at {rip:#x}", error.suberror),
        };
        if !error.is_emulation() || refused_at == Some(rip) {
            return Err(format!("KVM cannot execute {what}"));
        }
        if self.verbose {
            crate::error::print_line(&format!("KVM cannot emulate {what}: the guest gets #UD"));
        }
        const INVALID_OPCODE: u8 = 6;
        let mut events = self.fd.get_vcpu_events().map_err(|e| format!("no events: {e}"))?;
        events.exception.injected = 1;
        events.exception.nr = INVALID_OPCODE;
        events.exception.has_error_code = 0;
        self.fd.set_vcpu_events(&events).map_err(|e| format!("cannot inject #UD: {e}"))?;
        Ok(rip)
    }

    fn internal_error(&mut self) -> InternalError {
        let run = self.fd.get_kvm_run();
        debug_assert_eq!(run.exit_reason, KVM_EXIT_INTERNAL_ERROR);
        let (suberror, ndata, data) = crate::kick::internal_error_words(run);
        InternalError::decode(suberror, ndata, &data)
    }

    fn gave_up(&self, why: &str) -> End {
        let place = self.fd.get_regs().map_or(String::new(), |r| {
            format!(" at rip {:#x}, rsp {:#x}, rax {:#x}", r.rip, r.rsp, r.rax)
        });
        let cr2 = self.fd.get_sregs().map_or(0, |s| s.cr2);
        End::GaveUp(format!("{why}{place}, cr2 {cr2:#x}"))
    }
}

fn unclaimed(claim: Claim) -> u64 {
    u64::from(claim == Claim::Unclaimed)
}
