//! One screen: where the boot stands, what the machine is busy with, who is there, the log's last lines. It fits any
//! window; 80×24 shows all of it.

use std::collections::BTreeMap;

use init::event::State;
use init::size::human;
use init::status::BootStatus;

use super::rates::Rates;
use super::sample::{Counts, Sample};
use crate::log::record::{Level, Record};
use crate::people::Person;
use crate::status::text::{remaining, state_word, wrap};

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const FAINT: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";
/// The column of the values.
const INDENT: usize = 9;
/// No more disks, interfaces or people are shown; a last line says how many more there are.
const LIST: usize = 3;
/// A sentence has at most so many rows.
const SENTENCE: usize = 2;
/// At least so many rows are the log's, in a window of 24.
const LOG_ROWS: usize = 4;

/// The size of a window in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Characters in a row.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
}

/// The rows of a screen: no more than the window has, none wider.
pub fn draw(sample: &Sample, rates: &Rates, log: &[Record], size: Size, colour: bool) -> Vec<String> {
    let mut rows = vec![title(sample)];
    rows.extend(boot(sample.boot.as_ref(), size.columns));
    rows.push(Row::field("Load", &load(sample)));
    rows.extend(list("Disks", &traffic(&sample.disks, &rates.disks, "read", "written")));
    rows.extend(list("Network", &traffic(&sample.interfaces, &rates.interfaces, "in", "out")));
    rows.extend(list("People", &sample.people.iter().map(person).collect::<Vec<_>>()));
    let footer = 1;
    rows.truncate(size.rows.saturating_sub(LOG_ROWS.min(size.rows / 4) + footer));
    let room = size.rows.saturating_sub(rows.len() + footer + 1);
    if room > 0 {
        rows.push(Row { label: "Log".into(), ..Row::default() });
        rows.extend(log.iter().skip(log.len().saturating_sub(room)).map(log_row));
    }
    while rows.len() + footer < size.rows {
        rows.push(Row::default());
    }
    rows.push(Row { text: "q: quit".into(), paint: FAINT, ..Row::default() });
    rows.truncate(size.rows);
    rows.iter().map(|row| row.render(size.columns, colour)).collect()
}

/// One person for a list.
pub(super) fn person(person: &Person) -> String {
    format!("{}{}", person.describe(), if person.own { " (you)" } else { "" })
}

fn title(sample: &Sample) -> Row {
    let (hours, minutes, seconds) = (sample.uptime / 3600, sample.uptime / 60 % 60, sample.uptime % 60);
    Row { text: format!("Pi Lifeboat, up {hours}:{minutes:02}:{seconds:02}"), paint: BOLD, ..Row::default() }
}

fn boot(boot: Option<&BootStatus>, columns: usize) -> Vec<Row> {
    let Some(boot) = boot else {
        return vec![Row::field("Step", "not known: the boot has not said anything yet")];
    };
    let paint = match boot.state {
        State::Done => GREEN,
        State::Failed => RED,
        State::Waiting => YELLOW,
        State::Started | State::Progress => "",
    };
    let step = format!("{}/{} {}: {}", boot.number, boot.total, boot.step, state_word(boot.state));
    let mut rows = sentence("Goal", &boot.goal, "", columns);
    rows.push(Row { label: "Step".into(), text: step, paint });
    if let Some(progress) = boot.progress {
        let figures = format!(
            " {} of {}, {}/s{}",
            human(progress.bytes),
            human(progress.total),
            human(progress.rate),
            remaining(boot)
        );
        let width = columns.saturating_sub(INDENT + figures.chars().count() + 2).min(40);
        rows.push(Row::field("", &format!("{}{figures}", bar(progress.bytes, progress.total, width))));
    }
    if let Some(error) = &boot.last_error {
        rows.extend(sentence("Error", &format!("{}: {}", error.step, error.error), RED, columns));
    }
    rows.extend(sentence("Next", &boot.next, "", columns));
    rows
}

/// A sentence in a few rows; what they have no room for ends the last one, cut.
fn sentence(label: &str, text: &str, paint: &'static str, columns: usize) -> Vec<Row> {
    let mut lines = wrap(text, columns.saturating_sub(INDENT));
    let rest = lines.split_off(lines.len().min(SENTENCE));
    if let (Some(last), false) = (lines.last_mut(), rest.is_empty()) {
        *last = format!("{last} {}", rest.join(" "));
    }
    let row = |(index, text): (usize, String)| {
        let label = if index == 0 { label } else { " " };
        Row { label: label.into(), text, paint }
    };
    lines.into_iter().enumerate().map(row).collect()
}

/// A bar of `width` characters between brackets; nothing where there is no room for a useful one.
fn bar(bytes: u64, total: u64, width: usize) -> String {
    if width < 8 {
        return String::new();
    }
    let share = bytes.min(total).saturating_mul(width as u64).checked_div(total).unwrap_or(0);
    let full = usize::try_from(share).unwrap_or(0).min(width);
    format!("[{}{}]", "#".repeat(full), "-".repeat(width - full))
}

fn load(sample: &Sample) -> String {
    let memory = sample.memory;
    let used = memory.total.saturating_sub(memory.available);
    let heat = sample.temperature.map(|heat| format!(", {} °C", heat / 1000)).unwrap_or_default();
    format!(
        "{}, memory {} used of {}, {} free{heat}",
        sample.load,
        human(used),
        human(memory.total),
        human(memory.available)
    )
}

/// All that there are; after the first look nothing is known of their rates.
fn traffic(
    all: &BTreeMap<String, Counts>,
    rates: &BTreeMap<String, Counts>,
    input: &str,
    output: &str,
) -> Vec<String> {
    let line = |name: &String| {
        let per_second = |figure: fn(&Counts) -> u64| {
            rates.get(name).map_or("-".into(), |rate| format!("{}/s", human(figure(rate))))
        };
        let (one, other) = (per_second(|rate| rate.input), per_second(|rate| rate.output));
        format!("{name:<10} {one:>12} {input}  {other:>12} {output}")
    };
    all.keys().map(line).collect()
}

fn list(label: &str, items: &[String]) -> Vec<Row> {
    let shown = if items.len() > LIST { LIST - 1 } else { items.len() };
    let mut rows: Vec<Row> = items.iter().take(shown).map(|item| Row::field("", item)).collect();
    if items.len() > shown {
        rows.push(Row::field("", &format!("and {} more", items.len() - shown)));
    }
    if rows.is_empty() {
        rows.push(Row::field("", "none"));
    }
    if let Some(first) = rows.first_mut() {
        first.label = label.into();
    }
    rows
}

fn log_row(record: &Record) -> Row {
    let paint = match record.level {
        Level::Emerg | Level::Alert | Level::Crit | Level::Err => RED,
        Level::Warn => YELLOW,
        _ => "",
    };
    let (seconds, tenths) = (record.time_us / 1_000_000, record.time_us % 1_000_000 / 100_000);
    Row {
        label: String::new(),
        text: format!("{:>7} {}", format!("{seconds}.{tenths}"), record.message),
        paint,
    }
}

#[derive(Debug, Default)]
struct Row {
    label: String,
    text: String,
    paint: &'static str,
}

impl Row {
    fn field(label: &str, text: &str) -> Self {
        // The label's place is kept also where it is empty.
        Row { label: if label.is_empty() { " ".into() } else { label.into() }, text: text.into(), paint: "" }
    }

    /// At most `columns` characters; what does not fit is cut, with a mark.
    fn render(&self, columns: usize, colour: bool) -> String {
        let blanks =
            if self.label.is_empty() { 0 } else { INDENT.saturating_sub(self.label.chars().count()) };
        let label = format!("{}{}", self.label, " ".repeat(blanks));
        let room = columns.saturating_sub(label.chars().count());
        let clean = self.text.chars().map(|character| if character.is_control() { ' ' } else { character });
        let mut text: String = clean.clone().take(room).collect();
        if clean.count() > room && room > 0 {
            text.pop();
            text.push('>');
        }
        let label: String = label.chars().take(columns).collect();
        match (colour, self.paint) {
            (true, paint) if !paint.is_empty() && !text.is_empty() => format!("{label}{paint}{text}{PLAIN}"),
            _ => format!("{label}{text}").trim_end().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use init::event::Progress;
    use init::status::StepError;
    use proptest::prelude::*;

    use super::super::sample::Memory;
    use super::*;

    fn sample(error: &str) -> Sample {
        let person = Person {
            session: "40".into(),
            who: "root from 192.0.2.7 on /dev/pts/0".into(),
            programs: vec!["rescue watch".into()],
            own: true,
        };
        Sample {
            at: Instant::now(),
            uptime: 3723,
            load: "0.50 0.20 0.10".into(),
            memory: Memory { total: 4 << 30, available: 3 << 30 },
            temperature: Some(48_300),
            boot: Some(BootStatus {
                goal: "RAM boot of http://boot.example.net/debian.squashfs, checked by its signed manifest"
                    .into(),
                step: "fetch".into(),
                number: 8,
                total: 11,
                state: State::Progress,
                uptime_ms: 1,
                progress: Some(Progress { bytes: 100 << 20, total: 400 << 20, rate: 10 << 20 }),
                last_error: Some(StepError { step: "fetch".into(), error: error.into(), uptime_ms: 1 }),
                next: "fetch is running".into(),
                reboots: None,
            }),
            people: vec![person; 3],
            disks: rates().disks,
            interfaces: rates().interfaces,
        }
    }

    fn rates() -> Rates {
        let counts = Counts { input: 35 << 20, output: 0 };
        let disks = ["mmcblk0", "nvme0n1", "sda"].map(|name| (name.to_string(), counts));
        Rates { disks: disks.into(), interfaces: [("eth0".to_string(), counts)].into() }
    }

    fn log() -> Vec<Record> {
        let text = |number: u64| format!("6,{number},{number}00000,-;message {number}");
        (0..30).filter_map(|number| Record::parse(&text(number))).collect()
    }

    const USUAL: Size = Size { columns: 80, rows: 24 };

    #[test]
    fn the_usual_window_shows_all_of_it() {
        let rows = draw(&sample("refused"), &rates(), &log(), USUAL, false);
        assert_eq!(rows.len(), USUAL.rows);
        let screen = rows.join("\n");
        for part in [
            "up 1:02:03",
            "Step     8/11 fetch: running",
            "[#",
            "100.0 MiB of 400.0 MiB, 10.0 MiB/s, 30 s left",
            "Error    fetch: refused",
            "3.0 GiB free, 48 °C",
            "Disks    mmcblk0",
            "35.0 MiB/s read",
            "rescue watch (you)",
            "checked by its\n         signed manifest\n",
            "2.9 message 29",
        ] {
            assert!(screen.contains(part), "{part}:\n{screen}");
        }
        assert!(!screen.contains('\x1b'));
        assert_eq!(rows.last().unwrap(), "q: quit");
        assert!(
            draw(&sample("x"), &rates(), &log(), USUAL, true).join("").contains("\x1b[31mfetch: x\x1b[0m")
        );
    }

    #[test]
    fn a_machine_that_says_nothing_has_a_screen() {
        let mut quiet = sample("");
        (quiet.boot, quiet.people, quiet.temperature) = (None, Vec::new(), None);
        quiet.disks.clear();
        let rows = draw(&quiet, &Rates::default(), &[], USUAL, false);
        assert!(
            rows.iter().any(|row| row.contains("not known")) && rows.iter().any(|row| row == "People   none")
        );
    }

    proptest! {
        #[test]
        fn every_window_is_kept_to(columns in 0_usize..200, rows in 0_usize..60, error in "(?s).{0,200}") {
            let drawn = draw(&sample(&error), &rates(), &log(), Size { columns, rows }, false);
            prop_assert_eq!(drawn.len(), rows);
            for row in drawn {
                prop_assert!(row.chars().count() <= columns && !row.contains(char::is_control), "{row:?}");
            }
        }
    }
}
