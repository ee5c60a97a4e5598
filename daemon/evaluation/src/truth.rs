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
    // The window holds places in the order of delays; samples enter and leave it in the order of time.
    let mut order: Vec<usize> = (0..samples.len()).collect();
    order.sort_by(|&a, &b| samples[a][0].total_cmp(&samples[b][0]));
    let mut place = vec![0; samples.len()];
    for (p, &i) in order.iter().enumerate() {
        place[i] = p;
    }
    let mut window: Vec<usize> = Vec::new();
    let (mut first, mut end) = (0, 0);
    let mut lowest = Vec::new();
    let mut fit_at = |time_s: f64| {
        while samples.get(first).is_some_and(|s| s[1] < time_s - HALF_WINDOW_S) {
            // A gap longer than the window: it left before it entered.
            if first == end {
                end += 1;
            } else if let Ok(at) = window.binary_search(&place[first]) {
                window.remove(at);
            }
            first += 1;
        }
        while samples.get(end).is_some_and(|s| s[1] <= time_s + HALF_WINDOW_S) {
            if let Err(at) = window.binary_search(&place[end]) {
                window.insert(at, place[end]);
            }
            end += 1;
        }
        if window.len() < LEAST_SAMPLES {
            return None;
        }
        let count = window.len().div_ceil(LOWEST_PART).max(LEAST_SAMPLES);
        lowest.clear();
        lowest.extend(window.iter().take(count).map(|&p| samples[order[p]]));
        Some(line(&lowest, time_s))
    };
    trace.rows.iter().map(|row| fit_at(row.time_s)).collect()
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
            // One in ten is good, rounded up, so the fit has at most one bad one of sixty.
            assert!((truth.offset_s - row.time_s * 1e-6).abs() < 3e-4, "{row:?} {truth:?}");
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

    /// The sliding window gives what sorting each window anew gives.
    #[test]
    fn the_window_slides() {
        let mut text = String::from("time_s,offset_s,delay_s\n");
        let mut time_s = 0;
        for i in 0..900_i64 {
            time_s += if i % 200 == 199 { 700 + i } else { 1 + i % 3 };
            let noise = i * 7919 % 101;
            text += &format!("{time_s},{},{}\n", noise as f64 * 1e-4, (noise * 31 % 97) as f64 * 1e-3);
        }
        let trace = Trace::parse(&text).unwrap();
        for (row, got) in trace.rows.iter().zip(local_fits(&trace)) {
            let mut near: Vec<[f64; 3]> = trace
                .samples()
                .filter(|(time_s, _)| (time_s - row.time_s).abs() <= HALF_WINDOW_S)
                .map(|(time_s, sample)| [sample.delay_s, time_s, sample.offset_s])
                .collect();
            near.sort_by(|a, b| a[0].total_cmp(&b[0]));
            near.truncate(near.len().div_ceil(10).max(3));
            assert_eq!(got, (near.len() >= 3).then(|| line(&near, row.time_s)), "{row:?}");
        }
    }

    #[test]
    fn too_few_samples_make_no_truth() {
        let trace =
            Trace::parse("time_s,offset_s,delay_s\n0,1,1\n1,1,1\n1000,1,1\n1000,1,1\n1000,1,1\n").unwrap();
        let got: Vec<bool> = local_fits(&trace).iter().map(Option::is_some).collect();
        assert_eq!(got, [false, false, true, true, true]);
    }
}
