//! What `make bench` found: ours beside a peer's, their ratio and our aim, as a table for people and as JSON.

use std::fmt::Write;

use serde::Serialize;

/// Several measurements of the same thing; never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The middle one.
    pub median: f64,
    /// The smallest one.
    pub least: f64,
    /// The largest one.
    pub most: f64,
}

/// A comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What was measured, of what, against whom.
    pub name: String,
    /// `None` where no run gave it.
    #[serde(serialize_with = "median")]
    pub ours: Option<Sample>,
    /// The peer's.
    #[serde(serialize_with = "median")]
    pub peer: Option<Sample>,
    /// Ours by the peer's.
    pub ratio: Option<f64>,
    /// Of both.
    pub unit: &'static str,
    /// What we want it to be; nothing is asserted.
    #[serde(skip)]
    pub aim: &'static str,
}

fn median<S: serde::Serializer>(sample: &Option<Sample>, serializer: S) -> Result<S::Ok, S::Error> {
    sample.as_ref().map(|sample| sample.median).serialize(serializer)
}

impl Sample {
    /// Of these measurements, if there are any.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied();
        let middle = values.len() / 2;
        let upper = at(middle)?;
        let lower = if values.len().is_multiple_of(2) { at(middle.checked_sub(1)?)? } else { upper };
        let (least, most) = (at(0)?, values.last().copied()?);
        Some(Self { median: f64::midpoint(lower, upper), least, most })
    }
}

impl Figure {
    /// Compares measurements of ours with those of a peer.
    pub fn new(name: String, unit: &'static str, aim: &'static str, ours: Vec<f64>, peer: Vec<f64>) -> Self {
        let (ours, peer) = (Sample::of(ours), Sample::of(peer));
        let ratio = ours.as_ref().zip(peer.as_ref()).map(|(ours, peer)| ours.median / peer.median);
        Self { name, ours, peer, ratio, unit, aim }
    }
}

/// A table: medians, with least and most in brackets.
pub fn table(figures: &[Figure]) -> String {
    let name_width = figures.iter().map(|figure| figure.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    let mut line = |name: &str, unit: &str, ours: &str, peer: &str, ratio: &str, aim: &str| {
        let row = format!("{name:name_width$}  {unit:6}  {ours:>21}  {peer:>21}  {ratio:>5}  {aim}");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", row.trim_end());
    };
    line("", "", "ours", "peer", "ratio", "aim");
    for figure in figures {
        let ratio = figure.ratio.map_or("-".into(), |ratio| format!("{ratio:.2}"));
        let (ours, peer) = (sample(figure.ours.as_ref()), sample(figure.peer.as_ref()));
        line(&figure.name, figure.unit, &ours, &peer, &ratio, figure.aim);
    }
    text
}

fn sample(sample: Option<&Sample>) -> String {
    let Some(Sample { median, least, most }) = sample else { return "-".into() };
    let digits = match median {
        ..1.0 => 3,
        ..100.0 => 1,
        _ => 0,
    };
    if least.total_cmp(most).is_eq() {
        return format!("{median:.digits$}");
    }
    format!("{median:.digits$} ({least:.digits$}-{most:.digits$})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples() {
        let of = |median, least, most| sample(Some(&Sample { median, least, most }));
        assert_eq!(of(2.04, 1.0, 3.0), "2.0 (1.0-3.0)");
        assert_eq!(of(516.2, 516.2, 516.2), "516");
        assert_eq!(of(0.0714, 0.07, 0.08), "0.071 (0.070-0.080)");
        assert_eq!(sample(None), "-");
    }

    #[test]
    fn medians() {
        let median = |values: &[f64]| Sample::of(values.to_vec()).map(|sample| sample.median);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0]), Some(5.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        let sample = Sample::of(vec![9.0, 1.0, 2.0]).unwrap();
        assert_eq!((sample.least, sample.most), (1.0, 9.0));
    }

    #[test]
    fn as_json() {
        let figure = Figure::new("a".into(), "s", "at most 1", vec![1.0, 2.0, 3.0], vec![4.0]);
        let json = serde_json::to_string(&figure).unwrap();
        assert_eq!(json, r#"{"name":"a","ours":2.0,"peer":4.0,"ratio":0.5,"unit":"s"}"#);
        let figure = Figure::new("a".into(), "s", "", vec![1.0], vec![]);
        let json = serde_json::to_string(&figure).unwrap();
        assert_eq!(json, r#"{"name":"a","ours":1.0,"peer":null,"ratio":null,"unit":"s"}"#);
    }
}
