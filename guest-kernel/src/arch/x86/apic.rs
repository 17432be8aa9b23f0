//! The local APIC in x2APIC mode (SDM 3A 11.12), and its timer.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::cpu;
use super::trap::vector;

const IA32_TSC_DEADLINE: u32 = 0x6e0;
const X2APIC_EOI: u32 = 0x80b;
const X2APIC_SPURIOUS: u32 = 0x80f;
const X2APIC_LVT_TIMER: u32 = 0x832;
const X2APIC_INITIAL_COUNT: u32 = 0x838;
const X2APIC_CURRENT_COUNT: u32 = 0x839;
const X2APIC_DIVIDE: u32 = 0x83e;

const SPURIOUS_ENABLE: u64 = 1 << 8;
const LVT_TSC_DEADLINE: u64 = 2 << 17;
const DIVIDE_BY_1: u64 = 0xb;

const PIC_MASTER_MASK: u16 = 0x21;
const PIC_SLAVE_MASK: u16 = 0xa1;

/// Which timer there is; found out when the first one is set.
static TIMER: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const DEADLINE: u8 = 1;
const ONE_SHOT: u8 = 2;

/// TSC ticks per timer tick in one-shot mode, times 2^16.
static TICK_RATIO: AtomicU64 = AtomicU64::new(0);

/// Silences the old interrupt controllers and turns the local one on (the VMM has set x2APIC mode).
pub(super) fn initialise() {
    cpu::port_write_u8(PIC_MASTER_MASK, 0xff);
    cpu::port_write_u8(PIC_SLAVE_MASK, 0xff);
    // SAFETY: the register exists in x2APIC mode.
    unsafe { cpu::msr_write(X2APIC_SPURIOUS, SPURIOUS_ENABLE | u64::from(vector::SPURIOUS)) };
}

/// Says that the interrupt has been taken care of.
pub(super) fn end_of_interrupt() {
    // SAFETY: the register exists in x2APIC mode.
    unsafe { cpu::msr_write(X2APIC_EOI, 0) };
}

/// Asks for a timer interrupt when the time-stamp counter reaches the deadline, or for none.
pub fn set_timer(tsc_deadline: Option<u64>) {
    if TIMER.load(Ordering::Relaxed) == UNKNOWN {
        find_timer();
    }
    if TIMER.load(Ordering::Relaxed) == DEADLINE {
        // Zero disarms; a deadline that has passed fires at once.
        // SAFETY: the register exists, as CPUID says.
        unsafe { cpu::msr_write(IA32_TSC_DEADLINE, tsc_deadline.map_or(0, |d| d.max(1))) };
        return;
    }
    let count = tsc_deadline.map_or(0, |deadline| {
        let ticks = deadline.saturating_sub(cpu::time_stamp_counter());
        let count = (u128::from(ticks) << 16) / u128::from(TICK_RATIO.load(Ordering::Relaxed));
        (count + 1).min(u128::from(u32::MAX)) as u64 // a longer wait is set again when this one ends
    });
    // SAFETY: the register exists in x2APIC mode.
    unsafe { cpu::msr_write(X2APIC_INITIAL_COUNT, count) };
}

/// CPUID is right about the timer: it is KVM's own, not an instruction.
fn find_timer() {
    const LEAF_1_ECX_TSC_DEADLINE: u32 = 1 << 24;
    let kind =
        if cpu::cpuid(1, 0).ecx & LEAF_1_ECX_TSC_DEADLINE != 0 { DEADLINE } else { ONE_SHOT };
    let mode = if kind == DEADLINE { LVT_TSC_DEADLINE } else { 0 };
    // SAFETY: the registers exist in x2APIC mode.
    unsafe {
        cpu::msr_write(X2APIC_DIVIDE, DIVIDE_BY_1);
        cpu::msr_write(X2APIC_LVT_TIMER, mode | u64::from(vector::TIMER));
    }
    if kind == ONE_SHOT {
        TICK_RATIO.store(measure_tick_ratio(), Ordering::Relaxed);
    }
    TIMER.store(kind, Ordering::Relaxed);
}

/// How many TSC ticks a tick of the APIC timer has, times 2^16. KVM's APIC bus clock is 1 GHz, but no
/// interface says so; a short look at both counters does.
fn measure_tick_ratio() -> u64 {
    const SAMPLE_TSC_TICKS: u64 = 100_000;
    let state = cpu::interrupts_save_and_disable();
    // SAFETY: the registers exist in x2APIC mode; the count cannot reach zero meanwhile.
    unsafe { cpu::msr_write(X2APIC_INITIAL_COUNT, u64::from(u32::MAX)) };
    let (tsc, from) = (cpu::time_stamp_counter(), current_count());
    while cpu::time_stamp_counter() - tsc < SAMPLE_TSC_TICKS {
        core::hint::spin_loop();
    }
    let (elapsed, to) = (cpu::time_stamp_counter() - tsc, current_count());
    // SAFETY: as above; zero stops it.
    unsafe { cpu::msr_write(X2APIC_INITIAL_COUNT, 0) };
    cpu::interrupts_restore(state);
    ((elapsed << 16) / from.saturating_sub(to).max(1)).max(1)
}

fn current_count() -> u64 {
    // SAFETY: the register exists in x2APIC mode.
    unsafe { cpu::msr_read(X2APIC_CURRENT_COUNT) }
}
