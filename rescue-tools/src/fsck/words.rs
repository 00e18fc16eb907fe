//! From what a checker says to what a person needs to know.

/// A part of a checker's line, and what it means; `None`: it means nothing.
pub type Word = (&'static str, Option<&'static str>);

/// The meanings of `text`'s lines, each once, in the order of their first appearance, with how often they came. The
/// first word of `words` that a line has counts.
pub fn findings(text: &str, words: &[Word]) -> Vec<String> {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    let meanings = text.lines().filter_map(|line| words.iter().find(|(part, _)| line.contains(part))?.1);
    for meaning in meanings {
        match counted.iter_mut().find(|(known, _)| *known == meaning) {
            Some((_, count)) => *count += 1,
            None => counted.push((meaning, 1)),
        }
    }
    let sentence = |(meaning, count): (&str, usize)| match count {
        1 => meaning.to_string(),
        count => format!("{meaning} ({count} times)"),
    };
    counted.into_iter().map(sentence).collect()
}

/// The last lines of what a checker said that has no known meaning, for people to judge.
pub fn last_lines(text: &str, count: usize) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let lines = lines.iter().skip(lines.len().saturating_sub(count));
    lines.map(|line| line.replace(char::is_control, "?").chars().take(200).collect()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WORDS: &[Word] =
        &[("note", None), ("bad block", Some("a block is bad")), ("bad", Some("it is bad"))];

    #[test]
    fn each_meaning_comes_once() {
        let text = "note: bad\nbad\nbad block 1\nbad block 2\nnothing\n";
        assert_eq!(findings(text, WORDS), ["it is bad", "a block is bad (2 times)"]);
        assert_eq!(last_lines("a\n\nb\x1b\nc\n", 2), ["b?", "c"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(?s).{0,200}", count in 0..5_usize) {
            findings(&text, WORDS);
            prop_assert!(last_lines(&text, count).len() <= count);
        }
    }
}
