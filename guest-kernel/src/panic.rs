//! The end of the kernel: what happened, registers and a backtrace go into the report, and the VMM
//! prints them with symbols.

#![expect(unsafe_code, reason = "walks the stack and fills the report")]

use core::fmt::{self, Write as _};
use core::sync::atomic::{AtomicBool, Ordering};

use shared_abi::layout::KERNEL_BASE;
use shared_abi::ports::EXIT_PANIC;
use shared_abi::report::{BACKTRACE_MAX, PANIC_MESSAGE_MAX, PanicRegisters};

use crate::arch::frame::UserFrame;
use crate::arch::{self, cpu};
use crate::report;

/// Set by the first panic: one during it ends the machine at once.
static PANICKING: AtomicBool = AtomicBool::new(false);

struct Message {
    len: usize,
}

impl fmt::Write for Message {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let message = report::panic_record();
        for &byte in text.as_bytes() {
            if self.len < PANIC_MESSAGE_MAX {
                // SAFETY: inside the report's message.
                unsafe { (&raw mut (*message).message).cast::<u8>().add(self.len).write(byte) };
                self.len += 1;
            }
        }
        Ok(())
    }
}

/// A panic of Rust code.
#[panic_handler]
fn on_panic(info: &core::panic::PanicInfo<'_>) -> ! {
    begin();
    let mut message = Message { len: 0 };
    match info.location() {
        Some(at) => {
            let _ = write!(message, "{} ({}:{})", info.message(), at.file(), at.line());
        }
        None => {
            let _ = write!(message, "{}", info.message());
        }
    }
    let mut registers = current_registers();
    registers.vector = u64::MAX;
    end(message.len, registers)
}

/// An exception in kernel mode, or one that no mode can go on after.
pub(crate) fn on_exception(vector: u64, frame: &UserFrame) -> ! {
    begin();
    let mut message = Message { len: 0 };
    let mode = if frame.cs & 3 == 0 { "kernel" } else { "user" };
    let _ = write!(message, "exception {vector} in {mode} mode");
    let general = [
        frame.rax, frame.rbx, frame.rcx, frame.rdx, frame.rsi, frame.rdi, frame.rbp, frame.rsp,
        frame.r8, frame.r9, frame.r10, frame.r11, frame.r12, frame.r13, frame.r14, frame.r15,
    ];
    let registers = PanicRegisters {
        general,
        rip: frame.rip,
        rflags: frame.rflags,
        cr2: cpu::fault_address(),
        cr3: cpu::page_table_root(),
        vector,
        error_code: frame.number,
    };
    end(message.len, registers)
}

fn begin() {
    cpu::interrupts_disable();
    if PANICKING.swap(true, Ordering::Relaxed) {
        arch::exit_machine(EXIT_PANIC);
    }
}

/// Where the panic was raised: the frames of the handler itself are left out, and what they have
/// overwritten is not shown.
#[inline(always)]
fn current_registers() -> PanicRegisters {
    let (rbp, rsp, rflags): (u64, u64, u64);
    // SAFETY: reads registers; the push and the pop leave the stack as it was.
    unsafe {
        core::arch::asm!("pushfq", "pop {}", "mov {}, rbp", "mov {}, rsp",
                         out(reg) rflags, out(reg) rbp, out(reg) rsp);
    }
    let mut general = [0; 16];
    (general[6], general[7]) = (rbp, rsp);
    // SAFETY: this function is inlined into the handler, whose frame has its return address there.
    let rip = unsafe { (rbp as *const u64).add(1).read() };
    PanicRegisters {
        general,
        rip,
        rflags,
        cr2: cpu::fault_address(),
        cr3: cpu::page_table_root(),
        ..PanicRegisters::default()
    }
}

fn end(message_len: usize, registers: PanicRegisters) -> ! {
    let record = report::panic_record();
    let mut count = 0;
    let mut frame = registers.general[6];
    // Frame pointers: [rbp] is the caller's, [rbp + 8] the return address. Only the kernel image
    // holds stacks, and they grow down: each frame is above the last.
    while count < BACKTRACE_MAX
        && frame >= KERNEL_BASE
        && frame.is_multiple_of(8)
        && frame < u64::MAX - 16
    {
        // SAFETY: an aligned address in the kernel image's mapping; should it be a guard page, the
        // exception ends the machine, which is what happens anyway.
        let (next, address) =
            unsafe { ((frame as *const u64).read(), (frame as *const u64).add(1).read()) };
        if address < KERNEL_BASE {
            break;
        }
        // SAFETY: inside the report's array.
        unsafe { (&raw mut (*record).backtrace).cast::<u64>().add(count).write(address) };
        count += 1;
        if next <= frame {
            break;
        }
        frame = next;
    }
    // SAFETY: fields of the report.
    unsafe {
        (&raw mut (*record).message_len).write(message_len as u32);
        (&raw mut (*record).backtrace_len).write(count as u32);
        (&raw mut (*record).registers).write(registers);
    }
    arch::exit_machine(EXIT_PANIC)
}
