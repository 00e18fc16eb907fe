//! The settings of a plan: those of the image, with ours in their place.

use crate::eeprom::board::Board;
use crate::eeprom::boot_order::BootOrder;
use crate::eeprom::config::{Config, ConfigError};

/// What is wanted of the bootloader.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where to look for an OS.
    pub order: BootOrder,
    /// The boot server.
    pub host: String,
    /// Its port, if it is not the bootloader's own choice.
    pub port: Option<u16>,
    /// The folder there.
    pub path: Option<String>,
    /// The SHA-256 of the certificate authority.
    pub certificate_hash: Option<String>,
}

impl Wanted {
    /// The lines, and `None` for a setting that must not be there.
    fn lines(&self) -> [(&'static str, Option<String>); 9] {
        [
            ("BOOT_ORDER", Some(self.order.to_string())),
            ("HTTP_HOST", Some(self.host.clone())),
            ("HTTP_PORT", self.port.map(|port| port.to_string())),
            ("HTTP_PATH", self.path.clone()),
            ("HTTP_CACERT_HASH", self.certificate_hash.clone()),
            ("NET_INSTALL_AT_POWER_ON", Some("0".to_owned())),
            ("NET_INSTALL_ENABLED", Some("0".to_owned())),
            ("ENABLE_SELF_UPDATE", Some("0".to_owned())),
            ("FREEZE_VERSION", Some("1".to_owned())),
        ]
    }

    /// The address from which a Pi will fetch `name`.
    pub fn url(&self, name: &str) -> String {
        let scheme = if self.certificate_hash.is_some() { "https" } else { "http" };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let path = self.path.as_deref().map_or("net_install", |path| path.trim_end_matches('/'));
        format!("{scheme}://{}{port}/{path}/{name}", self.host)
    }
}

/// The network first, then the disks of the board, then all over again: the server decides by having an image or not.
pub fn safe_order(board: Board) -> BootOrder {
    let text = match board {
        Board::Pi4 => "0xf417",
        Board::Cm4 | Board::Cm5 => "0xf617",
        Board::Pi5 => "0xf6417",
    };
    BootOrder::parse(text).unwrap_or(crate::eeprom::boot_order::DEFAULT)
}

/// The settings in `before` with what is wanted instead of theirs.
///
/// # Errors
/// If a bootloader would not read them to their end.
pub fn make(before: &[u8], wanted: &Wanted) -> Result<String, ConfigError> {
    let ours = wanted.lines();
    let config = Config::parse(before)?;
    // In every section: a BOOT_ORDER below [cm4] would win over one that stands before it.
    let replaced: Vec<usize> = config
        .entries
        .iter()
        .filter(|entry| ours.iter().any(|(key, _)| *key == entry.key.trim_ascii()))
        .map(|entry| entry.line)
        .collect();
    let text = String::from_utf8_lossy(before);
    let (mut made, mut appended) = (String::new(), String::new());
    for (line, number) in text.lines().zip(1..) {
        let to = if config.appended.is_some_and(|start| number >= start) { &mut appended } else { &mut made };
        if !replaced.contains(&number) {
            to.push_str(line);
            to.push('\n');
        }
    }
    made.push_str("[all]\n");
    for (key, value) in ours {
        if let Some(value) = value {
            made.push_str(&format!("{key}={value}\n"));
        }
    }
    made.push_str(&appended);
    Config::parse(made.as_bytes())?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eeprom::config_check;

    fn wanted(board: Board) -> Wanted {
        Wanted {
            order: safe_order(board),
            host: "boot.example.net".to_owned(),
            port: Some(8080),
            path: Some("pi/rescue/".to_owned()),
            certificate_hash: None,
        }
    }

    #[test]
    fn what_is_ours_is_replaced_in_every_section_and_the_rest_stays() {
        let before = "[all]\nBOOT_UART=1\nBOOT_ORDER=0xf1\n[cm4]\nBOOT_ORDER=0xf2\nWAKE_ON_GPIO=0\n[config.txt]\nBOOT_ORDER=1\n";
        let made = make(before.as_bytes(), &wanted(Board::Cm4)).unwrap();
        assert!(
            made.starts_with("[all]\nBOOT_UART=1\n[cm4]\nWAKE_ON_GPIO=0\n[all]\nBOOT_ORDER=0xf617\n"),
            "{made}"
        );
        assert!(made.ends_with("FREEZE_VERSION=1\n[config.txt]\nBOOT_ORDER=1\n"), "{made}");
        // Made anew from itself, it does not grow but by a filter.
        assert_eq!(make(made.as_bytes(), &wanted(Board::Cm4)).unwrap().matches("HTTP_HOST").count(), 1);
    }

    #[test]
    fn the_safe_settings_of_every_board_are_safe() {
        for board in Board::ALL {
            let made = make(b"[all]\nNET_INSTALL_AT_POWER_ON=1\n", &wanted(board)).unwrap();
            let found = config_check::check(&Config::parse(made.as_bytes()).unwrap(), Some(board));
            assert!(
                found.iter().all(|it| it.line.is_some() && it.message.contains("HTTP_PATH")),
                "{board}: {found:?}"
            );
        }
    }

    #[test]
    fn the_address_is_told() {
        assert_eq!(wanted(Board::Pi4).url("boot.sig"), "http://boot.example.net:8080/pi/rescue/boot.sig");
    }
}
