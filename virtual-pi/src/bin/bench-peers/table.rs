//! The figures for people.

use std::fmt::Write;

use crate::figures::{Figure, Sample};

/// A table: medians, with least and most in brackets.
pub(crate) fn text(figures: &[Figure]) -> String {
    let name_width = figures.iter().map(|figure| figure.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    let mut line = |name: &str, unit: &str, ours: &str, peer: &str, ratio: &str, aim: &str| {
        let row = format!("{name:name_width$}  {unit:4}  {ours:>21}  {peer:>21}  {ratio:>5}  {aim}");
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
    let digits = usize::from(*median < 100.0);
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
        assert_eq!(sample(None), "-");
    }
}
