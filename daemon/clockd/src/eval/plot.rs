//! Draws a replay: offset, error, bound and coverage over time.

use crate::eval::bitmap;
use chronotick_evaluation::replay::{Mode, OLD_SYSTEM, Point};
use chronotick_evaluation::scores::Z_95;
use chronotick_evaluation::{Evaluation, Prediction};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;
use std::ops::Range;
use std::path::PathBuf;

/// Width and height in pixels.
const SIZE: (u32, u32) = (1200, 1400);
/// A line has at most two points in each of so many parts of the time.
const COLUMNS: usize = 1000;
/// Coverage is the mean over this part of the moments.
const COVERAGE_PART: usize = 20;
/// With this size the width that plotters expects of a letter is that of the bitmap's font.
const LEGEND_FONT: f64 = 17.5;
/// A logarithmic axis begins here, in milliseconds.
const LEAST_MS: f64 = 1e-3;

/// A file to draw to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    path: PathBuf,
    is_png: bool,
}

impl Target {
    /// The extension says the format.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let path = PathBuf::from(text);
        let extension = path.extension().map(|e| e.to_ascii_lowercase());
        match extension.as_ref().and_then(|e| e.to_str()) {
            Some("svg") => Ok(Self { path, is_png: false }),
            Some("png") => Ok(Self { path, is_png: true }),
            _ => Err(String::from("must end in .svg or .png")),
        }
    }
}

/// Draws to a file.
pub(crate) fn write(target: &Target, evaluation: &Evaluation) -> Result<(), String> {
    let bytes = if target.is_png {
        let mut rgb = bitmap::buffer(SIZE);
        draw(bitmap::Bitmap::new(SIZE, &mut rgb), evaluation)?;
        bitmap::png(SIZE, &rgb)?
    } else {
        let mut text = String::new();
        draw(SVGBackend::with_string(&mut text, SIZE), evaluation)?;
        text.into_bytes()
    };
    std::fs::write(&target.path, bytes)
        .map_err(|e| format!("cannot write the plot to {}: {e}", target.path.display()))
}

/// Points over time: hours and values.
type Series = Vec<(f64, f64)>;

struct Line {
    name: &'static str,
    color: RGBColor,
    width: u32,
    series: Series,
}

struct Panel {
    title: &'static str,
    lines: Vec<Line>,
}

fn color(name: &str) -> RGBColor {
    match name {
        "chronotick" => RGBColor(0, 90, 200),
        "chrony_like" => RGBColor(0, 150, 90),
        "minimum_delay_8" => RGBColor(230, 150, 0),
        "linear_regression" => RGBColor(150, 100, 200),
        "hold_last" => RGBColor(110, 180, 220),
        OLD_SYSTEM => RGBColor(210, 40, 40),
        _ => RGBColor(150, 150, 150),
    }
}

/// The lowest and the highest point of each column, so that no peak is lost.
fn thin(series: &Series) -> Series {
    let (Some(first), Some(last)) = (series.first(), series.last()) else { return Vec::new() };
    let width = (last.0 - first.0) / COLUMNS as f64;
    let mut thinned = Vec::new();
    for column in series.chunk_by(|a, b| ((a.0 - first.0) / width) as i64 == ((b.0 - first.0) / width) as i64)
    {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let mut ends: Series = column
            .iter()
            .min_by(by_value)
            .into_iter()
            .chain(column.iter().max_by(by_value))
            .copied()
            .collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        ends.dedup();
        thinned.append(&mut ends);
    }
    thinned
}

/// What `value` gives for each moment at which the predictor said something.
fn series(points: &[Point], predictor: usize, value: impl Fn(&Point, &Prediction) -> Option<f64>) -> Series {
    let at = |point: &Point| {
        let prediction = point.predictions.get(predictor)?.as_ref()?;
        Some((point.time_s / 3600.0, value(point, prediction)?))
    };
    points.iter().filter_map(at).collect()
}

fn ms(span: chronotick_core::Span) -> f64 {
    span.as_secs_f64() * 1e3
}

/// The mean over the last moments.
fn moving_mean(series: &Series) -> Series {
    let length = (series.len() / COVERAGE_PART).max(1);
    let mut sum = 0.0;
    let mut means = Vec::new();
    for (i, &(x, y)) in series.iter().enumerate() {
        sum += y;
        if i >= length {
            sum -= series[i - length].1;
        }
        if i + 1 >= length {
            means.push((x, sum / length as f64));
        }
    }
    means
}

fn panels(evaluation: &Evaluation) -> [Panel; 4] {
    let points = &evaluation.points;
    let names = || evaluation.predictors.iter().map(|(name, _)| *name).enumerate();
    let line = |name: &'static str, width: u32, series: Series| Line {
        name,
        color: color(name),
        width,
        series: thin(&series),
    };
    let width = |name: &str| if name == "chronotick" { 2 } else { 1 };
    // What matters most is drawn last.
    let mut errors: Vec<Line> = names()
        .map(|(i, name)| line(name, width(name), series(points, i, |at, p| Some(ms(p.theta - at.truth)))))
        .collect();
    errors.reverse();
    let truth = points.iter().map(|at| (at.time_s / 3600.0, ms(at.truth))).collect();
    let truth_name = if evaluation.mode == Mode::Dense { "truth (local fit)" } else { "measured" };
    let mut offsets = vec![Line { color: BLACK, ..line(truth_name, 1, truth) }];
    for (i, name) in names().filter(|(_, name)| [OLD_SYSTEM, "chronotick"].contains(name)) {
        offsets.insert(1, line(name, width(name), series(points, i, |_, p| Some(ms(p.theta)))));
    }
    let floor = |value_ms: f64| Some(value_ms.max(LEAST_MS));
    let error = series(points, 0, |at, p| floor(ms((p.theta - at.truth).abs())));
    let sigma = series(points, 0, |_, p| floor(Z_95 * p.sigma_s? * 1e3));
    let bound = series(points, 0, |_, p| floor(ms(p.max_error?)));
    let bounds = vec![
        Line { color: RGBColor(170, 170, 170), ..line("absolute error", 1, error) },
        Line { color: RGBColor(0, 90, 200), ..line("1.96 sigma", 2, sigma) },
        Line { color: RGBColor(210, 40, 40), ..line("hard bound", 2, bound) },
    ];
    let within = |at: &Point, p: &Prediction| {
        Some(f64::from(u8::from((p.theta - at.truth).abs().as_secs_f64() <= Z_95 * p.sigma_s?)) * 100.0)
    };
    let mut coverage: Vec<Line> = names()
        .map(|(i, name)| line(name, width(name), moving_mean(&series(points, i, within))))
        .filter(|line| !line.series.is_empty())
        .collect();
    coverage.reverse();
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        let ends = vec![(first.time_s / 3600.0, 95.0), (last.time_s / 3600.0, 95.0)];
        coverage.insert(0, Line { color: BLACK, ..line("95 %", 1, ends) });
    }
    [
        Panel { title: "Offset, ms: true time minus system clock", lines: offsets },
        Panel { title: "Error, ms: predicted minus true offset", lines: errors },
        Panel { title: "Error and bound of chronotick, ms", lines: bounds },
        Panel {
            title: "Coverage, %: errors within 1.96 sigma, moving mean over a twentieth",
            lines: coverage,
        },
    ]
}

/// The range that most values of every line are in: a few outliers must not flatten the rest.
fn robust_range(lines: &[Line]) -> Range<f64> {
    let mut values: Vec<f64> = lines.iter().flat_map(|line| line.series.iter().map(|(_, y)| *y)).collect();
    values.sort_by(f64::total_cmp);
    let at = |part: f64| values.get((values.len().saturating_sub(1) as f64 * part) as usize).copied();
    let (low, high) = (at(0.01).unwrap_or(0.0), at(0.99).unwrap_or(0.0));
    let margin = ((high - low) * 0.1).max(1e-6);
    low - margin..high + margin
}

fn draw<B: DrawingBackend>(backend: B, evaluation: &Evaluation) -> Result<(), String> {
    let root = backend.into_drawing_area();
    paint(&root, evaluation).map_err(|e| format!("cannot draw the plot: {e}"))
}

fn paint<B: DrawingBackend>(
    root: &DrawingArea<B, Shift>,
    evaluation: &Evaluation,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    root.fill(&WHITE)?;
    let last_s = evaluation.points.last().map_or(1.0, |at| at.time_s);
    let first_s = evaluation.points.first().map_or(0.0, |at| at.time_s).min(last_s - 1.0);
    let hours = first_s / 3600.0..last_s / 3600.0;
    let scored_h =
        evaluation.points.iter().find(|at| at.is_scored).map_or(hours.start, |at| at.time_s / 3600.0);
    let [offset, error, bound, coverage] = panels(evaluation);
    let highest = bound.lines.iter().flat_map(|line| &line.series).map(|(_, y)| *y).fold(LEAST_MS, f64::max);
    let areas = root.split_evenly((4, 1));
    if let [a, b, c, d] = areas.as_slice() {
        panel(a, &offset, &hours, robust_range(&offset.lines), scored_h)?;
        panel(b, &error, &hours, robust_range(&error.lines), scored_h)?;
        panel(c, &bound, &hours, (LEAST_MS..highest * 2.0).log_scale(), scored_h)?;
        panel(d, &coverage, &hours, 0.0..105.0, scored_h)?;
    }
    root.present()
}

fn panel<B, Y>(
    area: &DrawingArea<B, Shift>,
    panel: &Panel,
    hours: &Range<f64>,
    values: Y,
    scored_h: f64,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>>
where
    B: DrawingBackend,
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(panel.title, ("sans-serif", 20))
        .margin(8)
        .x_label_area_size(30)
        .y_label_area_size(70)
        .build_cartesian_2d(hours.clone(), values)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .x_desc("hours")
        .label_style(("sans-serif", 14))
        .y_labels(8)
        .draw()?;
    let range = chart.y_range();
    let warm_up =
        Rectangle::new([(hours.start, range.start), (scored_h, range.end)], BLACK.mix(0.06).filled());
    chart.draw_series([warm_up])?;
    for line in &panel.lines {
        let style = ShapeStyle { color: line.color.to_rgba(), filled: false, stroke_width: line.width };
        let inside = line.series.iter().map(|&(x, y)| (x, y.clamp(range.start, range.end)));
        chart
            .draw_series(LineSeries::new(inside, style))?
            .label(line.name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(RGBColor(200, 200, 200))
        .label_font(("sans-serif", LEGEND_FONT))
        .draw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronotick_evaluation::{Options, Trace, evaluate};

    fn evaluation(rows: i32) -> Evaluation {
        let mut csv = String::from("time_s,offset_s,delay_s,old_prediction_s\n");
        for i in 0..rows {
            csv += &format!("{},{},0.01,0.002\n", i * 64, f64::from(i % 7) * 1e-4);
        }
        evaluate(&Trace::parse(&csv).unwrap(), &Options::default())
    }

    #[test]
    fn the_extension_says_the_format() {
        let check = |text: &str, want: Option<bool>| {
            assert_eq!(Target::parse(text).ok().map(|target| target.is_png), want, "{text}");
        };
        check("a.svg", Some(false));
        check("dir.d/a.PNG", Some(true));
        check("a.pdf", None);
        check("png", None);
    }

    #[test]
    fn both_formats_are_written() {
        let directory = tempfile::tempdir().unwrap();
        let evaluation = evaluation(100);
        let draw = |name: &str| {
            let path = directory.path().join(name);
            write(&Target::parse(path.to_str().unwrap()).unwrap(), &evaluation).unwrap();
            std::fs::read(path).unwrap()
        };
        let svg = String::from_utf8(draw("a.svg")).unwrap();
        assert!(svg.contains("<svg") && svg.contains("hard bound") && svg.contains("old_system"), "{svg}");
        let png = draw("a.png");
        let reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        assert_eq!((reader.info().width, reader.info().height), SIZE);
    }

    #[test]
    fn the_shortest_traces_can_be_drawn() {
        for rows in 1..4 {
            let mut text = String::new();
            draw(SVGBackend::with_string(&mut text, SIZE), &evaluation(rows)).unwrap();
        }
    }

    #[test]
    fn peaks_stay() {
        let mut long: Series = (0..100_000).map(|i| (f64::from(i), 0.0)).collect();
        long[50_123].1 = 7.0;
        let thinned = thin(&long);
        assert!(
            thinned.len() <= 2 * (COLUMNS + 1) && thinned.contains(&(50_123.0, 7.0)),
            "{}",
            thinned.len()
        );
        assert_eq!(thin(&vec![(1.0, 2.0), (1.0, 3.0)]), [(1.0, 2.0), (1.0, 3.0)]);
    }
}
