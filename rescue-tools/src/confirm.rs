//! The question before something is changed: asked on the terminal, answered beforehand by `--yes`, and never taken as
//! answered where there is nobody to ask.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};

use anyhow::{Context, Result};

use crate::refusal::refused;

/// The terminal of this session, whatever standard input and output are: an image may come in by one of them.
const TERMINAL: &str = "/dev/tty";
/// No answer is longer.
const ANSWER_LIMIT: u64 = 256;

/// Asks `question` unless `yes` answers it. Only "y" and "yes" let it go on; no, no terminal, or the end of input is
/// [`Refused`](crate::refusal::Refused).
pub fn confirm(question: &str, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    let Ok(terminal) = OpenOptions::new().read(true).write(true).open(TERMINAL) else {
        return Err(refused(
            "there is no terminal to ask on, so nothing was changed; say --yes, or log in with ssh -t",
        ));
    };
    ask(question, BufReader::new(&terminal), &terminal)
}

/// The same with the terminal's two directions given.
fn ask(question: &str, answers: impl BufRead, mut terminal: impl Write) -> Result<()> {
    write!(terminal, "{question} [y/N] ")
        .and_then(|()| terminal.flush())
        .context("asking on the terminal")?;
    let mut answer = String::new();
    answers.take(ANSWER_LIMIT).read_line(&mut answer).context("reading the answer from the terminal")?;
    if !answer.ends_with('\n') {
        // The end of input: the next line of output would stand behind the question.
        let _ = writeln!(terminal);
    }
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(refused("answered with no: nothing was changed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Refused;

    fn asked(answer: &str) -> (Result<()>, String) {
        let mut terminal = Vec::new();
        let result = ask("Repair /dev/sda1?", answer.as_bytes(), &mut terminal);
        (result, String::from_utf8(terminal).unwrap())
    }

    #[test]
    fn only_a_yes_is_a_yes() {
        for answer in ["y\n", "Y\n", " yes \n", "YES\r\n", "yes"] {
            assert!(asked(answer).0.is_ok(), "{answer:?}");
        }
        for answer in ["", "\n", "n\n", "no\n", "yess\n", "yes please\n", "0\n"] {
            let (result, _) = asked(answer);
            assert!(result.unwrap_err().is::<Refused>(), "{answer:?}");
        }
        assert_eq!(asked("n\n").1, "Repair /dev/sda1? [y/N] ");
        // Nothing endless is read.
        assert!(ask("?", std::io::BufReader::new(std::io::repeat(b'y')), Vec::new()).is_err());
    }

    #[test]
    fn yes_beforehand_asks_nobody() {
        assert!(confirm("Repair?", true).is_ok());
    }
}
