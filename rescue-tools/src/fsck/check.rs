//! The order of a check: claim, look, tell, ask, repair, look again.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use init::size::human;

use super::look::{Health, Look, Permissions};
use super::report::{Outcome, Report};
use super::subject::{self, Subject};
use super::{btrfs, exfat, ext, f2fs, vfat, xfs};
use crate::confirm::confirm;
use crate::disk::filesystem::FileSystem;
use crate::disk::inventory::{Device, Inventory};
use crate::disk::probe;
use crate::disk::target::{ClaimError, Target};
use crate::progress::Ticker;
use crate::refusal::Refused;
use crate::replace_file::replace_file;
use crate::run_dir::RunDir;
use crate::status::text::wrap;

/// A repair may uncover what the next one repairs; more often than this it does not end.
const ROUNDS: usize = 3;
/// No line of ours is longer.
const WIDTH: usize = 78;

/// What is wanted.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// All devices, and none by its name.
    pub all: bool,
    /// Only look.
    pub dry_run: bool,
    /// The answer to the question.
    pub yes: bool,
    /// What is on the device, if a person says it.
    pub kind: Option<FileSystem>,
    /// What may be done beyond the usual.
    pub permissions: Permissions,
    /// Where the logs go.
    pub run: RunDir,
}

/// Checks one device, and tells `people` about it.
pub fn check(request: &Request, inventory: &Inventory, device: &Device, people: &mut dyn Write) -> Report {
    let mut check = Check {
        request,
        people,
        device: device.clone(),
        said: String::new(),
        read_only: false,
        only_look: false,
    };
    let system = match subject::subject(device, request.kind) {
        Subject::FileSystem(system) => system,
        Subject::Lost(system) => {
            check.only_look = request.all;
            system
        }
        Subject::Other(advice) => return check.report(None, Outcome::Refused, Vec::new(), Some(advice)),
    };
    match Target::claim_in(inventory, &device.path.to_string_lossy(), "check") {
        Ok(target) => drop(target.release()),
        Err(ClaimError::ReadOnly { .. }) => check.read_only = true,
        Err(error) => {
            let outcome = if error.is_refusal() { Outcome::Refused } else { Outcome::Failed };
            return check.report(Some(system), outcome, Vec::new(), Some(error.to_string()));
        }
    }
    check.say(
        0,
        &format!("{} ({system}, {}): looking, nothing is changed", device.path.display(), human(device.size)),
    );
    check.file_system(system)
}

struct Check<'a> {
    request: &'a Request,
    people: &'a mut dyn Write,
    device: Device,
    said: String,
    read_only: bool,
    only_look: bool,
}

impl Check<'_> {
    fn file_system(&mut self, system: FileSystem) -> Report {
        let first = match self.look(system) {
            Ok(look) => look,
            Err(error) => return self.failed(system, Vec::new(), &error),
        };
        if first.health == Health::Clean {
            return self.report(Some(system), Outcome::Clean, Vec::new(), None);
        }
        let findings = first.findings.clone();
        for finding in &findings {
            self.say(2, &format!("- {finding}"));
        }
        if let Some(why) = self.why_not(&first) {
            return self.report(Some(system), Outcome::Damaged, findings, Some(why));
        }
        self.say(2, &format!("The repair {}.", first.repair));
        if let Err(error) = confirm(&format!("Repair {}?", self.device.path.display()), self.request.yes) {
            let outcome = if error.is::<Refused>() { Outcome::Refused } else { Outcome::Failed };
            return self.report(Some(system), outcome, findings, Some(format!("{error:#}")));
        }
        match self.repair(system, first) {
            Ok(last) if last.health == Health::Clean => {
                self.report(Some(system), Outcome::Repaired, findings, None)
            }
            Ok(last) => {
                let message = format!("left: {}", last.findings.join("; "));
                self.report(Some(system), Outcome::Damaged, findings, Some(message))
            }
            Err(error) => self.failed(system, findings, &error),
        }
    }

    /// Why there is no repair.
    fn why_not(&self, look: &Look) -> Option<String> {
        let path = self.device.path.display();
        if look.health == Health::NeedsDecision {
            Some(look.repair.clone())
        } else if self.request.dry_run {
            Some(format!("not repaired (--dry-run). The repair {}", look.repair))
        } else if self.only_look {
            Some(format!(
                "only a copy of its superblock tells what it is, so it is repaired only when it is named: rescue fsck {path}"
            ))
        } else if self.read_only {
            Some(format!("{path} is read-only: it cannot be repaired"))
        } else {
            None
        }
    }

    /// Repairs until a look finds nothing, or nothing new; the last look.
    fn repair(&mut self, system: FileSystem, first: Look) -> Result<Look> {
        let mut look = first;
        for _ in 0..ROUNDS {
            let ticker = Ticker::start(format!("repairing {}", self.device.path.display()));
            let permissions = self.request.permissions;
            let said = match system {
                FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4 => ext::repair(&self.device.path),
                FileSystem::Vfat => vfat::repair(&self.device),
                FileSystem::Exfat => exfat::repair(&self.device),
                FileSystem::Btrfs => btrfs::repair(&self.device, &look, permissions),
                FileSystem::Xfs => xfs::repair(&self.device.path, &look, permissions),
                FileSystem::F2fs => f2fs::repair(&self.device.path),
            };
            drop(ticker);
            self.said.push_str(&said?);
            let probed = probe::probe(&self.device.path)?;
            self.device.content = probed.content;
            look = self.look(system)?;
            if look.health != Health::Damaged {
                break;
            }
        }
        Ok(look)
    }

    fn look(&mut self, system: FileSystem) -> Result<Look> {
        let _ticker = Ticker::start(format!("looking at {}", self.device.path.display()));
        let permissions = self.request.permissions;
        let look = match system {
            FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4 => ext::look(&self.device.path),
            FileSystem::Vfat => vfat::look(&self.device),
            FileSystem::Exfat => exfat::look(&self.device),
            FileSystem::Btrfs => btrfs::look(&self.device, permissions),
            FileSystem::Xfs => xfs::look(&self.device.path, permissions),
            FileSystem::F2fs => f2fs::look(&self.device.path),
        }?;
        self.said.push_str(&look.said);
        Ok(look)
    }

    fn failed(&mut self, system: FileSystem, findings: Vec<String>, error: &anyhow::Error) -> Report {
        self.report(Some(system), Outcome::Failed, findings, Some(format!("{error:#}")))
    }

    fn report(
        &mut self,
        system: Option<FileSystem>,
        result: Outcome,
        findings: Vec<String>,
        message: Option<String>,
    ) -> Report {
        let device = self.device.path.clone();
        let word = match result {
            Outcome::Clean => "clean",
            Outcome::Repaired => "repaired: a second look found nothing wrong",
            Outcome::Damaged => "damaged",
            Outcome::Refused => "not touched",
            Outcome::Skipped => "skipped",
            Outcome::Failed => "failed",
        };
        let reason = message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
        self.say(0, &format!("{}: {word}{reason}", device.display()));
        let log = self.log();
        if let Some(log) = log.as_ref().filter(|_| !findings.is_empty()) {
            self.say(2, &format!("All that the checkers said: {}", log.display()));
        }
        let file_system = system.map(|system| system.name().to_string());
        Report { device, file_system, result, findings, message, log }
    }

    /// Keeps what the checkers said. That it cannot be kept is no reason to fail.
    fn log(&self) -> Option<PathBuf> {
        let path = self.request.run.path().join(format!("fsck-{}.log", self.device.name));
        (!self.said.is_empty() && replace_file(&path, self.said.as_bytes(), 0o600).is_ok()).then_some(path)
    }

    /// A terminal that went away is no reason to stop a repair.
    fn say(&mut self, indent: usize, text: &str) {
        for (number, line) in wrap(text, WIDTH - indent - 2).into_iter().enumerate() {
            let blanks = indent + if number > 0 { 2 } else { 0 };
            let _ = writeln!(self.people, "{:blanks$}{line}", "");
        }
        let _ = self.people.flush();
    }
}
