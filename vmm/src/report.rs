//! What the guest kernel left behind, in words: why it panicked, which signal killed the program.
//!
//! The guest may have written anything into its report: lengths are clipped, text is escaped, addresses
//! are only looked up.

#![forbid(unsafe_code)]

use std::fmt::Write as _;

use object::{Object, ObjectSymbol, SymbolKind};
use shared_abi::report::{PanicRecord, Report};

use crate::error::one_line;

/// What `PanicRegisters::vector` holds when there was no exception.
const NO_VECTOR: u64 = u64::MAX;
/// The longest name of a symbol that is shown, in bytes.
const SYMBOL_NAME_LEN_MAX: usize = 512;

/// The text for a kernel panic, several lines: message, registers, backtrace. `kernel` is the ELF file
/// of the kernel, for its symbols.
pub fn panic_text(panic: &PanicRecord, kernel: &[u8]) -> String {
    let symbols = Symbols::read(kernel);
    let mut text = String::new();
    let message_len = (panic.message_len as usize).min(panic.message.len());
    let message = panic.message.get(..message_len).unwrap_or_default();
    let message = String::from_utf8_lossy(message);
    let message = if message.trim().is_empty() { "(it left no message)".into() } else { message };
    for (index, line) in message.trim_end().lines().enumerate() {
        let prefix = if index == 0 { "vmm: guest kernel panicked: " } else { "  " };
        let _ = writeln!(text, "{prefix}{}", one_line(line));
    }

    let registers = &panic.registers;
    if registers.vector != NO_VECTOR {
        let name = exception_name(registers.vector);
        let _ = writeln!(
            text,
            "  exception {}{name}, error code {:#x}",
            registers.vector, registers.error_code
        );
    }
    // Without an exception it is a return address: the call lies before it.
    let inside = registers.rip.wrapping_sub(u64::from(registers.vector == NO_VECTOR));
    let _ = writeln!(text, "  rip {}", symbols.describe(registers.rip, inside));
    const NAMES: [&str; 16] = [
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12",
        "r13", "r14", "r15",
    ];
    let rest = [("flags", registers.rflags), ("cr2", registers.cr2), ("cr3", registers.cr3)];
    let all: Vec<_> = NAMES.into_iter().zip(registers.general).chain(rest).collect();
    for row in all.chunks(4) {
        text.push(' ');
        for (name, value) in row {
            let _ = write!(text, " {name:>5} {value:016x}");
        }
        text.push('\n');
    }

    let backtrace_len = (panic.backtrace_len as usize).min(panic.backtrace.len());
    let backtrace = panic.backtrace.get(..backtrace_len).unwrap_or_default();
    if !backtrace.is_empty() {
        text.push_str("  backtrace:\n");
    }
    for (index, &address) in backtrace.iter().enumerate() {
        // A return address may be the first of the next function: the call lies before it.
        let place = symbols.describe(address, address.wrapping_sub(1));
        let _ = writeln!(text, "  {index:4}: {place}");
    }
    text
}

/// The words a shell prints when `signal` has killed a program; none for those it is silent about.
pub fn signal_words(signal: u8) -> Option<&'static str> {
    Some(match i32::from(signal) {
        libc::SIGINT | libc::SIGPIPE => return None,
        libc::SIGHUP => "Hangup",
        libc::SIGQUIT => "Quit",
        libc::SIGILL => "Illegal instruction",
        libc::SIGTRAP => "Trace/breakpoint trap",
        libc::SIGABRT => "Aborted",
        libc::SIGBUS => "Bus error",
        libc::SIGFPE => "Floating point exception",
        libc::SIGKILL => "Killed",
        libc::SIGUSR1 => "User defined signal 1",
        libc::SIGSEGV => "Segmentation fault",
        libc::SIGUSR2 => "User defined signal 2",
        libc::SIGALRM => "Alarm clock",
        libc::SIGTERM => "Terminated",
        libc::SIGSTKFLT => "Stack fault",
        libc::SIGXCPU => "CPU time limit exceeded",
        libc::SIGXFSZ => "File size limit exceeded",
        libc::SIGVTALRM => "Virtual timer expired",
        libc::SIGPROF => "Profiling timer expired",
        libc::SIGIO => "I/O possible",
        libc::SIGPWR => "Power failure",
        libc::SIGSYS => "Bad system call",
        34..=64 => "Real-time signal",
        _ => "Unknown signal",
    })
}

/// Where the fault was that killed the program, for `-v`; none if no fault did.
pub fn fault_line(report: &Report) -> Option<String> {
    if report.fault_rip == 0 && report.fault_address == 0 {
        return None;
    }
    Some(format!(
        "the program faulted at address {:#x}, by the instruction at {:#x}",
        report.fault_address, report.fault_rip
    ))
}

/// SDM 3A, table 6-1.
fn exception_name(vector: u64) -> &'static str {
    match vector {
        0 => " (divide error)",
        1 => " (debug)",
        2 => " (NMI)",
        3 => " (breakpoint)",
        4 => " (overflow)",
        6 => " (invalid opcode)",
        7 => " (no FPU)",
        8 => " (double fault)",
        10 => " (invalid TSS)",
        11 => " (segment not present)",
        12 => " (stack fault)",
        13 => " (general protection)",
        14 => " (page fault)",
        16 => " (x87 error)",
        17 => " (alignment check)",
        18 => " (machine check)",
        19 => " (SIMD error)",
        _ => "",
    }
}

/// The functions of the kernel, by address.
struct Symbols<'a> {
    /// Start, size (zero: up to the next), name.
    functions: Vec<(u64, u64, &'a str)>,
}

impl<'a> Symbols<'a> {
    /// None at all if `kernel` cannot be read: addresses alone are better than no report.
    fn read(kernel: &'a [u8]) -> Self {
        let mut functions = Vec::new();
        if let Ok(file) = object::File::parse(kernel) {
            functions.extend(
                file.symbols()
                    .filter(|symbol| {
                        symbol.is_definition()
                            && matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Label)
                    })
                    .filter_map(|symbol| {
                        Some((symbol.address(), symbol.size(), symbol.name().ok()?))
                    }),
            );
        }
        functions.sort_unstable();
        Self { functions }
    }

    /// `address`, with the name of the function that `inside` belongs to.
    fn describe(&self, address: u64, inside: u64) -> String {
        let end = self.functions.partition_point(|&(start, _, _)| start <= inside);
        let found = end.checked_sub(1).and_then(|index| self.functions.get(index));
        match found {
            Some(&(start, size, name)) if size == 0 || inside - start < size => {
                let mut name = format!("{:#}", rustc_demangle::demangle(name));
                if name.len() > SYMBOL_NAME_LEN_MAX {
                    name.truncate(name.floor_char_boundary(SYMBOL_NAME_LEN_MAX));
                }
                format!("{address:#018x} {}+{:#x}", one_line(&name), address - start)
            }
            _ => format!("{address:#018x}"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use shared_abi::report::SYSCALL_COUNT;
    use shared_abi::report::{BACKTRACE_MAX, FAULT_KIND_COUNT, PANIC_MESSAGE_MAX, PanicRegisters};

    pub(crate) fn empty_report() -> Report {
        Report {
            tsc_kernel_entry: 0,
            tsc_user_entry: 0,
            tsc_exit: 0,
            frames_used: 0,
            frames_used_max: 0,
            faults: [0; FAULT_KIND_COUNT],
            fault_address: 0,
            fault_rip: 0,
            syscalls: [0; SYSCALL_COUNT],
            panic: PanicRecord {
                message_len: 0,
                backtrace_len: 0,
                message: [0; PANIC_MESSAGE_MAX],
                registers: PanicRegisters { vector: NO_VECTOR, ..PanicRegisters::default() },
                backtrace: [0; BACKTRACE_MAX],
            },
        }
    }

    fn panic_with(message: &[u8]) -> PanicRecord {
        let mut panic = empty_report().panic;
        panic.message[..message.len()].copy_from_slice(message);
        panic.message_len = u32::try_from(message.len()).unwrap();
        panic
    }

    #[test]
    fn a_panic_is_told_with_names() {
        // This test program is an ELF file with symbols; its addresses are file-relative.
        let elf = std::fs::read("/proc/self/exe").unwrap();
        let symbols = Symbols::read(&elf);
        let &(start, size, _) = symbols
            .functions
            .iter()
            .find(|(_, size, name)| {
                let name = format!("{:#}", rustc_demangle::demangle(name));
                *size > 8 && name.ends_with("a_panic_is_told_with_names")
            })
            .unwrap();
        let mut panic = panic_with(b"frame 7 freed twice\nowner: none");
        panic.registers.rip = start + 4;
        panic.registers.vector = 14;
        panic.registers.error_code = 2;
        panic.registers.general[7] = 0xabcd;
        panic.backtrace[0] = start + size;
        panic.backtrace[1] = 1;
        panic.backtrace_len = 2;
        let text = panic_text(&panic, &elf);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "vmm: guest kernel panicked: frame 7 freed twice");
        assert_eq!(lines[1], "  owner: none");
        assert_eq!(lines[2], "  exception 14 (page fault), error code 0x2");
        assert!(lines[3].starts_with("  rip 0x") && lines[3].ends_with("told_with_names+0x4"));
        assert!(text.contains("  rsp 000000000000abcd\n"), "{text}");
        assert!(text.contains(&format!("told_with_names+{size:#x}\n")), "{text}");
        assert!(text.ends_with("     1: 0x0000000000000001\n"), "{text}");
    }

    #[test]
    fn hostile_records_are_clipped_and_escaped() {
        let mut panic = panic_with(b"\x1b[2J\xff\r\0x");
        panic.message_len = u32::MAX;
        panic.backtrace_len = u32::MAX;
        panic.backtrace = [u64::MAX; BACKTRACE_MAX];
        for elf in [&b""[..], b"\x7fELF", b"\x7fELF\x02\x01\x01", &[0xff; 4096]] {
            let text = panic_text(&panic, elf);
            assert!(text.contains("\\u{1b}[2J\u{fffd}\\r\\0x"), "{text}");
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
            assert!(text.lines().count() < 100);
        }
        assert!(panic_text(&panic_with(b""), b"").contains("left no message"));
    }

    #[test]
    fn damaged_kernels_are_read_without_a_panic() {
        let mut elf = std::fs::read("/bin/true").unwrap();
        let panic = panic_with(b"x");
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..500 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let index = usize::try_from(state >> 33).unwrap() % elf.len();
            elf[index.min(index % 2048)] ^= 1 << (state & 7);
            assert!(panic_text(&panic, &elf).starts_with("vmm: guest kernel panicked: x\n"));
        }
    }

    #[test]
    fn signals_are_told_as_by_a_shell() {
        for (signal, words) in [
            (libc::SIGSEGV, Some("Segmentation fault")),
            (libc::SIGABRT, Some("Aborted")),
            (libc::SIGINT, None),
            (libc::SIGPIPE, None),
            (40, Some("Real-time signal")),
            (127, Some("Unknown signal")),
        ] {
            assert_eq!(signal_words(u8::try_from(signal).unwrap()), words);
        }
    }

    #[test]
    fn faults_are_told_where_there_was_one() {
        let mut report = empty_report();
        assert_eq!(fault_line(&report), None);
        (report.fault_address, report.fault_rip) = (0x10, 0x40_1000);
        let line = fault_line(&report).unwrap();
        assert!(line.contains("0x10") && line.contains("0x401000"));
    }
}
