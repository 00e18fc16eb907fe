//! `bootconf.txt`: the settings of a bootloader. The syntax is that of config.txt: `KEY=VALUE` lines, comments after `#` at
//! the start of a line, and filters in brackets, below which lines hold for some boards only.

use super::board::Board;
use super::boot_order::number;
use super::image::CONTENT_LIMIT;

/// Why a file is no `bootconf.txt` that a bootloader reads to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It is longer than an image can hold.
    #[error("it has {0} bytes; an EEPROM image has room for {CONTENT_LIMIT}")]
    TooLong(usize),
    /// A byte at which the bootloader stops reading, silently.
    #[error(
        "line {line} has the byte {byte:#04x}, which is no plain ASCII: a bootloader drops that and all that follows, and says nothing"
    )]
    NotAscii {
        /// The line, from 1.
        line: usize,
        /// What is there.
        byte: u8,
    },
}

/// Settings that a bootloader reads to their end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// All settings, in their order. The later one holds.
    pub entries: Vec<Entry>,
    /// Lines that are no setting, no filter and no comment.
    pub others: Vec<Other>,
    /// The line of `[config.txt]`: what follows it goes into the OS's config.txt and is none of the bootloader's.
    pub appended: Option<usize>,
}

/// A setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The line, from 1.
    pub line: usize,
    /// The filters that it stands below.
    pub filters: Filters,
    /// Its name, as it is written.
    pub key: String,
    /// Its value, as it is written.
    pub value: String,
}

/// A line that has no meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// The line, from 1.
    pub line: usize,
    /// What it says.
    pub text: String,
}

/// The filters that a line stands below, one of each kind. `[all]` takes all of them away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// `[cm4]`, `[none]`, or what nobody knows.
    model: Option<String>,
    /// `[board-type=0x14]`.
    board_type: Option<u32>,
    /// `[0x1234abcd]`, `[gpio4=0]`, `[tryboot]`, `[partition=2]`: what only the Pi itself can tell.
    others: Vec<String>,
}

/// The models that filters may name, besides `none`.
const MODELS: [&str; 19] = [
    "pi0", "pi0w", "pi02", "pi1", "pi2", "pi3", "pi3+", "pi4", "pi400", "pi5", "pi500", "cm0", "cm1", "cm3",
    "cm3+", "cm4", "cm4s", "cm5", "none",
];

impl Filters {
    /// Adds a filter. False, if nobody knows it.
    fn add(&mut self, filter: &str) -> bool {
        let (kind, value) = filter.split_once('=').unwrap_or((filter, ""));
        let is_serial = filter.starts_with("0x") && number(filter).is_some();
        let by_pi = is_serial
            || matches!(kind, "tryboot" | "partition" | "boot_partition")
            || kind.starts_with("gpio");
        match filter {
            "all" => *self = Filters::default(),
            model if MODELS.contains(&model) => self.model = Some(model.to_owned()),
            _ if kind == "board-type" && number(value).is_some() => self.board_type = number(value),
            _ if by_pi => {
                let kind = if is_serial { "0x" } else { kind };
                self.others.retain(|other| !other.starts_with(kind));
                self.others.push(filter.to_owned());
            }
            unknown => {
                // The lines below are for nobody, as far as anybody can tell.
                self.model = Some(unknown.to_owned());
                return false;
            }
        }
        true
    }

    /// Whether the line is for every board of this kind.
    pub fn has(&self, board: Board) -> bool {
        self.may_have(board) && self.others.is_empty()
    }

    /// Whether the line is for some boards of this kind.
    pub fn may_have(&self, board: Board) -> bool {
        self.model.as_deref().is_none_or(|model| board.has_model(model))
            && self.board_type.is_none_or(|number| number == board.board_type())
    }

    /// Whether there is none.
    pub fn is_all(&self) -> bool {
        *self == Filters::default()
    }
}

impl Config {
    /// Reads the bytes of a `bootconf.txt`.
    ///
    /// # Errors
    /// If there are too many, or one is not ASCII. Lines without a meaning are no error here: they are in `others`.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let text = check(bytes)?;
        let mut config = Config::default();
        let mut filters = Filters::default();
        for (text, line) in text.split('\n').zip(1..) {
            let trimmed = text.trim_ascii();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            let filter = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            match (filter, text.split_once('=')) {
                (Some("config.txt"), _) => {
                    config.appended = Some(line);
                    return Ok(config);
                }
                (Some(filter), _) => {
                    if !filters.add(filter) {
                        config.others.push(Other { line, text: trimmed.to_owned() });
                    }
                }
                (None, Some((key, value))) => config.entries.push(Entry {
                    line,
                    filters: filters.clone(),
                    key: key.to_owned(),
                    value: value.to_owned(),
                }),
                (None, None) => config.others.push(Other { line, text: trimmed.to_owned() }),
            }
        }
        Ok(config)
    }

    /// The setting that every board of this kind has; without a board, the one that all have.
    pub fn get(&self, board: Option<Board>, key: &str) -> Option<&Entry> {
        let holds = |entry: &&Entry| match board {
            Some(board) => entry.filters.has(board),
            None => entry.filters.is_all(),
        };
        self.entries.iter().rev().filter(|entry| entry.key == key).find(holds)
    }

    /// The value of [`Config::get`]; an empty one is none.
    pub fn value(&self, board: Option<Board>, key: &str) -> Option<&str> {
        self.get(board, key).map(|entry| entry.value.trim_ascii()).filter(|value| !value.is_empty())
    }
}

/// The bytes as text, if a bootloader reads all of it.
///
/// # Errors
/// If there are too many, or one is not ASCII.
pub fn check(bytes: &[u8]) -> Result<&str, ConfigError> {
    if bytes.len() > CONTENT_LIMIT {
        return Err(ConfigError::TooLong(bytes.len()));
    }
    let plain = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~');
    let mut lines = bytes.split(|byte| *byte == b'\n').zip(1..);
    let found = lines.find_map(|(text, line)| Some((line, *text.iter().find(|byte| !plain(byte))?)));
    match (found, std::str::from_utf8(bytes)) {
        (None, Ok(text)) => Ok(text),
        (found, _) => {
            let (line, byte) = found.unwrap_or_default();
            Err(ConfigError::NotAscii { line, byte })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Config {
        Config::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_last_line_that_is_for_a_board_holds() {
        let config = parse(include_str!("../../tests/data/eeprom/tftp.conf"));
        let order = |board| config.value(board, "BOOT_ORDER");
        assert_eq!(order(Some(Board::Pi4)), Some("0xf21"));
        assert_eq!(order(Some(Board::Cm4)), Some("0xf7612"));
        assert_eq!(order(None), Some("0xf21"));
        // Only the Pi with this serial number has it.
        assert_eq!(config.value(Some(Board::Cm4), "TFTP_IP"), None);
        assert!(config.entries.last().unwrap().filters.may_have(Board::Cm4));
        assert!(!config.entries.last().unwrap().filters.may_have(Board::Pi4), "filters of two kinds add up");
    }

    #[test]
    fn filters_of_one_kind_replace_each_other_and_all_ends_them() {
        let text =
            "[cm4]\n[pi5]\nA=1\n[board-type=0x17]\nB=1\n[none]\nC=1\n[all]\nD=1\n[gpio4=0]\n[gpio5=1]\nE=1\n";
        let config = parse(text);
        assert_eq!(config.others, []);
        let of = |key: &str| {
            let entry = config.entries.iter().find(|entry| entry.key == key).unwrap();
            Board::ALL.map(|board| entry.filters.has(board))
        };
        assert_eq!(of("A"), [false, false, true, true]);
        assert_eq!(of("B"), [false, false, true, false]);
        assert_eq!(of("C"), [false; 4]);
        assert_eq!(of("D"), [true; 4]);
        assert_eq!(of("E"), [false; 4]);
    }

    #[test]
    fn what_has_no_meaning_is_kept_with_its_line() {
        let config = parse("# x\n\nBOOT_ORDER\n[pi6]\nA=1\n[config.txt]\ndtparam=spi=on\n\u{20}\n");
        let lines: Vec<_> = config.others.iter().map(|other| (other.line, other.text.as_str())).collect();
        assert_eq!(lines, [(3, "BOOT_ORDER"), (4, "[pi6]")]);
        assert_eq!((config.entries.len(), config.appended), (1, Some(6)));
        assert!(!Board::ALL.iter().any(|board| config.entries[0].filters.may_have(*board)));
    }

    #[test]
    fn bytes_at_which_a_bootloader_stops_are_named() {
        let error = |bytes: &[u8]| Config::parse(bytes).unwrap_err();
        assert_eq!(error("A=1\n# für\n".as_bytes()), ConfigError::NotAscii { line: 2, byte: 0xc3 });
        assert_eq!(error(b"A=1\n\0"), ConfigError::NotAscii { line: 2, byte: 0 });
        assert_eq!(error(b"\xef\xbb\xbfA=1"), ConfigError::NotAscii { line: 1, byte: 0xef });
        assert_eq!(error(&[b'#'; CONTENT_LIMIT + 1]), ConfigError::TooLong(CONTENT_LIMIT + 1));
        assert!(Config::parse(&[b'#'; CONTENT_LIMIT]).is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Config::parse(&bytes);
        }

        #[test]
        fn no_text_panics(text in "(\\[[a-z0-9=x-]{0,12}\\]\n|[A-Z_]{1,12}=[ -~]{0,12}\r?\n|[ -~]{0,8}\n){0,12}") {
            let config = parse(&text);
            for board in Board::ALL {
                let _ = config.value(Some(board), "BOOT_ORDER");
            }
        }
    }
}
