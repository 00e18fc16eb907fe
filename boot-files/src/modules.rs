//! The kernel modules that go into the initramfs: those asked for, and what they depend on.

use crate::kernel::{self, Kernel};
use crate::recipe::ModuleRequest;
use crate::tree::{Entry, Node, Tree};
use anyhow::{Context, Result, bail, ensure};
use init::config::USR_MODULES;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

/// The largest module taken, in bytes.
const MODULE_LIMIT: u64 = 256 << 20;
/// What of depmod's work goes into the image: the text is for `init` and busybox's modprobe, the rest for the kmod of an
/// OS in RAM that has no modules of its own (the vm tier's `debian_runs_from_ram` loads one).
const INDEX: [&str; 9] = [
    "modules.alias",
    "modules.alias.bin",
    "modules.builtin",
    "modules.builtin.alias.bin",
    "modules.builtin.bin",
    "modules.dep",
    "modules.dep.bin",
    "modules.softdep",
    "modules.symbols.bin",
];
/// What depmod needs beside the modules.
const FOR_DEPMOD: [&str; 3] = ["modules.builtin", "modules.builtin.modinfo", "modules.order"];

/// What depmod knows of all modules of a kernel.
#[derive(Debug, Default)]
struct Known {
    /// From a name to the module's path and those of what it needs.
    paths: BTreeMap<String, (String, Vec<String>)>,
    soft: BTreeMap<String, Vec<String>>,
    aliases: BTreeMap<String, Vec<String>>,
    builtin: BTreeSet<String>,
}

/// What was added.
#[derive(Debug)]
pub struct Added {
    /// How many modules.
    pub count: usize,
    /// The paths of those that mounting `/usr` takes; `None` when the image has not all of them.
    pub for_usr: Option<Vec<String>>,
}

/// Adds the modules and depmod's index of them to the tree.
///
/// # Errors
/// If a module that is asked for exists neither as a file nor in the kernel.
pub fn add(tree: &mut Tree, kernel: &Kernel, requests: &[ModuleRequest]) -> Result<Added> {
    let folder = kernel.modules();
    let known = Known::read(&folder)?;
    let chosen = known.choose(requests, &kernel.release)?;
    let draft = tempfile::tempdir().context("making a temporary folder")?;
    let modules = draft.path().join("usr/lib/modules").join(&kernel.release);
    std::fs::create_dir_all(&modules)?;
    std::os::unix::fs::symlink("usr/lib", draft.path().join("lib"))?;
    let own = format!("usr/lib/modules/{}", kernel.release);
    let mut add = |path: &str, data| {
        let entry = Entry { node: Node::File(data), mode: 0o644, origin: kernel.origin.clone() };
        tree.add(&format!("{own}/{path}"), entry)
    };
    for path in &chosen {
        let plain = plain_path(path);
        let data = unpacked(&folder.join(path))?;
        let target = modules.join(plain);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&target, &data).with_context(|| format!("writing {}", target.display()))?;
        add(plain, data)?;
    }
    for name in FOR_DEPMOD {
        if folder.join(name).exists() {
            std::fs::copy(folder.join(name), modules.join(name))
                .with_context(|| format!("copying {name}"))?;
        }
    }
    kernel::depmod(draft.path(), &kernel.release)?;
    for name in INDEX {
        add(name, std::fs::read(modules.join(name)).with_context(|| format!("reading depmod's {name}"))?)?;
    }
    let for_usr =
        known.for_usr(&chosen).map(|paths| paths.iter().map(|path| plain_path(path).to_owned()).collect());
    Ok(Added { count: chosen.len(), for_usr })
}

impl Known {
    fn read(folder: &Path) -> Result<Known> {
        let text = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let mut known = Known::default();
        for line in text("modules.dep")?.lines() {
            let Some((path, needs)) = line.split_once(':') else { continue };
            let needs = needs.split_whitespace().map(str::to_owned).collect();
            known.paths.insert(module_name(path), (path.to_owned(), needs));
        }
        for line in text("modules.softdep")?.lines() {
            let Some((name, words)) = line.strip_prefix("softdep ").and_then(|line| line.split_once(' '))
            else {
                continue;
            };
            let names = words.split_whitespace().filter(|word| !word.ends_with(':')).map(str::to_owned);
            known.soft.entry(name.replace('-', "_")).or_default().extend(names);
        }
        for line in text("modules.alias")?.lines() {
            let Some((alias, name)) = line.strip_prefix("alias ").and_then(|line| line.split_once(' '))
            else {
                continue;
            };
            known.aliases.entry(alias.to_owned()).or_default().push(name.replace('-', "_"));
        }
        known.builtin = text("modules.builtin")?.lines().map(module_name).collect();
        Ok(known)
    }

    /// The paths of the modules asked for, of what they need (modules.dep) and would like (modules.softdep).
    fn choose(&self, requests: &[ModuleRequest], release: &str) -> Result<BTreeSet<String>> {
        let mut missing = Vec::new();
        let mut next: Vec<String> = Vec::new();
        for request in requests {
            if self.paths.contains_key(&request.name) {
                next.push(request.name.clone());
            } else if !self.builtin.contains(&request.name) && !request.optional {
                missing.push(request.name.as_str());
            }
        }
        if !missing.is_empty() {
            bail!(
                "kernel {release} has no module {}, neither as a file nor built in (a trailing ? makes one optional)",
                missing.join(", ")
            );
        }
        Ok(self.with_needs(next))
    }

    /// The paths of these modules, of what they need and would like.
    fn with_needs(&self, mut next: Vec<String>) -> BTreeSet<String> {
        let mut chosen = BTreeSet::new();
        while let Some(name) = next.pop() {
            let Some((path, needs)) = self.paths.get(&name) else { continue };
            if chosen.insert(path.clone()) {
                next.extend(needs.iter().map(|path| module_name(path)));
                next.extend(self.soft.get(&name).into_iter().flatten().flat_map(|soft| self.behind(soft)));
            }
        }
        chosen
    }

    /// Those of [`USR_MODULES`] and of what they need that are files; `None` when one is neither chosen nor built in.
    fn for_usr(&self, chosen: &BTreeSet<String>) -> Option<BTreeSet<String>> {
        let names: Vec<String> = USR_MODULES
            .iter()
            .filter(|name| !self.builtin.contains(**name))
            .map(|name| (*name).to_owned())
            .collect();
        let is_there = |name: &String| self.paths.get(name).is_some_and(|(path, _)| chosen.contains(path));
        names.iter().all(is_there).then(|| self.with_needs(names))
    }

    /// The modules that a soft dependency means: it is a name or an alias.
    fn behind(&self, soft: &str) -> Vec<String> {
        let name = soft.replace('-', "_");
        if self.paths.contains_key(&name) {
            return vec![name];
        }
        self.aliases.get(soft).cloned().unwrap_or_default()
    }
}

/// `kernel/drivers/net/a-b.ko.xz` → `a_b`
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// The path without the ending of a compression.
fn plain_path(path: &str) -> &str {
    [".xz", ".zst", ".gz"].iter().find_map(|ending| path.strip_suffix(ending)).unwrap_or(path)
}

/// A module's content: the whole initramfs is compressed, and better when they are not.
fn unpacked(path: &Path) -> Result<Vec<u8>> {
    let context = || format!("reading {}", path.display());
    let file = std::fs::File::open(path).with_context(context)?;
    let reader: Box<dyn Read> = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => Box::new(liblzma::read::XzDecoder::new(file)),
        Some("zst") => Box::new(zstd::Decoder::new(file)?),
        Some("gz") => Box::new(flate2::read::GzDecoder::new(file)),
        _ => Box::new(file),
    };
    let mut data = Vec::new();
    reader.take(MODULE_LIMIT).read_to_end(&mut data).with_context(context)?;
    ensure!(data.starts_with(b"\x7fELF"), "{} is no kernel module", path.display());
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write(
            "modules.dep",
            "kernel/fs/btrfs.ko.xz: kernel/lib/raid6.ko.xz\nkernel/lib/raid6.ko.xz:\nkernel/c/blake-2.ko.xz:\nkernel/x.ko:\n",
        );
        write("modules.softdep", "# x\nsoftdep btrfs pre: crypto-blake2b post: nosuch\n");
        write("modules.alias", "alias crypto-blake2b blake_2\n");
        write("modules.builtin", "kernel/drivers/block/lo-op.ko\n");
        Known::read(folder.path()).unwrap()
    }

    fn request(name: &str, optional: bool) -> ModuleRequest {
        ModuleRequest { name: name.into(), optional }
    }

    #[test]
    fn hard_and_soft_dependencies_come_along() {
        let chosen = known().choose(&[request("btrfs", false), request("lo_op", false)], "1").unwrap();
        let chosen: Vec<_> = chosen.iter().map(String::as_str).collect();
        assert_eq!(chosen, ["kernel/c/blake-2.ko.xz", "kernel/fs/btrfs.ko.xz", "kernel/lib/raid6.ko.xz"]);
    }

    #[test]
    fn usr_needs_modules_that_were_chosen_or_are_built_in() {
        let mut known = known();
        assert!(known.for_usr(&BTreeSet::new()).is_none());
        for (name, path, needs) in [("loop", "l.ko", ""), ("squashfs", "s.ko.xz", "x.ko"), ("x", "x.ko", "")]
        {
            let needs = needs.split_whitespace().map(str::to_owned).collect();
            known.paths.insert(name.into(), (path.into(), needs));
        }
        let chosen = known.choose(&[request("loop", false), request("squashfs", false)], "1").unwrap();
        assert_eq!(
            known.for_usr(&chosen).unwrap().into_iter().collect::<Vec<_>>(),
            ["l.ko", "s.ko.xz", "x.ko"]
        );
        let chosen = known.choose(&[request("squashfs", false)], "1").unwrap();
        assert!(known.for_usr(&chosen).is_none());
        known.builtin.insert("loop".into());
        assert_eq!(known.for_usr(&chosen).unwrap().len(), 2);
    }

    #[test]
    fn a_missing_module_is_an_error_unless_optional() {
        assert!(known().choose(&[request("nosuch", true)], "1").unwrap().is_empty());
        let error =
            known().choose(&[request("nosuch", false), request("x", false)], "6.1").unwrap_err().to_string();
        assert!(error.contains("kernel 6.1 has no module nosuch,"), "{error}");
    }
}
