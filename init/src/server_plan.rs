//! The boot server's plan (`GET /v1/boot/SERIAL`): what a Pi shall do that its command line leaves open. It is kernel
//! parameters, read as those of the command line are; the command line's own come behind them and count for more.
//!
//! An unsigned plan is a stranger's word: it can choose among signed images, and nothing else (invariant 5 of the design). What
//! starts a disk, or runs what no manifest vouches for, takes a signature by a key of the image, for this one Pi.

use minisign_verify::PublicKey;
use serde::{Deserialize, Serialize};

use crate::cmdline::{CommandLine, Word};
use crate::signed::{self, SignedError};

/// The version of this format.
pub const PLAN_FORMAT: u32 = 1;
/// No plan is longer than this many bytes.
pub const PLAN_LIMIT: usize = 16 << 10;

/// Parameters that choose among signed images, or make less of a boot.
const ANYBODYS: &[&str] = &[
    "root",
    "rd.break",
    "lifeboat.floor",
    "lifeboat.hold",
    "lifeboat.jitter",
    "lifeboat.layer",
    "lifeboat.overlay",
    "lifeboat.rate",
    "lifeboat.reboot_after",
    "lifeboat.rescue",
    "lifeboat.zram",
];
/// Parameters that a signed plan may have as well.
const SIGNERS: &[&str] = &[
    "rootflags",
    "rd.luks.uuid",
    "init",
    "lifeboat.install",
    "lifeboat.install_boot",
    "lifeboat.install_to",
    "lifeboat.kexec",
    "lifeboat.sha256",
];

/// The file as it is written. Anything may be in it: see [`ServerPlan`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    /// The version of the format: [`PLAN_FORMAT`].
    pub format: u32,
    /// Kernel parameters, as on a command line.
    pub parameters: String,
    /// The serial number of the Pi that it is for. A signed plan has to name one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// A plan that this Pi may follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPlan {
    /// Its parameters.
    pub line: CommandLine,
    /// Whether a key of the image signed it.
    pub is_signed: bool,
}

/// Why a plan is refused.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It is too long to be one.
    #[error("it has {0} bytes, more than the limit of {PLAN_LIMIT}")]
    TooLong(usize),
    /// It is not JSON of this form.
    #[error("it is not a plan: {0}")]
    Json(#[from] serde_json::Error),
    /// It is of another version.
    #[error("its format is {0}, this image knows {PLAN_FORMAT}")]
    Format(u32),
    /// It is for another Pi.
    #[error("it is for {0}, this is {1}")]
    Device(String, String),
    /// Its signature is wrong.
    #[error(transparent)]
    Signature(#[from] SignedError),
    /// It says what it may not say.
    #[error("{word}: {reason}")]
    Word {
        /// The word.
        word: String,
        /// Why not.
        reason: &'static str,
    },
}

impl ServerPlan {
    /// Reads a plan for the Pi with the serial number `serial`. `signature` is the minisign signature that came with it.
    ///
    /// # Errors
    /// Any [`PlanError`]. A signature that is there has to be right.
    pub fn read(
        json: &[u8],
        signature: Option<&str>,
        keys: &[PublicKey],
        serial: &str,
    ) -> Result<Self, PlanError> {
        if json.len() > PLAN_LIMIT {
            return Err(PlanError::TooLong(json.len()));
        }
        if let Some(signature) = signature {
            signed::verify(json, signature, keys)?;
        }
        Self::read_form(json, signature.is_some(), serial)
    }

    /// Whether the Pi with this serial number could follow a plan that is signed, or not, for tools on the host that have
    /// no keys: the signature itself is not looked at, and nothing comes back that could be followed.
    ///
    /// # Errors
    /// Any [`PlanError`] but [`PlanError::Signature`].
    pub fn check_form(json: &[u8], is_signed: bool, serial: &str) -> Result<(), PlanError> {
        if json.len() > PLAN_LIMIT {
            return Err(PlanError::TooLong(json.len()));
        }
        Self::read_form(json, is_signed, serial).map(|_| ())
    }

    fn read_form(json: &[u8], is_signed: bool, serial: &str) -> Result<Self, PlanError> {
        let file: PlanFile = serde_json::from_slice(json)?;
        if file.format != PLAN_FORMAT {
            return Err(PlanError::Format(file.format));
        }
        let device = file.device.as_deref();
        if device.unwrap_or(serial) != serial || (is_signed && device.is_none()) {
            let named = device.unwrap_or("no Pi by name, as a signed plan has to be");
            return Err(PlanError::Device(named.into(), serial.into()));
        }
        let line = CommandLine::parse(&file.parameters);
        for word in &line.words {
            allow(word, is_signed).map_err(|reason| PlanError::Word { word: word.to_string(), reason })?;
        }
        if !line.init_arguments.is_empty() && !is_signed {
            let reason = "only a signed plan may have arguments for the OS";
            return Err(PlanError::Word { word: "--".into(), reason });
        }
        Ok(ServerPlan { line, is_signed })
    }

    /// The command line that the two make together.
    pub fn before(&self, own: &CommandLine) -> CommandLine {
        let words = self.line.words.iter().chain(&own.words).cloned().collect();
        let arguments = if own.init_arguments.is_empty() { &self.line } else { own };
        CommandLine { words, init_arguments: arguments.init_arguments.clone() }
    }
}

fn allow(word: &Word, is_signed: bool) -> Result<(), &'static str> {
    let name = word.name.as_str();
    let is_image = word.value.as_deref().is_some_and(|value| value.starts_with("live:"));
    if SIGNERS.contains(&name) || (name == "root" && !is_image) {
        return if is_signed { Ok(()) } else { Err("only a signed plan may say so") };
    }
    if ANYBODYS.contains(&name) {
        Ok(())
    } else {
        Err("a plan of the boot server cannot say so; the command line can")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Goal, Plan};
    use proptest::prelude::*;

    const SERIAL: &str = "10000000abcdef01";

    fn json(parameters: &str, device: Option<&str>) -> Vec<u8> {
        let device = device.map(str::to_owned);
        serde_json::to_vec(&PlanFile { format: PLAN_FORMAT, parameters: parameters.into(), device }).unwrap()
    }

    fn unsigned(parameters: &str) -> Result<ServerPlan, PlanError> {
        ServerPlan::read(&json(parameters, None), None, &[], SERIAL)
    }

    #[test]
    fn a_stranger_may_choose_a_signed_image_and_nothing_else() {
        let plan = unsigned("root=live:http://a/b.squashfs lifeboat.overlay=1G rd.break").unwrap();
        assert!(matches!(Plan::parse(&plan.line).goal, Goal::RamBoot(_)));
        for bad in [
            "root=UUID=1",
            "root=/dev/sda1",
            "root",
            "init=/bin/sh",
            "lifeboat.sha256=00",
            "lifeboat.kexec",
            "rd.luks.uuid=1",
            "lifeboat.install=http://a/b.img",
            "lifeboat.install_to=/dev/sda",
            "lifeboat.authorized_key=ssh-ed25519",
            "lifeboat.console=open",
            "lifeboat.hostkey=/dev/sda1:/k",
            "lifeboat.server=http://evil",
            "ip=192.0.2.7",
            "lifeboat.fail=fetch",
            "quiet",
        ] {
            let error = unsigned(&format!("root=live:http://a/b.squashfs {bad}")).unwrap_err();
            assert!(error.to_string().starts_with(bad), "{bad}: {error}");
        }
        assert!(matches!(unsigned("root=live:http://a/b.squashfs -- -s"), Err(PlanError::Word { .. })));
    }

    #[test]
    fn a_signed_plan_is_for_one_pi() {
        let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        let key = PublicKey::from_base64(&pair.pk.to_base64()).unwrap();
        let read = |json: &[u8], signed: &[u8]| {
            let signature = minisign::sign(None, &pair.sk, signed, None, None).unwrap().into_string();
            ServerPlan::read(json, Some(&signature), std::slice::from_ref(&key), SERIAL)
        };
        let good = json("root=UUID=1 rd.luks.uuid=2", Some(SERIAL));
        let plan = read(&good, &good).unwrap();
        assert!(plan.is_signed && matches!(Plan::parse(&plan.line).goal, Goal::DiskBoot(_)));
        assert!(matches!(read(&good, b"other"), Err(PlanError::Signature(_))));
        assert!(ServerPlan::check_form(&good, true, SERIAL).is_ok());
        assert!(matches!(ServerPlan::check_form(&good, false, SERIAL), Err(PlanError::Word { .. })));
        assert!(matches!(ServerPlan::check_form(&good, true, "2"), Err(PlanError::Device(..))));
        for device in [None, Some("20000000abcdef01")] {
            let foreign = json("root=UUID=1", device);
            assert!(matches!(read(&foreign, &foreign), Err(PlanError::Device(..))), "{device:?}");
        }
        let console = json("lifeboat.console=open", Some(SERIAL));
        assert!(matches!(read(&console, &console), Err(PlanError::Word { .. })));
    }

    #[test]
    fn the_command_line_counts_for_more() {
        let plan = unsigned("root=live:http://a/x.squashfs lifeboat.overlay=1G").unwrap();
        let line = plan.before(&CommandLine::parse("lifeboat.overlay=2G quiet -- -s"));
        let Goal::RamBoot(boot) = Plan::parse(&line).goal else { panic!() };
        assert_eq!(boot.overlay, Some(crate::size::Size::Bytes(2 << 30)));
        assert_eq!(boot.init_arguments, ["-s"]);
        assert_eq!(Plan::parse(&plan.before(&CommandLine::parse("lifeboat.rescue"))).goal, Goal::Rescue);
    }

    #[test]
    fn what_is_no_plan_is_named() {
        let read = |json: &[u8]| ServerPlan::read(json, None, &[], SERIAL).unwrap_err().to_string();
        assert!(read(b"<html>").starts_with("it is not a plan"));
        assert!(read(br#"{"format":2,"parameters":""}"#).contains("its format is 2"));
        assert!(read(br#"{"format":1,"parameters":"","install":true}"#).contains("unknown field `install`"));
        assert!(read(&vec![b' '; PLAN_LIMIT + 1]).contains("more than the limit"));
        assert!(read(&json("", Some("2"))).contains("it is for 2"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), parameters in "\\PC{0,80}") {
            let _ = ServerPlan::read(&bytes, None, &[], SERIAL);
            if let Ok(plan) = ServerPlan::read(&json(&parameters, None), None, &[], SERIAL) {
                Plan::parse(&plan.line);
            }
        }
    }
}
