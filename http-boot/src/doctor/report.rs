//! What the doctor says, for people and for programs.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::{Level, Line};

/// A line or two for each, then the sum.
pub fn text(lines: &[Line]) -> String {
    let mut text = String::new();
    for Line { check, level, found, advice } in lines {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{:8} {check}: {}", name(*level), plain(found));
        if let Some(advice) = advice {
            let _ = writeln!(text, "{:8} → {}", "", plain(advice));
        }
    }
    let count = |level| lines.iter().filter(|line| line.level == level).count();
    let _ = writeln!(
        text,
        "\n{} ok, {} warnings, {} problems, {} not looked at",
        count(Level::Ok),
        count(Level::Warning),
        count(Level::Problem),
        count(Level::Unknown)
    );
    text
}

/// Without what moves a terminal's cursor or begins a line: some of it is what anybody may have sent.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Unknown => "unknown",
        Level::Warning => "warning",
        Level::Problem => "PROBLEM",
    }
}

/// `{"lines": […], "worst": "…"}`
///
/// # Errors
/// Where it cannot be written as JSON.
pub fn json(lines: &[Line]) -> Result<String> {
    let worst = lines.iter().map(|line| line.level).max().unwrap_or(Level::Ok);
    let all = serde_json::json!({ "lines": lines, "worst": worst });
    Ok(serde_json::to_string_pretty(&all).context("writing JSON")? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_people_and_for_programs() {
        let lines = [Line::ok("a", "it is"), Line::new("b", Level::Problem, "it is not", "mend it")];
        let text = text(&lines);
        assert!(text.starts_with("ok       a: it is\nPROBLEM  b: it is not\n         → mend it\n"), "{text}");
        assert!(text.ends_with("1 ok, 0 warnings, 1 problems, 0 not looked at\n"), "{text}");
        let forged =
            super::text(&[Line::new("a", Level::Warning, "x\nok       b: all is well\u{1b}[2J", "y")]);
        assert!(!forged.contains('\u{1b}') && forged.lines().count() == 4, "{forged}");
        let json: serde_json::Value = serde_json::from_str(&json(&lines).unwrap()).unwrap();
        assert_eq!((&json["worst"], &json["lines"][1]["advice"]), (&"problem".into(), &"mend it".into()));
    }
}
