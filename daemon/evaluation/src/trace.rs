//! Recorded measurements of one machine, read from CSV (`docs/eval.md` has the columns).

use crate::csv;
use std::borrow::Cow;
use std::fmt;

/// Which columns a trace has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// The documented format: `time_s`, `offset_s`, `delay_s`.
    Documented,
    /// A machine beside its chronyd, measured about every second: `high_precision_time`, `ntp_offset`, `ntp_delay`.
    Synced,
    /// A run of the old system that asked an NTP server now and then: `ntp_offset_ms`, `ntp_delay_ms`.
    OldSystem,
    /// The same with the uncertainty of a measurement for its delay: `ntp_ground_truth_offset_ms`.
    OldSystemUncertainty,
}

/// One measurement against a server.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// True time minus the system clock in seconds, as the server sees it.
    pub offset_s: f64,
    /// Round trip on the network in seconds.
    pub delay_s: f64,
}

/// One line of a trace.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Row {
    /// Seconds since the first row, on the local clock.
    pub time_s: f64,
    /// The measurement, where one was made.
    pub sample: Option<Sample>,
    /// Temperature of the machine.
    pub temperature_c: Option<f64>,
    /// Its load.
    pub load: Option<f64>,
    /// What the old system predicted as `offset_s` for this moment.
    pub old_prediction_s: Option<f64>,
    /// One standard deviation of that, as the old system claimed it.
    pub old_sigma_s: Option<f64>,
}

/// A trace in the order of time, with at least one measurement.
#[derive(Clone, PartialEq, Debug)]
pub struct Trace {
    /// How it was recognised.
    pub format: Format,
    /// Its lines.
    pub rows: Vec<Row>,
    /// Rows whose measurement was left out because its delay is below zero.
    pub impossible_delays: usize,
}

/// Why a text is no trace.
#[derive(Clone, PartialEq, Debug)]
pub enum TraceError {
    /// There is no header.
    Empty,
    /// The header is of no known format; these columns of the nearest one are missing.
    MissingColumns(Vec<&'static str>),
    /// The header names a column twice.
    RepeatedColumn(String),
    /// A line has fewer fields than the header, or more of them with something in it.
    FieldCount {
        /// The line, from 1.
        line: usize,
        /// Its fields.
        fields: usize,
        /// The columns of the header.
        columns: usize,
    },
    /// A quote is not closed.
    OpenQuote(usize),
    /// A field is no number, or one that is out of range.
    NotANumber {
        /// The line, from 1.
        line: usize,
        /// The column.
        column: &'static str,
        /// What is there instead.
        text: String,
    },
    /// A row has no time, or an offset without a delay.
    MissingValue {
        /// The line, from 1.
        line: usize,
        /// The column.
        column: &'static str,
    },
    /// A row is earlier than the one before.
    TimeGoesBack(usize),
    /// No row has a measurement.
    NoMeasurement,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => {
                write!(f, "the file is empty; line 1 must name the columns: time_s,offset_s,delay_s")
            }
            Self::MissingColumns(names) => {
                let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                write!(f, "line 1: there is no column {} (docs/eval.md has the formats)", names.join(", "))
            }
            Self::RepeatedColumn(name) => write!(f, "line 1: the column `{name}` is there twice"),
            Self::FieldCount { line, fields, columns } => {
                write!(f, "line {line}: {fields} fields where the header has {columns} columns")
            }
            Self::OpenQuote(line) => write!(f, "line {line}: a quote is not closed"),
            Self::NotANumber { line, column, text } => {
                write!(f, "line {line}: `{column}` must be a number in range, not `{text}`")
            }
            Self::MissingValue { line, column } => write!(f, "line {line}: `{column}` is empty"),
            Self::TimeGoesBack(line) => {
                write!(f, "line {line}: the time is before that of the previous row; sort the rows by time")
            }
            Self::NoMeasurement => write!(f, "no row has a measurement"),
        }
    }
}

impl std::error::Error for TraceError {}

/// Where a value may be: the first column of these that the header has, and what its unit is in ours.
type Names = &'static [(&'static str, f64)];

struct Columns {
    format: Format,
    time: Names,
    offset: Names,
    delay: Names,
    temperature: Names,
    load: Names,
    old_prediction: Names,
    old_sigma: Names,
}

const NONE: Names = &[];

/// Old runs differ in a few names; all that were seen are here. Where they have no delay they have an uncertainty, which
/// their NTP client took as half the delay.
const FORMATS: [Columns; 4] = [
    Columns {
        format: Format::Documented,
        time: &[("time_s", 1.0)],
        offset: &[("offset_s", 1.0)],
        delay: &[("delay_s", 1.0)],
        temperature: &[("temperature_c", 1.0)],
        load: &[("load", 1.0)],
        old_prediction: &[("old_prediction_s", 1.0)],
        old_sigma: &[("old_sigma_s", 1.0)],
    },
    Columns {
        format: Format::Synced,
        time: &[("high_precision_time", 1.0)],
        offset: &[("ntp_offset", 1.0)],
        delay: &[("ntp_delay", 1.0)],
        temperature: &[("cpu_temp", 1.0)],
        load: &[("cpu_load", 1.0)],
        old_prediction: NONE,
        old_sigma: NONE,
    },
    Columns {
        format: Format::OldSystem,
        time: &[("elapsed_seconds", 1.0)],
        offset: &[("ntp_offset_ms", 1e-3)],
        delay: &[("ntp_delay_ms", 1e-3)],
        temperature: &[("cpu_temp", 1.0)],
        load: &[("cpu_load", 1.0)],
        old_prediction: &[("chronotick_offset_ms", 1e-3), ("client_offset_ms", 1e-3)],
        old_sigma: &[("chronotick_uncertainty_ms", 1e-3)],
    },
    Columns {
        format: Format::OldSystemUncertainty,
        time: &[("elapsed_seconds", 1.0)],
        offset: &[("ntp_ground_truth_offset_ms", 1e-3)],
        delay: &[
            ("ntp_delay_ms", 1e-3),
            ("ntp_uncertainty_ms", 2e-3),
            ("ntp_ground_truth_uncertainty_ms", 2e-3),
        ],
        temperature: &[("cpu_temp", 1.0)],
        load: &[("cpu_load", 1.0)],
        old_prediction: &[("client_offset_ms", 1e-3), ("chronotick_offset_ms", 1e-3)],
        old_sigma: &[("chronotick_uncertainty_ms", 1e-3)],
    },
];

/// A column that was found: its place, its name, and the factor to our unit.
#[derive(Clone, Copy)]
struct Place {
    index: usize,
    name: &'static str,
    factor: f64,
}

struct Layout {
    format: Format,
    column_count: usize,
    time: Place,
    offset: Place,
    delay: Place,
    temperature: Option<Place>,
    load: Option<Place>,
    old_prediction: Option<Place>,
    old_sigma: Option<Place>,
    /// `False` here says that the row has no measurement, whatever else it holds.
    has_sample: Option<usize>,
}

fn find(header: &[Cow<'_, str>], names: Names) -> Option<Place> {
    names.iter().find_map(|&(name, factor)| place_of(header, name).map(|index| Place { index, name, factor }))
}

fn place_of(header: &[Cow<'_, str>], name: &str) -> Option<usize> {
    header.iter().position(|h| h.eq_ignore_ascii_case(name))
}

impl Layout {
    fn of(header: &[Cow<'_, str>]) -> Result<Self, TraceError> {
        let mut nearest: Option<Vec<&'static str>> = None;
        for columns in &FORMATS {
            let required = [columns.time, columns.offset, columns.delay];
            let places = required.map(|names| find(header, names));
            if let [Some(time), Some(offset), Some(delay)] = places {
                let used = Self {
                    format: columns.format,
                    column_count: header.len(),
                    time,
                    offset,
                    delay,
                    temperature: find(header, columns.temperature),
                    load: find(header, columns.load),
                    old_prediction: find(header, columns.old_prediction),
                    old_sigma: find(header, columns.old_sigma),
                    has_sample: match columns.format {
                        Format::OldSystem | Format::OldSystemUncertainty => place_of(header, "has_ntp"),
                        Format::Documented | Format::Synced => None,
                    },
                };
                return used.checked(header);
            }
            let missing: Vec<&'static str> = required
                .iter()
                .zip(&places)
                .filter(|(_, place)| place.is_none())
                .filter_map(|(names, _)| names.first().map(|(name, _)| *name))
                .collect();
            if nearest.as_ref().is_none_or(|n| missing.len() < n.len()) {
                nearest = Some(missing);
            }
        }
        Err(TraceError::MissingColumns(nearest.unwrap_or_default()))
    }

    /// A column that is used must be there once; any other may be there as often as it likes.
    fn checked(self, header: &[Cow<'_, str>]) -> Result<Self, TraceError> {
        let optional = [self.temperature, self.load, self.old_prediction, self.old_sigma];
        let used =
            [Some(self.time), Some(self.offset), Some(self.delay)].into_iter().chain(optional).flatten();
        for place in used {
            if header.iter().filter(|h| h.eq_ignore_ascii_case(place.name)).count() > 1 {
                return Err(TraceError::RepeatedColumn(place.name.to_owned()));
            }
        }
        Ok(self)
    }
}

/// Beyond this a number of seconds is no clock's: 30 years.
const LIMIT_S: f64 = 1e9;

fn value(fields: &[Cow<'_, str>], place: Place, line: usize) -> Result<Option<f64>, TraceError> {
    let text = fields.get(place.index).map_or("", |f| f.as_ref());
    let is_missing =
        ["", "nan", "na", "n/a", "none", "null"].iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_missing {
        return Ok(None);
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Some(number * place.factor)),
        _ => Err(TraceError::NotANumber { line, column: place.name, text: text.chars().take(40).collect() }),
    }
}

fn in_range(number: f64, place: Place, line: usize) -> Result<f64, TraceError> {
    if number.abs() <= LIMIT_S {
        return Ok(number);
    }
    Err(TraceError::NotANumber { line, column: place.name, text: number.to_string() })
}

impl Trace {
    /// Reads a trace; its format is recognised by the header.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines = text
            .lines()
            .enumerate()
            .map(|(i, line)| (i + 1, line))
            .filter(|(_, line)| !line.trim().is_empty());
        let (number, header) = lines.next().ok_or(TraceError::Empty)?;
        let header = csv::split(header).ok_or(TraceError::OpenQuote(number))?;
        let layout = Layout::of(&header)?;
        let mut trace = Self { format: layout.format, rows: Vec::new(), impossible_delays: 0 };
        let (mut origin_s, mut previous_s) = (None, f64::NEG_INFINITY);
        for (line, text) in lines {
            let fields = csv::split(text).ok_or(TraceError::OpenQuote(line))?;
            // A comma at the end of the line is harmless.
            let is_surplus_empty = fields.iter().skip(layout.column_count).all(|f| f.is_empty());
            if fields.len() < layout.column_count || !is_surplus_empty {
                return Err(TraceError::FieldCount {
                    line,
                    fields: fields.len(),
                    columns: layout.column_count,
                });
            }
            let time_s = value(&fields, layout.time, line)?
                .ok_or(TraceError::MissingValue { line, column: layout.time.name })?;
            if time_s < previous_s {
                return Err(TraceError::TimeGoesBack(line));
            }
            previous_s = time_s;
            let since_s = in_range(time_s - *origin_s.get_or_insert(time_s), layout.time, line)?;
            let row = trace.row(&layout, &fields, line, since_s)?;
            trace.rows.push(row);
        }
        if trace.rows.iter().all(|row| row.sample.is_none()) {
            return Err(TraceError::NoMeasurement);
        }
        Ok(trace)
    }

    fn row(
        &mut self,
        layout: &Layout,
        fields: &[Cow<'_, str>],
        line: usize,
        time_s: f64,
    ) -> Result<Row, TraceError> {
        let optional = |place: Option<Place>| match place {
            Some(place) => value(fields, place, line),
            None => Ok(None),
        };
        let has_none = layout
            .has_sample
            .and_then(|i| fields.get(i))
            .is_some_and(|f| ["false", "0", "no"].iter().any(|word| f.eq_ignore_ascii_case(word)));
        let mut sample = None;
        if let Some(offset_s) = value(fields, layout.offset, line)?.filter(|_| !has_none) {
            let delay_s = value(fields, layout.delay, line)?
                .ok_or(TraceError::MissingValue { line, column: layout.delay.name })?;
            let offset_s = in_range(offset_s, layout.offset, line)?;
            let delay_s = in_range(delay_s, layout.delay, line)?;
            // A server whose clock stepped during the exchange; no daemon would use it.
            self.impossible_delays += usize::from(delay_s < 0.0);
            sample = (delay_s >= 0.0).then_some(Sample { offset_s, delay_s });
        }
        let old_prediction_s = optional(layout.old_prediction)?;
        if let (Some(prediction_s), Some(place)) = (old_prediction_s, layout.old_prediction) {
            in_range(prediction_s, place, line)?;
        }
        Ok(Row {
            time_s,
            sample,
            temperature_c: optional(layout.temperature)?,
            load: optional(layout.load)?,
            old_prediction_s,
            old_sigma_s: optional(layout.old_sigma)?.filter(|sigma_s| *sigma_s > 0.0),
        })
    }

    /// From the first row to the last, in seconds.
    pub fn duration_s(&self) -> f64 {
        self.rows.last().map_or(0.0, |row| row.time_s)
    }

    /// Time and value of each measurement.
    pub fn samples(&self) -> impl Iterator<Item = (f64, Sample)> + '_ {
        self.rows.iter().filter_map(|row| row.sample.map(|sample| (row.time_s, sample)))
    }

    /// How far two measurements in a row are apart, in seconds; 0 with fewer than two.
    pub fn median_spacing_s(&self) -> f64 {
        let times: Vec<f64> = self.samples().map(|(time_s, _)| time_s).collect();
        let mut gaps: Vec<f64> = times.windows(2).map(|w| w[1] - w[0]).collect();
        gaps.sort_by(f64::total_cmp);
        gaps.get(gaps.len() / 2).copied().unwrap_or(0.0)
    }

    /// True when the trace says what the old system predicted.
    pub fn has_old_predictions(&self) -> bool {
        self.rows.iter().any(|row| row.old_prediction_s.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Row {
        let trace = Trace::parse(text).unwrap();
        trace.rows[0]
    }

    #[test]
    fn each_format_is_recognised() {
        let documented = "\u{feff}load, delay_s,time_s,note,offset_s,temperature_c,old_prediction_s,old_sigma_s\r\n\
                          0.5,0.02,100,\"a, b\",0.001,40.5,0.002,0.0001\r\n";
        assert_eq!(Trace::parse(documented).unwrap().format, Format::Documented);
        let want = Row {
            time_s: 0.0,
            sample: Some(Sample { offset_s: 0.001, delay_s: 0.02 }),
            temperature_c: Some(40.5),
            load: Some(0.5),
            old_prediction_s: Some(0.002),
            old_sigma_s: Some(0.0001),
        };
        assert_eq!(only(documented), want);

        let synced = "high_precision_time,when,cpu_temp,ntp_offset,ntp_delay,cpu_load\n\
                      45347.5,Thu Jan 01 00,54.5,0.0006,0.0027,0.1\n";
        assert_eq!(Trace::parse(synced).unwrap().format, Format::Synced);
        let (sample, temperature_c) = (only(synced).sample.unwrap(), only(synced).temperature_c);
        assert_eq!((sample.offset_s, sample.delay_s, temperature_c), (0.0006, 0.0027, Some(54.5)));

        let old = "datetime,elapsed_seconds,chronotick_offset_ms,chronotick_uncertainty_ms,ntp_offset_ms,ntp_delay_ms\n\
                   2025-10-15T15:30:33.2,10.0,-0.5,1.0,1.5,21.0\n2025-10-15T15:30:43.2,20.0,-0.5,1.0,,\n";
        let trace = Trace::parse(old).unwrap();
        assert_eq!((trace.format, trace.rows.len(), trace.samples().count()), (Format::OldSystem, 2, 1));
        assert_eq!((trace.rows[0].old_prediction_s, trace.rows[0].old_sigma_s), (Some(-0.0005), Some(0.001)));
        assert_eq!(trace.rows[1].old_prediction_s, Some(-0.0005));

        let uncertain = "elapsed_seconds,client_offset_ms,ntp_ground_truth_offset_ms,ntp_uncertainty_ms,has_ntp\n\
                         0,-4.0,,,False\n10,-4.0,1.5,12.0,True\n20,-4.0,1.5,12.0,False\n";
        let trace = Trace::parse(uncertain).unwrap();
        assert_eq!((trace.format, trace.samples().count()), (Format::OldSystemUncertainty, 1));
        assert_eq!(trace.rows[1].sample.unwrap().delay_s, 0.024);
    }

    #[test]
    fn rows_without_an_offset_count_as_rows() {
        let text = "time_s,Offset_s,delay_s,load\n0,,,0.1,\n1,nan,nan,0.2\n\n2,0.5,0.1,\n3,0.5,-0.1,0.4\n";
        let trace = Trace::parse(text).unwrap();
        assert_eq!(trace.rows.len(), 4);
        assert_eq!(trace.samples().collect::<Vec<_>>().len(), 1);
        assert_eq!(
            trace.rows.iter().map(|r| r.load).collect::<Vec<_>>(),
            [Some(0.1), Some(0.2), None, Some(0.4)]
        );
        assert_eq!((trace.impossible_delays, trace.duration_s()), (1, 3.0));
    }

    #[test]
    fn errors_name_the_line() {
        let check = |text: &str, want: &str| {
            let got = Trace::parse(text).unwrap_err().to_string();
            assert!(got.contains(want), "{text:?}: {got:?} does not contain {want:?}");
        };
        let header = "time_s,offset_s,delay_s\n";
        check("", "the file is empty");
        check("\n \n", "the file is empty");
        check(header, "no row has a measurement");
        check(&format!("{header}0,,\n"), "no row has a measurement");
        check("time_s,offset_s\n0,1\n", "line 1: there is no column `delay_s`");
        check("elapsed_seconds,ntp_offset_ms\n0,1\n", "line 1: there is no column `ntp_delay_ms`");
        check("1,2,3\n4,5,6\n", "line 1: there is no column `time_s`, `offset_s`, `delay_s`");
        check("time_s,offset_s,delay_s,offset_s\n0,1,1,1\n", "`offset_s` is there twice");
        check(
            &format!("{header}0,0,0\n1,fast,0\n"),
            "line 3: `offset_s` must be a number in range, not `fast`",
        );
        check(&format!("{header}0,0,0\n\n1,0,inf\n"), "line 4: `delay_s`");
        check(&format!("{header}0,1e300,0\n"), "line 2: `offset_s`");
        check(&format!("{header}0,0,0\n1e200,0,0\n"), "line 3: `time_s`");
        check(&format!("{header}now,0,0\n"), "line 2: `time_s`");
        check(&format!("{header},0,0\n"), "line 2: `time_s` is empty");
        check(&format!("{header}0,1,\n"), "line 2: `delay_s` is empty");
        check(&format!("{header}5,0,0\n4,0,0\n"), "line 3: the time is before");
        check(&format!("{header}5,0\n"), "line 2: 2 fields where the header has 3 columns");
        check(&format!("{header}5,0,0,1\n"), "line 2: 4 fields where the header has 3 columns");
        check(&format!("{header}5,\"0,0\n"), "line 2: a quote is not closed");
    }

    #[test]
    fn spacing_is_the_median() {
        let text = "time_s,offset_s,delay_s\n0,0,0\n1,0,0\n3,0,0\n5,0,0\n50,0,0\n50,0,0\n";
        assert_eq!(Trace::parse(text).unwrap().median_spacing_s(), 2.0);
        assert_eq!(Trace::parse("time_s,offset_s,delay_s\n7,0,0\n").unwrap().median_spacing_s(), 0.0);
    }
}
