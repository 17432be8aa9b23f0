//! The clock data that the kernel and the vDSO share, and their arithmetic.
//!
//! ```text
//! nanoseconds of clock c = base_ns[c] + ((TSC - tsc_base) * mult >> shift)
//! ```
//! The page is mapped read-only below the vDSO. It is written by the kernel under a sequence count:
//! odd while a write goes on, and a reader tries again when the count has changed.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use linux_raw_sys::general::{
    CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME,
    CLOCK_REALTIME_COARSE, CLOCK_TAI,
};

use crate::mm::addr::PAGE;

/// Clocks with a base in [`VdsoData`]: numbers below this.
pub const CLOCK_COUNT: usize = 12;
/// The clocks that are the TSC and a base, and so are read in ring 3; a bit each.
pub const TSC_CLOCKS: u32 = REALTIME_CLOCKS
    | 1 << CLOCK_MONOTONIC
    | 1 << CLOCK_MONOTONIC_RAW
    | 1 << CLOCK_MONOTONIC_COARSE
    | 1 << CLOCK_BOOTTIME;
/// Those of them that count from 1970; the others count from the machine's start. TAI has no leap
/// second offset until somebody sets one, as on Linux.
const REALTIME_CLOCKS: u32 = 1 << CLOCK_REALTIME | 1 << CLOCK_REALTIME_COARSE | 1 << CLOCK_TAI;
/// The clocks that only promise [`COARSE_RESOLUTION_NS`], a bit each.
pub const COARSE_CLOCKS: u32 = 1 << CLOCK_REALTIME_COARSE | 1 << CLOCK_MONOTONIC_COARSE;
/// What clock_getres says of them: a tick at 250 Hz. They are in fact as fine as the others.
pub const COARSE_RESOLUTION_NS: u64 = 4_000_000;

/// The largest shift: the multiplier then has 63 or 64 significant bits.
const SHIFT_MAX: u32 = 63;

/// One page, because it is mapped into every process: nothing else may lie in it.
#[repr(C, align(4096))]
pub struct VdsoData {
    /// Odd while the rest is being written.
    pub(crate) sequence: AtomicU32,
    /// See the module's formula.
    pub(crate) shift: AtomicU32,
    /// See the module's formula.
    pub(crate) mult: AtomicU64,
    /// Time-stamp counter when every clock showed its base.
    pub(crate) tsc_base: AtomicU64,
    /// Of each clock that [`TSC_CLOCKS`] has, its time at `tsc_base`.
    pub(crate) base_ns: [AtomicU64; CLOCK_COUNT],
    /// How many CPUs there are: with one, getcpu needs no system call.
    pub(crate) cpu_count: AtomicU32,
}

const _: () = assert!(size_of::<VdsoData>() == PAGE);

impl Default for VdsoData {
    fn default() -> Self {
        Self::zeroed()
    }
}

impl VdsoData {
    /// Clocks that stand still at 0.
    #[must_use]
    pub const fn zeroed() -> Self {
        Self {
            sequence: AtomicU32::new(0),
            shift: AtomicU32::new(0),
            mult: AtomicU64::new(0),
            tsc_base: AtomicU64::new(0),
            base_ns: [const { AtomicU64::new(0) }; CLOCK_COUNT],
            cpu_count: AtomicU32::new(1),
        }
    }

    /// Clocks that show `realtime_ns`, or 0, when the time-stamp counter is `tsc_base`.
    #[must_use]
    pub fn new(tsc_khz: u32, tsc_base: u64, realtime_ns: u64) -> Self {
        let data = Self::zeroed();
        data.set(tsc_khz, tsc_base, realtime_ns);
        data
    }

    /// Sets the clocks; readers see the old or the new ones. One writer at a time.
    pub fn set(&self, tsc_khz: u32, tsc_base: u64, realtime_ns: u64) {
        let (mult, shift) = mult_shift(tsc_khz);
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        // The odd count before every new word.
        fence(Ordering::Release);
        self.mult.store(mult, Ordering::Relaxed);
        self.shift.store(shift, Ordering::Relaxed);
        self.tsc_base.store(tsc_base, Ordering::Relaxed);
        for (clock, base_ns) in self.base_ns.iter().enumerate() {
            let from_1970 = REALTIME_CLOCKS & (1 << clock) != 0;
            base_ns.store(if from_1970 { realtime_ns } else { 0 }, Ordering::Relaxed);
        }
        // Every new word before the even count.
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// Says how many CPUs there are.
    pub fn set_cpu_count(&self, cpu_count: u32) {
        self.cpu_count.store(cpu_count, Ordering::Relaxed);
    }

    /// What `clock`, one of [`TSC_CLOCKS`], shows at `tsc`.
    ///
    /// # Panics
    /// If `clock` is not below [`CLOCK_COUNT`].
    #[must_use]
    pub fn clock_ns(&self, clock: u32, tsc: u64) -> u64 {
        loop {
            let sequence = self.sequence.load(Ordering::Acquire);
            if sequence & 1 == 0 {
                let delta = tsc.saturating_sub(self.tsc_base.load(Ordering::Relaxed));
                let product = u128::from(delta) * u128::from(self.mult.load(Ordering::Relaxed));
                let elapsed_ns = (product >> self.shift.load(Ordering::Relaxed)) as u64;
                let base_ns = self.base_ns[clock as usize].load(Ordering::Relaxed);
                // Every word before the count is looked at again.
                fence(Ordering::Acquire);
                if self.sequence.load(Ordering::Relaxed) == sequence {
                    return base_ns.wrapping_add(elapsed_ns);
                }
            }
            core::hint::spin_loop();
        }
    }

    /// Nanoseconds since the machine's start at `tsc`.
    #[must_use]
    pub fn nanoseconds(&self, tsc: u64) -> u64 {
        self.clock_ns(CLOCK_MONOTONIC, tsc)
    }

    /// The first time-stamp at which [`Self::nanoseconds`] has reached `monotonic_ns`: for timers.
    #[must_use]
    pub fn tsc_at(&self, monotonic_ns: u64) -> u64 {
        let mult = u128::from(self.mult.load(Ordering::Relaxed)).max(1);
        let scaled = u128::from(monotonic_ns) << self.shift.load(Ordering::Relaxed);
        let delta = u64::try_from(scaled.div_ceil(mult)).unwrap_or(u64::MAX);
        self.tsc_base.load(Ordering::Relaxed).saturating_add(delta)
    }
}

/// The multiplier and shift that turn time-stamp counts into nanoseconds: the largest shift whose
/// multiplier fits a word. The product has 128 bits, so that nothing is lost to its range.
fn mult_shift(tsc_khz: u32) -> (u64, u32) {
    let khz = u128::from(tsc_khz.max(1));
    let mut shift = SHIFT_MAX;
    loop {
        let mult = ((1_000_000_u128 << shift) + khz / 2) / khz;
        if let Ok(mult) = u64::try_from(mult) {
            return (mult, shift);
        }
        shift -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_counts_is_a_second() {
        for khz in [1, 1_000, 500_000, 1_000_000, 2_300_000, 2_999_999, 10_000_000] {
            let data = VdsoData::new(khz, 77, 5_000_000_000);
            let per_second = u64::from(khz) * 1000;
            assert_eq!(data.nanoseconds(77), 0);
            for seconds in [1, 60, 86_400, 86_400 * 365] {
                let ns = data.nanoseconds(77 + seconds * per_second);
                assert!(ns.abs_diff(seconds * 1_000_000_000) <= 1, "{khz} kHz, {seconds} s: {ns}");
            }
            let realtime = data.clock_ns(CLOCK_REALTIME, 77 + per_second);
            assert!(realtime.abs_diff(6_000_000_000) <= 1);
        }
    }

    #[test]
    fn a_counter_before_its_base_shows_the_base() {
        let data = VdsoData::new(2_300_000, 1 << 40, 123);
        assert_eq!(data.nanoseconds(0), 0);
        assert_eq!(data.clock_ns(CLOCK_TAI, (1 << 40) - 1), 123);
    }

    #[test]
    fn a_timer_never_fires_early() {
        for khz in [1_000, 2_300_000, 3_700_123] {
            let data = VdsoData::new(khz, 1000, 0);
            for ns in [0, 1, 999, 1_000_000, 12_345_678_901, 1 << 50] {
                let tsc = data.tsc_at(ns);
                assert!(data.nanoseconds(tsc) >= ns);
                assert!(ns == 0 || data.nanoseconds(tsc - 1) < ns);
            }
            assert_eq!(data.tsc_at(u64::MAX), data.tsc_at(u64::MAX).max(1000));
        }
    }

    #[test]
    fn mult_uses_the_whole_word() {
        let (mult, shift) = mult_shift(2_300_000);
        assert_eq!(shift, 63);
        assert!(mult >> 61 != 0);
        let (mult, shift) = mult_shift(1);
        assert!(mult >> 63 == 1 && shift == 44);
    }
}
