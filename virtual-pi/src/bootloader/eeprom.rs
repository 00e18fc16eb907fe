//! The settings that the bootloader reads from its EEPROM: `bootconf.txt`, by itself or in an image with its public key and
//! certificate authority (facts, section 1).

use std::net::Ipv4Addr;
use std::time::Duration;

use boot_files::eeprom::boot_order::{self, BootOrder};
use boot_files::eeprom::config::Config;
use boot_files::eeprom::image::{self, Image};
use boot_files::eeprom::{board, boot_order::number};
use sha2::{Digest, Sha256};

use super::http::Source;
use super::signature::PublicKey;
use super::tls::Authority;
use crate::board::{Board, Pi};

/// What comes before each name over TFTP: `TFTP_PREFIX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// The lower half of the serial number, `9ffefdef/`.
    Serial,
    /// `TFTP_PREFIX_STR`.
    Text(String),
    /// `dc-a6-32-01-36-c2/`.
    Mac,
}

impl Prefix {
    /// The text.
    pub fn of(&self, pi: &Pi) -> String {
        match self {
            Self::Serial => format!("{:08x}/", pi.serial.0 & 0xffff_ffff),
            Self::Text(text) => text.clone(),
            Self::Mac => format!("{}/", pi.mac.to_string().replace(':', "-")),
        }
    }
}

/// An address without DHCP: `CLIENT_IP`, `SUBNET`, `GATEWAY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// The Pi's.
    pub address: Ipv4Addr,
    /// The length of its network's prefix.
    pub prefix: u8,
    /// The way out.
    pub router: Option<Ipv4Addr>,
}

/// All that has a meaning here.
#[derive(Clone, Debug)]
pub struct Eeprom {
    /// Where to look for an OS.
    pub boot_order: BootOrder,
    /// The web server; nothing means Raspberry Pi's own, which is not asked.
    pub http: Option<Source>,
    /// The key that boot.sig is checked with.
    pub public_key: Option<PublicKey>,
    /// What comes before each name over TFTP.
    pub tftp_prefix: Prefix,
    /// The TFTP server, whatever DHCP says.
    pub tftp_ip: Option<Ipv4Addr>,
    /// An address without DHCP.
    pub fixed: Option<Fixed>,
    /// For DHCP as a whole.
    pub dhcp_timeout: Duration,
    /// For one question of DHCP.
    pub dhcp_req_timeout: Duration,
    /// For one file over TFTP.
    pub tftp_file_timeout: Duration,
    /// How often NETWORK is tried again; `None`: for ever.
    pub net_boot_max_retries: Option<u32>,
    /// How often the boot order begins anew; `None`: for ever.
    pub max_restarts: Option<u32>,
    /// The text that an offer with boot files has in option 43.
    pub pxe_option43: String,
    /// The first word of option 97; 0: the serial number four times.
    pub dhcp_option97: u32,
    /// Whether an OS has to be a signed boot.img.
    pub signed_boot: bool,
}

impl Default for Eeprom {
    fn default() -> Self {
        Self {
            boot_order: boot_order::DEFAULT,
            http: None,
            public_key: None,
            tftp_prefix: Prefix::Serial,
            tftp_ip: None,
            fixed: None,
            dhcp_timeout: Duration::from_secs(45),
            dhcp_req_timeout: Duration::from_secs(4),
            tftp_file_timeout: Duration::from_secs(30),
            net_boot_max_retries: Some(0),
            max_restarts: None,
            pxe_option43: "Raspberry Pi Boot".into(),
            dhcp_option97: 0x3469_5052,
            signed_boot: false,
        }
    }
}

impl Eeprom {
    /// Reads an image (`pieeprom.bin`) or the text of a `bootconf.txt`, whichever the bytes are. `authority` stands for the
    /// image's `cacert.der`.
    ///
    /// # Errors
    /// One line that names what the bootloader could not use.
    pub fn read(bytes: &[u8], pi: &Pi, authority: Option<&[u8]>) -> Result<Self, String> {
        if bytes.len() < image::SMALLEST {
            return Self::from_config(bytes, pi, authority);
        }
        let image = Image::parse(bytes.to_vec()).map_err(|error| format!("the EEPROM image: {error}"))?;
        let config = image.file(image::BOOTCONF).unwrap_or_default();
        let mut eeprom = Self::from_config(config, pi, authority.or_else(|| image.file(image::CACERT)))?;
        if let Some(key) = image.file(image::PUBKEY).filter(|key| !key.is_empty()) {
            eeprom.public_key = Some(PublicKey::from_pubkey_bin(key)?);
        }
        Ok(eeprom)
    }

    fn from_config(text: &[u8], pi: &Pi, authority: Option<&[u8]>) -> Result<Self, String> {
        let config = Config::parse(text).map_err(|error| format!("bootconf.txt: {error}"))?;
        let board = match pi.board {
            Board::Pi4B => board::Board::Pi4,
            Board::Cm4 => board::Board::Cm4,
        };
        let settings = Settings { config: &config, board };
        let mut eeprom = Self {
            http: settings.http(authority)?,
            tftp_prefix: settings.prefix()?,
            tftp_ip: settings.parsed("TFTP_IP")?,
            fixed: settings.fixed()?,
            net_boot_max_retries: settings.count("NET_BOOT_MAX_RETRIES", Some(0))?,
            max_restarts: settings.count("MAX_RESTARTS", None)?,
            signed_boot: settings.number("SIGNED_BOOT")? == Some(1),
            ..Self::default()
        };
        if let Some(text) = settings.get("BOOT_ORDER") {
            eeprom.boot_order = BootOrder::parse(text).ok_or_else(|| wrong("BOOT_ORDER", text))?;
        }
        if let Some(text) = settings.get("PXE_OPTION43") {
            text.clone_into(&mut eeprom.pxe_option43);
        }
        if let Some(number) = settings.number("DHCP_OPTION97")? {
            eeprom.dhcp_option97 = number;
        }
        for (key, least, time) in [
            ("DHCP_TIMEOUT", 5000, &mut eeprom.dhcp_timeout),
            ("DHCP_REQ_TIMEOUT", 500, &mut eeprom.dhcp_req_timeout),
            ("TFTP_FILE_TIMEOUT", 5000, &mut eeprom.tftp_file_timeout),
        ] {
            if let Some(milliseconds) = settings.number(key)? {
                *time = Duration::from_millis(milliseconds.max(least).into());
            }
        }
        Ok(eeprom)
    }
}

fn wrong(key: &str, value: &str) -> String {
    format!("bootconf.txt: {key}={value} is not what {key} takes")
}

struct Settings<'a> {
    config: &'a Config,
    board: board::Board,
}

impl Settings<'_> {
    /// A value, if there is one that is not empty.
    fn get(&self, key: &str) -> Option<&str> {
        self.config.value(Some(self.board), key).map(str::trim).filter(|value| !value.is_empty())
    }

    fn number(&self, key: &str) -> Result<Option<u32>, String> {
        let parse = |text: &str| number(text).ok_or_else(|| wrong(key, text));
        self.get(key).map(parse).transpose()
    }

    /// How often; -1 is for ever.
    fn count(&self, key: &str, default: Option<u32>) -> Result<Option<u32>, String> {
        match self.get(key) {
            None => Ok(default),
            Some("-1") => Ok(None),
            Some(_) => self.number(key),
        }
    }

    fn parsed<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, String> {
        let parse = |text: &str| text.parse().map_err(|_| wrong(key, text));
        self.get(key).map(parse).transpose()
    }

    fn prefix(&self) -> Result<Prefix, String> {
        match self.get("TFTP_PREFIX") {
            None | Some("0") => Ok(Prefix::Serial),
            Some("1") => {
                let text = self.get("TFTP_PREFIX_STR").unwrap_or_default();
                // The bootloader has room for 32 characters with the slash.
                let is_short = text.len() <= 32;
                if is_short { Ok(Prefix::Text(text.into())) } else { Err(wrong("TFTP_PREFIX_STR", text)) }
            }
            Some("2") => Ok(Prefix::Mac),
            Some(other) => Err(wrong("TFTP_PREFIX", other)),
        }
    }

    fn fixed(&self) -> Result<Option<Fixed>, String> {
        let (address, mask) = (self.parsed("CLIENT_IP")?, self.parsed::<Ipv4Addr>("SUBNET")?);
        // DHCP is left out only where the server is known as well.
        let (Some(address), Some(mask), true) = (address, mask, self.get("TFTP_IP").is_some()) else {
            return Ok(None);
        };
        let prefix = mask.to_bits().leading_ones() as u8;
        Ok(Some(Fixed { address, prefix, router: self.parsed("GATEWAY")? }))
    }

    fn http(&self, authority: Option<&[u8]>) -> Result<Option<Source>, String> {
        let Some(host) = self.get("HTTP_HOST") else { return Ok(None) };
        let hash = self.get("HTTP_CACERT_HASH");
        let port = match self.parsed("HTTP_PORT")? {
            Some(port) => port,
            None if hash.is_some() => 443,
            None => 80,
        };
        let source = Source::new(host, port, self.get("HTTP_PATH").unwrap_or("net_install"))?;
        let Some(hash) = hash else { return Ok(Some(source)) };
        let der = authority.ok_or("bootconf.txt: HTTP_CACERT_HASH needs a cacert.der, and there is none")?;
        let found: String = Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect();
        if !found.eq_ignore_ascii_case(hash) {
            return Err(format!("bootconf.txt: HTTP_CACERT_HASH is {hash}; cacert.der has {found}"));
        }
        Ok(Some(source.over_tls(Authority::new(der)?)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::board::Serial;

    fn pi() -> Pi {
        Pi::new(Board::Cm4, Serial(0x1000_0000_9ffe_fdef), 1024)
    }

    fn read(text: &str) -> Result<Eeprom, String> {
        Eeprom::read(text.as_bytes(), &pi(), None)
    }

    #[test]
    fn settings_and_their_defaults() {
        let eeprom =
            read("[all]\nBOOT_ORDER=0xf27\nHTTP_HOST=boot.example\nTFTP_PREFIX=2\nDHCP_TIMEOUT=1\n").unwrap();
        assert_eq!(eeprom.boot_order.to_string(), "0xf27");
        assert_eq!(eeprom.http.unwrap().url("boot.img"), "http://boot.example:80/net_install/boot.img");
        assert_eq!(eeprom.tftp_prefix.of(&pi()), "dc-a6-32-fe-fd-ef/");
        assert_eq!(eeprom.dhcp_timeout, Duration::from_secs(5), "the least that the bootloader takes");
        let eeprom = read("").unwrap();
        assert_eq!(
            (eeprom.boot_order.to_string(), eeprom.tftp_prefix.of(&pi())),
            ("0xf41".into(), "9ffefdef/".into())
        );
        assert!(eeprom.http.is_none() && eeprom.max_restarts.is_none());
        assert_eq!(eeprom.net_boot_max_retries, Some(0));
        // For another board.
        assert_eq!(read("[pi5]\nBOOT_ORDER=0x2\n").unwrap().boot_order, boot_order::DEFAULT);
        // Without TFTP_IP, DHCP is asked all the same.
        let fixed = "CLIENT_IP=192.0.2.5\nSUBNET=255.255.255.0\n";
        assert_eq!(read(fixed).unwrap().fixed, None);
        let fixed = read(&format!("{fixed}TFTP_IP=192.0.2.1\n")).unwrap().fixed.unwrap();
        assert_eq!((fixed.prefix, fixed.router), (24, None));
    }

    #[test]
    fn what_a_bootloader_could_not_use_is_named() {
        for (text, named) in [
            ("BOOT_ORDER=0xxf", "BOOT_ORDER"),
            ("TFTP_IP=boot.example", "TFTP_IP"),
            ("TFTP_PREFIX=3", "TFTP_PREFIX=3"),
            ("TFTP_PREFIX=1\nTFTP_PREFIX_STR=a-prefix-that-is-longer-than-it-may-be/", "TFTP_PREFIX_STR"),
            ("HTTP_HOST=http://x", "HTTP_HOST"),
            ("HTTP_HOST=x\nHTTP_PORT=99999", "HTTP_PORT"),
            ("HTTP_HOST=x\nHTTP_CACERT_HASH=00", "cacert.der"),
            ("MAX_RESTARTS=-2", "MAX_RESTARTS"),
            ("HTTP_PATH=\u{e9}", "ASCII"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_settings_or_an_error(text in "(\\[|\\]|=|\n|[A-Z_]{1,12}|HTTP_HOST=|TFTP_IP=|BOOT_ORDER=|[0-9.x-]{1,9}){0,30}") {
            let _either = read(&text);
        }
    }
}
