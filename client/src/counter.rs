//! The hardware counter: the TSC of x86-64, the virtual counter of aarch64.
//!
//! It counts the same on every core where the kernel uses it as its clock source; only then does the daemon anchor a
//! page on it. **Ordering.** [`read`] has no fence: the processor may read the counter as much earlier as its window of
//! instructions under way reaches, which is some tens of nanoseconds, or more where a load ahead of it misses every
//! cache. A fence, as the kernel's own clock call has one, costs more than the rest of a reading; who must have it
//! calls [`wait_for_earlier`] first. On the counter page, the daemon's bound has an allowance of 200 ns for this.
#![allow(unsafe_code)]

/// The counter's name as a clock source of the Linux kernel; `None` on a processor without one that is known here.
pub const CLOCK_SOURCE: Option<&str> = if cfg!(target_arch = "x86_64") {
    Some("tsc")
} else if cfg!(target_arch = "aarch64") {
    Some("arch_sys_counter")
} else {
    None
};

/// Ticks of the counter; `None` where it cannot be read.
#[inline(always)]
pub fn read() -> Option<i64> {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        // SAFETY: RDTSC is part of every x86-64 processor. A process that forbade it to itself (PR_SET_TSC) gets the
        // signal it asked for.
        Some(unsafe { core::arch::x86_64::_rdtsc() } as i64)
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    {
        let ticks: i64;
        // SAFETY: Linux lets every program read CNTVCT_EL0; the instruction touches neither memory nor flags.
        unsafe {
            core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack, preserves_flags));
        }
        Some(ticks)
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    {
        None
    }
}

/// Lets the counter be read only after everything ahead of this call is done.
#[inline(always)]
pub fn wait_for_earlier() {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        // SAFETY: LFENCE is part of SSE2, which every x86-64 processor has.
        unsafe { core::arch::x86_64::_mm_lfence() };
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    {
        // SAFETY: an instruction barrier has no operands. It must stay where it is, so it is not marked `nomem`.
        unsafe { core::arch::asm!("isb", options(nostack, preserves_flags)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_counts_upwards() {
        let Some(first) = read() else {
            println!("skipped: no counter is known on this processor");
            return;
        };
        let started = crate::os_clock::monotonic_raw();
        while crate::os_clock::monotonic_raw() == started {}
        wait_for_earlier();
        assert!(read().unwrap() > first);
    }
}
