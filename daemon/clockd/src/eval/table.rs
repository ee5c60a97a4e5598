//! The figures as a table for people.

use chronotick_evaluation::replay::Mode;
use chronotick_evaluation::{Evaluation, Options, Summary, Trace};

fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| String::from("-"), |ms| format!("{ms:.3}"))
}

fn line(name: &str, s: &Summary) -> String {
    let coverage = s.coverage_95.map_or_else(|| String::from("-"), |part| format!("{:.1} %", part * 100.0));
    let violations = s.bound_violations.map_or_else(|| String::from("-"), |n| n.to_string());
    format!(
        "{name:<18} {:>10} {:>10} {coverage:>12} {violations:>17} {:>8}\n",
        figure(s.mae_ms),
        figure(s.p99_ms),
        s.silent
    )
}

/// A few lines on the replay, and one for each predictor.
pub(crate) fn render(trace: &Trace, options: &Options, evaluation: &Evaluation) -> String {
    let truth = match evaluation.mode {
        Mode::Dense => "a local fit of the measurements with the lowest delay, at each row",
        Mode::Sparse => "each measurement, predicted before it is given",
    };
    let mut text = format!(
        "{} rows over {:.0} s, {} measurements, {} given (one in {} s), root dispersion {} ms assumed\n\
         truth: {truth}; {} moments scored, after the first tenth\n",
        trace.rows.len(),
        trace.duration_s(),
        trace.samples().count(),
        evaluation.given,
        options.every_s,
        options.root_dispersion.as_secs_f64() * 1e3,
        evaluation.scored(),
    );
    if trace.impossible_delays > 0 {
        text += &format!("{} measurements with a delay below zero were left out\n", trace.impossible_delays);
    }
    text += &format!(
        "\n{:<18} {:>10} {:>10} {:>12} {:>17} {:>8}\n",
        "predictor", "MAE ms", "p99 ms", "coverage 95", "bound violations", "silent"
    );
    for (name, summary) in &evaluation.predictors {
        text += &line(name, summary);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronotick_evaluation::evaluate;

    #[test]
    fn the_columns_stand_below_their_names() {
        let mut csv = String::from("time_s,offset_s,delay_s\n");
        for i in 0..20 {
            csv += &format!("{},0.001,0.01\n", i * 64);
        }
        csv += "1300,0.001,-0.01\n";
        let trace = Trace::parse(&csv).unwrap();
        let options = Options::default();
        let text = render(&trace, &options, &evaluate(&trace, &options));
        assert!(text.starts_with("21 rows over 1300 s, 20 measurements, 20 given (one in 64 s)"), "{text}");
        assert!(text.contains("\n1 measurements with a delay below zero"), "{text}");
        let table: Vec<&str> = text.lines().skip_while(|l| !l.starts_with("predictor")).collect();
        assert_eq!(table.len(), 7);
        assert!(table.iter().all(|line| line.len() == table[0].len()), "{text}");
    }
}
