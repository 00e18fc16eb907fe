//! What comes of a fleet's file for one Pi: a plan for its `init`, words for its `cmdline.txt` and `config.txt`.

use init::server_plan::{PLAN_FORMAT, PlanFile};

use super::file::Boot;
use super::{Device, Image, template};
use crate::clients::Identity;

/// What one Pi shall do.
#[derive(Clone, Debug, Default)]
pub struct Assignment<'a> {
    /// How it is known.
    pub who: Identity,
    /// This server's URL, where the file names it.
    pub server: Option<&'a str>,
    /// Its entry; none for a Pi that the file does not name.
    pub device: Option<&'a Device>,
    /// What to boot; nothing is said where this is missing.
    pub boot: Option<Boot>,
    /// The image for [`Boot::Ram`].
    pub image: Option<(&'a String, &'a Image)>,
    /// The folder with its `boot.img`.
    pub files: Option<&'a str>,
    /// Kernel parameters for the plan, from the defaults to its own.
    pub parameters: Vec<&'a str>,
    /// Lines of `authorized_keys`, for `cmdline.txt`.
    pub keys: Vec<&'a str>,
    /// Kernel parameters for `cmdline.txt`.
    pub cmdline: Vec<&'a str>,
    /// Lines for `config.txt`.
    pub config: Vec<&'a str>,
}

/// The answer to a Pi that asks for its plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This plan.
    Plan(PlanFile),
    /// The files `plans/SERIAL.json`, else `plans/default.json`.
    Files,
}

impl Assignment<'_> {
    /// The plan for its `init`. `named` is this server as the Pi named it when it asked, like `http://192.0.2.1:8080`; it counts
    /// where the file names none.
    ///
    /// # Errors
    /// Where a placeholder has no value for this Pi.
    pub fn answer(&self, named: &str) -> Result<Answer, String> {
        let server = self.server.unwrap_or(named);
        let mut words = match self.boot {
            None | Some(Boot::Disk | Boot::Install | Boot::Plan) => return Ok(Answer::Files),
            Some(Boot::Rescue | Boot::Local) => vec!["lifeboat.rescue".to_owned()],
            Some(Boot::Ram) => {
                let (_, image) = self.image.ok_or("boot is \"ram\", and no image is named")?;
                let layers = image.layers.iter().map(|layer| format!("lifeboat.layer={server}/{layer}"));
                std::iter::once(format!("root=live:{server}/{}", image.path)).chain(layers).collect()
            }
        };
        for parameters in &self.parameters {
            words.push(self.fill(parameters, Some(server))?);
        }
        Ok(Answer::Plan(PlanFile { format: PLAN_FORMAT, parameters: words.join(" "), device: None }))
    }

    /// `cmdline.txt` for it: the shared one's words, then its own. One line, as the firmware wants it.
    ///
    /// # Errors
    /// Where a placeholder has no value for this Pi.
    pub fn cmdline(&self, shared: &str) -> Result<String, String> {
        let own =
            self.cmdline.iter().map(|words| self.fill(words, self.server)).collect::<Result<Vec<_>, _>>()?;
        let keys = self.keys.iter().map(|key| format!("lifeboat.authorized_key=\"{key}\""));
        let own: Vec<String> = own.into_iter().map(|words| words.trim().to_owned()).chain(keys).collect();
        // What stands behind "--" is the OS's, and none of the kernel's or of ours.
        let (shared, rest) =
            shared.split_once(" -- ").map_or((shared, None), |(words, rest)| (words, Some(rest)));
        let words = shared.split_ascii_whitespace().chain(own.iter().map(String::as_str));
        let rest =
            rest.into_iter().flat_map(|rest| std::iter::once("--").chain(rest.split_ascii_whitespace()));
        Ok(words.chain(rest).collect::<Vec<_>>().join(" ") + "\n")
    }

    /// `config.txt` for it: the shared one, then its own lines, for all boards again whatever filter the shared one ended in.
    ///
    /// # Errors
    /// Where a placeholder has no value for this Pi.
    pub fn config(&self, shared: &str) -> Result<String, String> {
        let mut text = shared.to_owned();
        if !self.config.is_empty() {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str("[all]\n");
        }
        for lines in &self.config {
            text.push_str(self.fill(lines, self.server)?.trim_end());
            text.push('\n');
        }
        Ok(text)
    }

    fn fill(&self, text: &str, server: Option<&str>) -> Result<String, String> {
        let serial = self.who.serial.or(self.device.and_then(|device| device.serial)).map(|s| s.to_string());
        let mac = self.who.mac.or(self.device.and_then(|device| device.mac)).map(|mac| mac.to_string());
        let name = self.device.and_then(|device| device.name.as_deref());
        template::fill(text, |placeholder| match placeholder {
            "serial" => Some(serial.as_deref()),
            "mac" => Some(mac.as_deref()),
            "name" => Some(name),
            "server" => Some(server),
            _ => None,
        })
    }
}
