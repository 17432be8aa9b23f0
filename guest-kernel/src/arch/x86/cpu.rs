//! Single instructions, each in a function.

use core::arch::asm;

use shared_abi::ports;

/// Whether interrupts were on.
#[derive(Clone, Copy, Debug)]
pub struct InterruptState(bool);

const FLAG_INTERRUPT: u64 = 1 << 9;

/// Turns interrupts off; what they were before.
#[inline]
pub fn interrupts_save_and_disable() -> InterruptState {
    let flags: u64;
    // SAFETY: reading the flags and `cli` touch no memory but the stack slot of the pair.
    unsafe { asm!("pushfq", "pop {}", "cli", out(reg) flags) };
    InterruptState(flags & FLAG_INTERRUPT != 0)
}

/// Turns interrupts on again if they were on.
#[inline]
pub fn interrupts_restore(state: InterruptState) {
    if state.0 {
        interrupts_enable();
    }
}

/// Turns interrupts on.
#[inline]
pub fn interrupts_enable() {
    // SAFETY: the interrupt descriptor table is loaded before anything calls this.
    unsafe { asm!("sti", options(nostack)) };
}

/// Turns interrupts off.
#[inline]
pub fn interrupts_disable() {
    // SAFETY: later interrupts wait.
    unsafe { asm!("cli", options(nostack)) };
}

/// Waits for one interrupt and lets its handler run; interrupts are on afterwards.
///
/// `sti` takes effect after the next instruction: an interrupt cannot get in between the two.
#[inline]
pub fn wait_for_interrupt() {
    // SAFETY: handlers return here.
    unsafe { asm!("sti", "hlt", options(nostack)) };
}

/// Writes 32 bits to a port.
#[inline]
pub fn port_write_u32(port: u16, value: u32) {
    // SAFETY: the ports that exist are the VMM's; they change memory only where a request says so,
    // which is why the compiler may not assume otherwise (no `nomem`).
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack)) };
}

/// Writes 8 bits to a port.
#[inline]
pub fn port_write_u8(port: u16, value: u8) {
    // SAFETY: as for 32 bits.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack)) };
}

/// Rings the stdio doorbell for the request at this guest-physical address.
#[inline]
pub fn ring_doorbell(request: u32) {
    port_write_u32(ports::STDIO, request);
}

/// Writes text to COM1.
pub fn serial_write(bytes: &[u8]) {
    for &byte in bytes {
        port_write_u8(ports::COM1, byte);
    }
}

/// Ends the machine.
pub fn exit_machine(word: u32) -> ! {
    loop {
        port_write_u32(ports::EXIT, word);
    }
}

/// Reads the time-stamp counter.
#[inline]
pub fn time_stamp_counter() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: no side effects.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Reads a model-specific register.
///
/// # Safety
/// The register must exist.
#[inline]
pub unsafe fn msr_read(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller says that it exists.
    unsafe {
        asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high, options(nomem, nostack));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register.
///
/// # Safety
/// The register must exist, and the value must keep the kernel running.
#[inline]
pub unsafe fn msr_write(register: u32, value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: the caller vouches for it.
    unsafe {
        asm!("wrmsr", in("ecx") register, in("eax") low, in("edx") high, options(nostack));
    }
}

/// The address of the last page fault.
#[inline]
pub fn fault_address() -> u64 {
    let address: u64;
    // SAFETY: no side effects.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack)) };
    address
}

/// The root of the page tables in use.
#[inline]
pub fn page_table_root() -> u64 {
    let root: u64;
    // SAFETY: no side effects.
    unsafe { asm!("mov {}, cr3", out(reg) root, options(nomem, nostack)) };
    root
}

/// Switches the page tables.
///
/// # Safety
/// The upper half must be the kernel's.
#[inline]
pub unsafe fn set_page_table_root(root: u64) {
    // SAFETY: the caller vouches for the tables.
    unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack)) };
}

/// Forgets the translation of one user page on this CPU.
#[inline]
pub fn flush_tlb_page(address: u64) {
    // SAFETY: forgetting a translation is always safe.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack)) };
}

/// Forgets the translations of all user pages on this CPU.
#[inline]
pub fn flush_tlb_user() {
    // SAFETY: the tables stay the same.
    unsafe { set_page_table_root(page_table_root()) };
}

/// CPUID.
pub fn cpuid(leaf: u32, subleaf: u32) -> core::arch::x86_64::CpuidResult {
    core::arch::x86_64::__cpuid_count(leaf, subleaf)
}

/// Sets bits of CR4.
///
/// # Safety
/// The processor must have the features, and the kernel must be ready for them.
pub unsafe fn cr4_set(bits: u64) {
    // SAFETY: the caller vouches for the bits.
    unsafe {
        asm!("mov {t}, cr4", "or {t}, {bits}", "mov cr4, {t}", t = out(reg) _, bits = in(reg) bits, options(nostack));
    }
}
