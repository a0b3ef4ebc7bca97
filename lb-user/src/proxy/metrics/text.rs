//! The OpenMetrics text format (OpenMetrics 1.0, section "Text format"), as far as counters, gauges and histograms of seconds need it.

use std::fmt::Write as _;

use super::atoms::{BOUNDS, Histogram};

/// A family's kind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Labels of a sample: names, and values of any text.
pub(crate) type Labels<'a> = &'a [(&'a str, &'a str)];

/// A text that grows family by family.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    text: String,
    family: &'static str,
}

impl Exposition {
    /// What goes on after the families of `text`, which is without its end.
    pub(crate) fn following(text: &str) -> Self {
        Self { text: text.to_owned(), family: "" }
    }

    /// Begins a family. `name`: without `_total`, and with the unit at its end where there is one.
    pub(crate) fn family(&mut self, kind: Kind, name: &'static str, unit: &str, help: &str) {
        self.family = name;
        let kind = kind.name();
        self.line(format_args!("# TYPE {name} {kind}"));
        if !unit.is_empty() {
            self.line(format_args!("# UNIT {name} {unit}"));
        }
        self.line(format_args!("# HELP {name} {help}"));
    }

    /// A counter's sample.
    pub(crate) fn counter(&mut self, labels: Labels<'_>, value: u64) {
        self.sample("_total", labels, None, format_args!("{value}"));
    }

    /// A gauge's sample.
    pub(crate) fn gauge(&mut self, labels: Labels<'_>, value: u64) {
        self.sample("", labels, None, format_args!("{value}"));
    }

    /// A histogram's samples.
    pub(super) fn histogram(&mut self, labels: Labels<'_>, histogram: &Histogram) {
        let counts = histogram.cumulative();
        let bounds = BOUNDS.iter().map(|&(_, text)| text).chain(["+Inf"]);
        for (bound, count) in bounds.zip(counts) {
            self.sample("_bucket", labels, Some(("le", bound)), format_args!("{count}"));
        }
        let (sum, count) = (histogram.sum(), counts[BOUNDS.len()]);
        self.sample("_count", labels, None, format_args!("{count}"));
        let (seconds, nanos) = (sum / NANOS, sum % NANOS);
        self.sample("_sum", labels, None, format_args!("{seconds}.{nanos:09}"));
    }

    /// The whole text.
    pub(crate) fn finish(mut self) -> String {
        self.text.push_str(END);
        self.text
    }

    fn sample(
        &mut self,
        suffix: &str,
        labels: Labels<'_>,
        last: Option<(&str, &str)>,
        value: std::fmt::Arguments<'_>,
    ) {
        self.text.push_str(self.family);
        self.text.push_str(suffix);
        let mut before = '{';
        for (name, value) in labels.iter().copied().chain(last) {
            self.text.push(before);
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(value, &mut self.text);
            self.text.push('"');
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
        self.line(format_args!(" {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // A string takes all that is written to it.
        self.text.write_fmt(line).ok();
        self.text.push('\n');
    }
}

fn escape(value: &str, text: &mut String) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            plain => text.push(plain),
        }
    }
}

/// The end of such a text.
pub(crate) const END: &str = "# EOF\n";

const NANOS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn families_are_written_as_openmetrics_wants_them() {
        let mut exposition = Exposition::default();
        exposition.family(Kind::Counter, "sent_bytes", "bytes", "Bytes.");
        exposition.counter(&[("site", "a\"b\\c\nd"), ("route", "")], 7);
        exposition.family(Kind::Gauge, "connections", "", "Connections.");
        exposition.gauge(&[], 3);
        assert_eq!(
            exposition.finish(),
            "# TYPE sent_bytes counter\n# UNIT sent_bytes bytes\n# HELP sent_bytes Bytes.\n\
             sent_bytes_total{site=\"a\\\"b\\\\c\\nd\",route=\"\"} 7\n\
             # TYPE connections gauge\n# HELP connections Connections.\nconnections 3\n# EOF\n"
        );
    }

    #[test]
    fn a_histogram_ends_with_all_its_count_and_sum() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_millis(1500));
        histogram.observe(Duration::from_secs(7200));
        let mut exposition = Exposition::default();
        exposition.family(Kind::Histogram, "took_seconds", "seconds", "Times.");
        exposition.histogram(&[("site", "a")], &histogram);
        let text = exposition.finish();
        let lines: Vec<_> = text.lines().skip(3).collect();
        assert_eq!(lines.len(), BOUNDS.len() + 4);
        assert_eq!(lines[9], "took_seconds_bucket{site=\"a\",le=\"1.0\"} 0");
        assert_eq!(lines[10], "took_seconds_bucket{site=\"a\",le=\"2.5\"} 1");
        assert_eq!(lines[18], "took_seconds_bucket{site=\"a\",le=\"+Inf\"} 2");
        assert_eq!(lines[19], "took_seconds_count{site=\"a\"} 2");
        assert_eq!(lines[20], "took_seconds_sum{site=\"a\"} 7201.500000000");
    }
}
