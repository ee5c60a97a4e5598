//! A time zone as a table: from which second of UTC which offset holds.
//!
//! The table is taken once from the database that is compiled into the program and covers the whole range of
//! `Timestamp`; the rule that a zone follows after its last listed change is written out to the end of it. No file of
//! the system is read, so every node computes the same times.

use super::error::RecurrenceError;
use super::spec::ZONE_MAX_BYTES;
use chronotick_core::time::NS_PER_SEC;
use jiff::tz::TimeZoneDatabase;

/// The first whole second that a `Timestamp` can hold.
pub(super) const FIRST_S: i64 = -(i64::MAX / NS_PER_SEC);
/// The last whole second that a `Timestamp` can hold.
pub(super) const LAST_S: i64 = i64::MAX / NS_PER_SEC;
/// No two offsets are this far apart: each is less than 26 hours.
pub(super) const OFFSETS_APART_MAX_S: i64 = 52 * 3600;

/// A stretch of time in which the offset stays the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    /// Its first second, of UTC.
    pub(super) start_s: i64,
    /// The second after its last, of UTC.
    pub(super) end_s: i64,
    /// Civil time less UTC.
    pub(super) offset_s: i64,
}

impl Segment {
    /// True if the civil time `civil_s` occurs in this stretch.
    pub(super) fn shows(&self, civil_s: i64) -> bool {
        (self.start_s..self.end_s).contains(&(civil_s - self.offset_s))
    }

    /// The civil time at which this stretch ends.
    pub(super) fn civil_end_s(&self) -> i64 {
        self.end_s + self.offset_s
    }
}

/// The offsets of a zone, in order and without a hole. Neighbours differ in their offset.
#[derive(Debug)]
pub(super) struct Zone {
    segments: Vec<Segment>,
}

impl Zone {
    /// The zone of this name, as the bundled database has it.
    pub(super) fn named(name: &str) -> Result<Self, RecurrenceError> {
        let unknown = || RecurrenceError::UnknownZone(name.chars().take(ZONE_MAX_BYTES).collect());
        // `Etc/Unknown` is in the database, and stands for not knowing the zone.
        if name.len() > ZONE_MAX_BYTES || name.eq_ignore_ascii_case("Etc/Unknown") {
            return Err(unknown());
        }
        let zone = TimeZoneDatabase::bundled().get(name).map_err(|_| unknown())?;
        // A margin on either side, so that a gap or fold at the edge of the range is seen whole.
        let (begin_s, limit_s) = (FIRST_S - 2 * OFFSETS_APART_MAX_S, LAST_S + 2 * OFFSETS_APART_MAX_S);
        let begin = jiff::Timestamp::from_second(begin_s).map_err(|_| unknown())?;
        let mut segments = vec![Segment {
            start_s: begin_s,
            end_s: limit_s,
            offset_s: i64::from(zone.to_offset(begin).seconds()),
        }];
        for change in zone.following(begin) {
            let start_s = change.timestamp().as_second();
            if start_s >= limit_s {
                break;
            }
            let offset_s = i64::from(change.offset().seconds());
            // A change of the name or of the daylight saving flag only is no change here.
            if let Some(last) = segments.last_mut()
                && last.offset_s != offset_s
            {
                last.end_s = start_s;
                segments.push(Segment { start_s, end_s: limit_s, offset_s });
            }
        }
        Ok(Self { segments })
    }

    /// A zone that no database has: the offset from the beginning, then each change with the offset after it.
    #[cfg(test)]
    pub(super) fn made_up(offset_s: i64, changes: &[(i64, i64)]) -> Self {
        let starts = std::iter::once((FIRST_S - 1, offset_s)).chain(changes.iter().copied());
        let ends = changes.iter().map(|change| change.0).chain([LAST_S + 1]);
        let segments =
            starts.zip(ends).map(|((start_s, offset_s), end_s)| Segment { start_s, end_s, offset_s });
        Self { segments: segments.collect() }
    }

    /// The index of the stretch that holds the second `s`, which must not lie before the range of `Timestamp`.
    pub(super) fn index_at(&self, s: i64) -> usize {
        self.segments.partition_point(|segment| segment.start_s <= s).saturating_sub(1)
    }

    /// The stretches, in order.
    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The stretches before `index` that could show the same civil times as one that begins at or after `s`.
    pub(super) fn before(&self, index: usize, s: i64) -> impl Iterator<Item = &Segment> {
        self.segments[..index].iter().rev().take_while(move |segment| segment.end_s > s - OFFSETS_APART_MAX_S)
    }

    /// The stretches from `index` on that could show the same civil times as one that ends at or before `s`.
    pub(super) fn from(&self, index: usize, s: i64) -> impl Iterator<Item = &Segment> {
        self.segments[index..].iter().take_while(move |segment| segment.start_s < s + OFFSETS_APART_MAX_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_no_hole_and_reaches_the_end_of_the_range() {
        fn check(name: &str, segments_min: usize, at_s: i64, offset_s: i64) {
            let zone = Zone::named(name).unwrap();
            let segments = zone.segments();
            assert!(segments.len() >= segments_min, "{name} has {}", segments.len());
            assert!(segments[0].start_s < FIRST_S && segments[segments.len() - 1].end_s > LAST_S);
            for pair in segments.windows(2) {
                assert!(pair[0].end_s == pair[1].start_s && pair[0].offset_s != pair[1].offset_s, "{name}");
                assert!(pair[0].start_s < pair[0].end_s, "{name}");
            }
            assert_eq!(segments[zone.index_at(at_s)].offset_s, offset_s, "{name} at {at_s}");
        }
        check("UTC", 1, 0, 0);
        check("utc", 1, LAST_S, 0);
        check("Asia/Kathmandu", 3, LAST_S, 5 * 3600 + 45 * 60);
        // Local mean time, then the rule's summers up to the year 2261.
        check("Europe/Paris", 500, FIRST_S, 561);
        check("Europe/Paris", 500, 9_200_000_000, 7200);
        check("Australia/Lord_Howe", 450, 1_767_225_600, 11 * 3600);
        check("Africa/Casablanca", 50, 1_741_000_000, 0);
        check("Africa/Casablanca", 50, 1_750_000_000, 3600);
        check("Pacific/Apia", 5, 1_325_239_199, -10 * 3600);
        check("Pacific/Apia", 5, 1_325_239_200, 14 * 3600);
    }

    #[test]
    fn a_name_that_is_no_zone_is_refused_without_looking_for_a_file() {
        for name in [
            "",
            "Mars/Olympus",
            "Etc/Unknown",
            "../../etc/passwd",
            "/usr/share/zoneinfo/UTC",
            &"x".repeat(65),
        ] {
            assert!(matches!(Zone::named(name), Err(RecurrenceError::UnknownZone(_))), "{name}");
        }
    }
}
