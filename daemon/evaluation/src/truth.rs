//! The best estimate of a dense trace's true offset, made with all its measurements, also later ones.

use crate::trace::Trace;

/// Measurements within this many seconds on each side take part.
pub const HALF_WINDOW_S: f64 = 300.0;
/// The part of them with the lowest delay is fitted.
const LOWEST_PART: usize = 10;
/// A line with a deviation needs so many.
const LEAST_SAMPLES: usize = 3;

/// The offset at one moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Truth {
    /// True time minus the system clock in seconds.
    pub offset_s: f64,
    /// Standard error of `offset_s` by the residuals of the fit.
    pub error_s: f64,
}

/// The truth at the time of each row: a line through the tenth of the measurements with the lowest delay among those
/// within [`HALF_WINDOW_S`]. `None` where there are fewer than three.
pub fn local_fits(trace: &Trace) -> Vec<Option<Truth>> {
    let samples: Vec<[f64; 3]> =
        trace.samples().map(|(time_s, sample)| [sample.delay_s, time_s, sample.offset_s]).collect();
    let (mut first, mut end) = (0, 0);
    let mut window = Vec::new();
    trace
        .rows
        .iter()
        .map(|row| {
            let is_before = |i: usize| samples.get(i).is_some_and(|s| s[1] < row.time_s - HALF_WINDOW_S);
            while is_before(first) {
                first += 1;
            }
            let is_within = |i: usize| samples.get(i).is_some_and(|s| s[1] <= row.time_s + HALF_WINDOW_S);
            while is_within(end) {
                end += 1;
            }
            window.clear();
            window.extend_from_slice(&samples[first..end]);
            if window.len() < LEAST_SAMPLES {
                return None;
            }
            let count = window.len().div_ceil(LOWEST_PART).max(LEAST_SAMPLES);
            window
                .select_nth_unstable_by(count - 1, |a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
            Some(line(&window[..count], row.time_s))
        })
        .collect()
}

/// The least-squares line through samples of delay, time and offset, at a time.
fn line(samples: &[[f64; 3]], time_s: f64) -> Truth {
    let n = samples.len() as f64;
    let mean = |f: &dyn Fn(&[f64; 3]) -> f64| samples.iter().map(f).sum::<f64>() / n;
    let (x, y) = (mean(&|s| s[1] - time_s), mean(&|s| s[2]));
    let xx = mean(&|s| (s[1] - time_s - x).powi(2));
    let xy = mean(&|s| (s[1] - time_s - x) * (s[2] - y));
    let slope = if xx > 0.0 { xy / xx } else { 0.0 };
    let squares = mean(&|s| (s[2] - y - slope * (s[1] - time_s - x)).powi(2)) * n;
    let variance = squares / (n - 2.0).max(1.0);
    let lever = if xx > 0.0 { x * x / xx } else { 0.0 };
    Truth { offset_s: y - slope * x, error_s: (variance / n * (1.0 + lever)).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 measurement a second, 1 ppm of drift; nine in ten are late by 5 ms and wrong by 2.5 ms.
    #[test]
    fn late_samples_take_no_part() {
        let mut text = String::from("time_s,offset_s,delay_s\n");
        for i in 0..2000 {
            let late_s = if i % 10 == 0 { 0.0 } else { 0.005 };
            text += &format!("{i},{},{}\n", f64::from(i) * 1e-6 + late_s / 2.0, 0.01 + late_s);
        }
        let trace = Trace::parse(&text).unwrap();
        for (row, truth) in trace.rows.iter().zip(local_fits(&trace)) {
            let truth = truth.unwrap();
            // At the ends the window holds one sample too few of the good ones.
            if row.time_s > 310.0 && row.time_s < 1690.0 {
                assert!((truth.offset_s - row.time_s * 1e-6).abs() < 2e-4, "{row:?} {truth:?}");
            }
        }
    }

    #[test]
    fn the_standard_error_is_that_of_the_line() {
        let samples = [[0.0, 0.0, 1.0], [0.0, 1.0, -1.0], [0.0, 2.0, -1.0], [0.0, 3.0, 1.0]];
        let got = line(&samples, 1.5);
        assert!(
            got.offset_s.abs() < 1e-12 && (got.error_s - (4.0_f64 / 2.0 / 4.0).sqrt()).abs() < 1e-12,
            "{got:?}"
        );
        assert!(line(&samples, 3.0).error_s > got.error_s);
    }

    #[test]
    fn too_few_samples_make_no_truth() {
        let trace =
            Trace::parse("time_s,offset_s,delay_s\n0,1,1\n1,1,1\n1000,1,1\n1000,1,1\n1000,1,1\n").unwrap();
        let got: Vec<bool> = local_fits(&trace).iter().map(Option::is_some).collect();
        assert_eq!(got, [false, false, true, true, true]);
    }
}
