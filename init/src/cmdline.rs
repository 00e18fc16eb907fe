//! The kernel command line, split as the kernel splits it (`lib/cmdline.c`, `next_arg`): words are separated by white
//! space, double quotes protect white space and are taken away, and what follows `--` belongs to the real init.

/// One word: `name` or `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// What stands before the first `=`.
    pub name: String,
    /// What stands behind it, or `None` where there is no `=`.
    pub value: Option<String>,
}

impl Word {
    fn from_text(text: &str) -> Self {
        match text.split_once('=') {
            Some((name, value)) => Word { name: name.into(), value: Some(value.into()) },
            None => Word { name: text.into(), value: None },
        }
    }
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

/// A command line in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// The kernel's and our words, in their order.
    pub words: Vec<Word>,
    /// The words behind `--`, handed to the real init as they are.
    pub init_arguments: Vec<String>,
}

impl CommandLine {
    /// That of the running kernel; empty while `/proc` is not mounted.
    pub fn running() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/cmdline").unwrap_or_default())
    }

    /// Splits a command line. Every text is one: nothing fails.
    pub fn parse(text: &str) -> Self {
        let mut line = CommandLine::default();
        let mut after_dashes = false;
        for word in split(text) {
            if after_dashes {
                line.init_arguments.push(word);
            } else if word == "--" {
                after_dashes = true;
            } else {
                line.words.push(Word::from_text(&word));
            }
        }
        line
    }

    /// The value of the last word of this name, as the kernel takes the last: `Some("")` for one without a value.
    pub fn last(&self, name: &str) -> Option<&str> {
        self.words.iter().rfind(|word| word.name == name).map(|word| word.value.as_deref().unwrap_or(""))
    }

    /// The values of all words of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.words
            .iter()
            .filter(move |word| word.name == name)
            .map(|word| word.value.as_deref().unwrap_or(""))
    }

    /// Whether a word of this name is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.words.iter().any(|word| word.name == name)
    }
}

fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quoted, mut open) = (false, false);
    for c in text.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                open = true;
            }
            c if (c.is_ascii_whitespace() || c == '\0') && !quoted => {
                if open {
                    words.push(std::mem::take(&mut word));
                }
                open = false;
            }
            c => {
                word.push(c);
                open = true;
            }
        }
    }
    if open {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn splits_like_the_kernel() {
        let line = CommandLine::parse("quiet root=live:http://a/b.squashfs  x=\"a b\" \"y=c d\" -- -s 5\n");
        let words: Vec<String> = line.words.iter().map(Word::to_string).collect();
        assert_eq!(words, ["quiet", "root=live:http://a/b.squashfs", "x=a b", "y=c d"]);
        assert_eq!(line.init_arguments, ["-s", "5"]);
    }

    #[test]
    fn the_last_word_counts() {
        let line = CommandLine::parse("ip=off ip=dhcp quiet");
        assert_eq!(line.last("ip"), Some("dhcp"));
        assert_eq!(line.last("quiet"), Some(""));
        assert_eq!(line.last("root"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_command_line(text in ".*") {
            CommandLine::parse(&text);
        }

        #[test]
        fn words_without_quotes_come_back(words in proptest::collection::vec("[a-z.]{1,8}(=[a-z0-9:/]{0,8})?", 0..8)) {
            let line = CommandLine::parse(&words.join(" "));
            let back: Vec<String> = line.words.iter().map(Word::to_string).collect();
            prop_assert_eq!(back, words);
        }
    }
}
