//! Which file a Pi gets when its bootloader names one: `9ffefdef/config.txt` is the file of that Pi's folder, else of its
//! MAC address's, its board's, `default`'s, or the folder's own. So firmware is there once, and what differs lies beside it.

pub mod rendering;
pub mod text;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use init::mac::Mac;
use rustix::fd::OwnedFd;

use crate::clients::{Clients, Identity};
use crate::http::conditions::Version;
use crate::http::files::{Refused, Root};
use crate::http::path::{FilePath, PathError};
use crate::pi::PiSerial;
use crate::tftp::content::Content;
use crate::tftp::{Refusal, Tree};
use rendering::{Rendering, Text};
use text::Warned;

/// The folder for those that have none of their own.
const DEFAULT: &str = "default";

/// A folder of boot files, shared by all Pis or divided among them.
pub struct BootTree {
    root: Root,
    clients: Arc<Clients>,
    rendering: Arc<dyn Rendering>,
    warned: Warned,
}

/// A name as a bootloader asks for it.
struct Asked {
    /// What its prefix says of who asks.
    identity: Identity,
    /// Without a prefix that says so.
    path: FilePath,
}

impl BootTree {
    /// Opens the folder.
    ///
    /// # Errors
    /// When it is missing or cannot be read.
    pub fn open(folder: &Path, clients: Arc<Clients>, rendering: Arc<dyn Rendering>) -> Result<Self> {
        let root = Root::open(folder).context(
            "opening the folder for TFTP (--tftp-root; `boot-files build` makes one, named tftp, in its output)",
        )?;
        Ok(Self { root, clients, rendering, warned: Warned::default() })
    }

    /// The folders to look in, and whether a folder is one Pi's own.
    fn folders(&self, who: Identity) -> Vec<(Option<FilePath>, bool)> {
        let own = [who.serial.map(|serial| serial.to_string()), who.mac.map(Mac::hyphenated)];
        let shared = [who.board.map(|board| board.name().to_owned()), Some(DEFAULT.to_owned())];
        let folder = |name: &String| FilePath::literal(name.as_bytes()).ok();
        let own = own.iter().flatten().filter_map(folder).map(|folder| (Some(folder), true));
        let shared = shared.iter().flatten().filter_map(folder).map(|folder| (Some(folder), false));
        own.chain(shared).chain([(None, false)]).collect()
    }

    /// Looks in all folders.
    fn find(&self, who: Identity, path: &FilePath) -> Result<Found, Refusal> {
        for (folder, own) in self.folders(who) {
            let place = folder.map_or_else(|| path.clone(), |folder| path.below(&folder));
            match self.root.file(&place) {
                Ok((file, version)) => return Ok(Found { file, version, place, own }),
                Err(Refused::NotFound) => {}
                Err(why) => {
                    self.root.explain(&place, why);
                    // A wrong file from the next folder would be worse than none.
                    return Err(if let Refused::Failed(_) = why {
                        Refusal::Failed
                    } else {
                        Refusal::NotFound
                    });
                }
            }
        }
        Err(Refusal::NotFound)
    }

    /// As [`BootTree::find`]. What precedes the name and is no folder anywhere is a prefix of the bootloader's own
    /// (`TFTP_PREFIX_STR`): the bootloader looks for `PREFIX/start4.elf`, and asks for nothing with the prefix where that
    /// is missing.
    fn find_behind_prefix(&self, who: Identity, path: FilePath) -> Result<(Found, FilePath), Refusal> {
        let mut path = path;
        loop {
            match self.find(who, &path) {
                Ok(found) => return Ok((found, path)),
                Err(Refusal::NotFound) => {}
                Err(refusal) => return Err(refusal),
            }
            let Some((first, rest)) = path.split_first() else { return Err(Refusal::NotFound) };
            let Ok(first) = FilePath::literal(first.as_encoded_bytes()) else {
                return Err(Refusal::NotFound);
            };
            let is_folder = self.folders(who).into_iter().any(|(folder, _)| {
                self.root.has_folder(&folder.map_or_else(|| first.clone(), |folder| first.below(&folder)))
            });
            if is_folder {
                return Err(Refusal::NotFound);
            }
            path = rest;
        }
    }

    /// Text for this Pi alone, or the file as it is.
    fn content(&self, who: Identity, found: Found, path: &FilePath) -> Result<Content, Refusal> {
        let Found { file, version, place, own } = found;
        let Some(text) = Text::named(path.as_path()).filter(|_| version.size <= text::LONGEST) else {
            return Ok(Content::File(Arc::new(file), version));
        };
        let bytes = text::read(&file).map_err(|error| {
            tracing::error!("reading {}: {error}", place.as_path().display());
            Refusal::Failed
        })?;
        let rendered = if own { None } else { self.rendering.render(who, text, &bytes) };
        if text == Text::Config {
            self.warned.look_at(place.as_path(), rendered.as_deref().unwrap_or(&bytes));
        }
        Ok(match rendered {
            Some(rendered) => Content::Memory(Bytes::from(rendered)),
            None => Content::File(Arc::new(file), version),
        })
    }
}

struct Found {
    file: OwnedFd,
    version: Version,
    place: FilePath,
    own: bool,
}

impl Asked {
    fn parse(name: &[u8]) -> Result<Self, PathError> {
        let path = FilePath::literal(name)?;
        let nobody = Identity::default();
        let Some((first, rest)) = path.split_first() else { return Ok(Self { identity: nobody, path }) };
        let first = first.to_str().unwrap_or_default();
        let serial = first.parse::<PiSerial>().ok().filter(|_| first.len() == 8);
        let mac = first.parse::<Mac>().ok().filter(|_| !first.contains(':'));
        if serial.is_none() && mac.is_none() {
            return Ok(Self { identity: nobody, path });
        }
        Ok(Self { identity: Identity { serial, mac, ..nobody }, path: rest })
    }
}

impl Tree for BootTree {
    fn open(&self, client: IpAddr, name: &[u8]) -> Result<Content, Refusal> {
        let asked = Asked::parse(name).map_err(|error| match error {
            PathError::Folder => Refusal::NotFound,
            _ => Refusal::Denied,
        })?;
        let who = self.clients.identity(client).with(asked.identity);
        if self.rendering.refuses(who) {
            return Err(Refusal::NotFound);
        }
        let (found, path) = if asked.identity == Identity::default() {
            self.find_behind_prefix(who, asked.path)?
        } else {
            (self.find(who, &asked.path)?, asked.path)
        };
        self.content(who, found, &path)
    }

    fn heard(&self, client: IpAddr, name: &[u8]) {
        if let Ok(asked) = Asked::parse(name) {
            self.clients.learn(client, asked.identity);
        }
    }

    fn describe(&self, client: IpAddr) -> String {
        self.clients.identity(client).to_string()
    }
}

#[cfg(test)]
mod tests;
