//! `http-boot check`: what a fleet's file comes to, for people and for machines.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::Fleet;
use super::assignment::Answer;
use super::file::Boot;
use crate::clients::Identity;
use crate::http::files::Root;

/// What one Pi shall do, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Name, serial number or Ethernet address; `*` for who is not named.
    pub device: String,
    /// What to boot.
    pub boot: Option<Boot>,
    /// The image's name.
    pub image: Option<String>,
    /// The kernel parameters of its plan, with `{server}` where only the Pi itself knows.
    pub plan: Option<String>,
}

/// What `http-boot check` prints.
///
/// # Errors
/// All that is wrong with the file, or a root that cannot be opened.
pub fn show(file: &Path, root: Option<&Path>, json: bool) -> anyhow::Result<String> {
    let root = root.map(Root::open).transpose()?;
    let fleet = Fleet::read(file, root.as_ref())?;
    let lines = lines(&fleet);
    if json {
        return Ok(serde_json::to_string_pretty(&lines)? + "\n");
    }
    Ok(table(&lines))
}

/// A line for each Pi, then one for all others.
pub fn lines(fleet: &Fleet) -> Vec<Line> {
    let named = fleet.devices().iter().map(|device| device.identity());
    named
        .chain([Identity::default()])
        .map(|who| {
            let assignment = fleet.assignment(who);
            let plan = match assignment.answer("{server}") {
                Ok(Answer::Plan(plan)) => Some(plan.parameters),
                Ok(Answer::Files) | Err(_) => None,
            };
            Line {
                device: assignment.device.map_or("*".into(), super::Device::label),
                boot: assignment.boot,
                image: assignment
                    .image
                    .filter(|_| assignment.boot == Some(Boot::Ram))
                    .map(|(name, _)| name.clone()),
                plan,
            }
        })
        .collect()
}

/// A table of them.
pub fn table(lines: &[Line]) -> String {
    let mut text = format!("{:24} {:8} {:16} plan\n", "device", "boot", "image");
    for line in lines {
        let boot = match line.boot {
            None => "-",
            Some(Boot::Rescue) => "rescue",
            Some(Boot::Ram) => "ram",
            Some(Boot::Disk) => "disk",
            Some(Boot::Install) => "install",
            Some(Boot::Plan) => "plan",
            Some(Boot::Local) => "local",
        };
        let image = line.image.as_deref().unwrap_or("-");
        let plan = line.plan.as_deref().unwrap_or(match line.boot {
            Some(boot) if boot.takes_signature() => "plans/SERIAL.json",
            _ => "-",
        });
        // Writing to a String does not fail.
        let _ = writeln!(text, "{:24} {boot:8} {image:16} {plan}", line.device);
    }
    text
}
