//! The page's numbers as C constants, for programs that look at `struct chronotick_page` themselves.

use chronotick_core::page::{Flags, PAGE_SIZE, layout::MAGIC};

/// The clock page is exactly this long.
pub const CHRONOTICK_PAGE_SIZE: usize = 128;
/// The third byte of the magic in a page of this version.
pub const CHRONOTICK_PAGE_VERSION: u8 = 2;
/// The record may be used.
pub const CHRONOTICK_FLAG_VALID: u32 = 0x01;
/// At least one NTP measurement was accepted.
pub const CHRONOTICK_FLAG_NTP_READY: u32 = 0x02;
/// The drift models have been fitted.
pub const CHRONOTICK_FLAG_MODELS_READY: u32 = 0x04;
/// Enough was measured for the correction to be trusted.
pub const CHRONOTICK_FLAG_WARMUP_COMPLETE: u32 = 0x08;
/// No fresh measurement: coasting on the model.
pub const CHRONOTICK_FLAG_HOLDOVER: u32 = 0x10;
/// The clock jumped, or the machine was moved or resumed: nothing may be trusted until it clears.
pub const CHRONOTICK_FLAG_DISRUPTED: u32 = 0x20;
/// The system clock was stepped since prediction_time.
pub const CHRONOTICK_FLAG_STEPPED: u32 = 0x40;
/// A leap second will be inserted at the end of the month.
pub const CHRONOTICK_FLAG_LEAP_INSERT: u32 = 0x80;
/// A leap second will be deleted at the end of the month.
pub const CHRONOTICK_FLAG_LEAP_DELETE: u32 = 0x100;
/// The servers smear leap seconds.
pub const CHRONOTICK_FLAG_SMEARED: u32 = 0x200;
/// Every source in use is authenticated.
pub const CHRONOTICK_FLAG_AUTHENTICATED: u32 = 0x400;

// The header's generator reads literals, so they are written again above and held equal here.
const _: () = {
    assert!(CHRONOTICK_PAGE_SIZE == PAGE_SIZE);
    assert!(CHRONOTICK_PAGE_VERSION == MAGIC[2]);
    assert!(CHRONOTICK_FLAG_VALID == Flags::VALID);
    assert!(CHRONOTICK_FLAG_NTP_READY == Flags::NTP_READY);
    assert!(CHRONOTICK_FLAG_MODELS_READY == Flags::MODELS_READY);
    assert!(CHRONOTICK_FLAG_WARMUP_COMPLETE == Flags::WARMUP_COMPLETE);
    assert!(CHRONOTICK_FLAG_HOLDOVER == Flags::HOLDOVER);
    assert!(CHRONOTICK_FLAG_DISRUPTED == Flags::DISRUPTED);
    assert!(CHRONOTICK_FLAG_STEPPED == Flags::STEPPED);
    assert!(CHRONOTICK_FLAG_LEAP_INSERT == Flags::LEAP_INSERT);
    assert!(CHRONOTICK_FLAG_LEAP_DELETE == Flags::LEAP_DELETE);
    assert!(CHRONOTICK_FLAG_SMEARED == Flags::SMEARED);
    assert!(CHRONOTICK_FLAG_AUTHENTICATED == Flags::AUTHENTICATED);
};
