//! What `start4.elf` does: reads config.txt, and loads what it names.

use super::boot_files::BootFiles;
use super::config::Config;
use super::kernel;
use super::log::Log;
use super::refusal::{Kind, Refusal};
use crate::board::Pi;

/// The arm64 kernel's `COMMAND_LINE_SIZE`, with its NUL.
const COMMAND_LINE_LIMIT: usize = 2048;

/// What is in memory when the ARM starts.
#[derive(Clone, PartialEq, Eq)]
pub struct Boot {
    /// The kernel, an unpacked `Image`.
    pub kernel: Vec<u8>,
    /// The initramfs files, one after the other; empty without one.
    pub initramfs: Vec<u8>,
    /// The kernel's command line.
    pub command_line: String,
    /// The board's device tree.
    pub device_tree: Vec<u8>,
}

impl std::fmt::Debug for Boot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Boot")
            .field("kernel", &self.kernel.len())
            .field("initramfs", &self.initramfs.len())
            .field("command_line", &self.command_line)
            .field("device_tree", &self.device_tree.len())
            .finish()
    }
}

/// What `start4.elf` looks for before it reads kernel and initramfs, in this order, and can do without.
const LOOKED_FOR: [&str; 4] = ["recovery.elf", "dt-blob.bin", "recovery.elf", "bootcfg.txt"];
/// The same, right before the kernel.
const LOOKED_FOR_LATE: [&str; 2] = ["recovery8.img", "armstub8-gic.bin"];

/// Loads everything from a (verified) boot.img or from where it lies.
///
/// # Errors
/// When the Pi would not start its kernel.
pub fn load(pi: &Pi, disk: &mut dyn BootFiles, log: &mut Log) -> Result<Boot, Refusal> {
    let config = read_config(pi, disk, log)?;
    check_firmware(&config, disk, log)?;
    load_what_it_names(pi, &config, disk, log).map_err(Refusal::of_start4)
}

/// From here on `start4.elf` runs.
fn load_what_it_names(
    pi: &Pi,
    config: &Config,
    disk: &mut dyn BootFiles,
    log: &mut Log,
) -> Result<Boot, Refusal> {
    for name in LOOKED_FOR {
        disk.has(name, log)?;
    }
    if config.get("arm_64bit") == Some("0") {
        return Err(Refusal::new(
            Kind::BadKernel,
            "config.txt has arm_64bit=0: a 32-bit kernel, which virtual-pi does not run",
        ));
    }
    let mut files = Files { disk, prefix: String::new(), log };
    let kernel = config.get("kernel").unwrap_or("kernel8.img");
    let device_tree =
        config.get("device_tree").filter(|name| !name.is_empty()).unwrap_or(pi.board.device_tree());
    files.choose_prefix(config, kernel, device_tree)?;
    let initramfs = files.initramfs(config, kernel)?;
    let device_tree = files.device_tree(device_tree)?;
    files.note_overlays(config)?;
    let command_line = files.command_line(pi, config)?;
    for name in LOOKED_FOR_LATE {
        files.disk.has(name, files.log)?;
    }
    let kernel = files.kernel(kernel)?;
    Ok(Boot { kernel, initramfs, command_line, device_tree })
}

fn read_config(pi: &Pi, disk: &mut dyn BootFiles, log: &mut Log) -> Result<Config, Refusal> {
    let Some(text) = disk.read("config.txt", log)? else {
        log.note("config.txt is not there; all settings are the defaults");
        return Ok(Config::default());
    };
    log.read("config.txt", text.len());
    // A damaged included file counts as missing; the first file of the image that is needed says what is wrong.
    let mut open = |name: &str, log: &mut Log| disk.read(name, log).ok().flatten();
    Ok(Config::parse(&text, pi, &mut open, log))
}

/// start4.elf and its fixup, which must be a pair. `gpu_mem=16` means the cut-down pair.
fn check_firmware(config: &Config, disk: &mut dyn BootFiles, log: &mut Log) -> Result<(), Refusal> {
    let on = |key| config.number(key) == Some(1);
    let suffix = match () {
        () if on("start_debug") => "db",
        () if on("start_x") => "x",
        () if config.number("gpu_mem").is_some_and(|mib| mib <= 16) => "cd",
        () => "",
    };
    let start = config.get("start_file").map_or_else(|| format!("start4{suffix}.elf"), str::to_owned);
    let fixup = config.get("fixup_file").map_or_else(|| format!("fixup4{suffix}.dat"), str::to_owned);
    for name in [&start, &fixup] {
        let Some(content) = disk.read(name, log)? else {
            let place = disk.place();
            return Err(Refusal::new(
                Kind::Firmware,
                format!("{name} is not {place} (Debian: raspi-firmware)"),
            ));
        };
        log.read(name, content.len());
        if *name == start && !content.starts_with(b"\x7fELF") {
            return Err(Refusal::new(Kind::Firmware, format!("{name} is not an ELF file")));
        }
    }
    Ok(())
}

struct Files<'a> {
    disk: &'a mut dyn BootFiles,
    prefix: String,
    log: &'a mut Log,
}

impl Files<'_> {
    /// The name with `os_prefix` before it, which a leading slash avoids.
    fn name(&self, name: &str) -> String {
        name.strip_prefix('/').map_or_else(|| format!("{}{name}", self.prefix), str::to_owned)
    }

    fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>, Refusal> {
        let name = self.name(name);
        let content = self.disk.read(&name, self.log)?;
        if let Some(content) = &content {
            self.log.read(&name, content.len());
        }
        Ok(content)
    }

    fn has(&mut self, name: &str) -> Result<bool, Refusal> {
        let name = self.name(name);
        self.disk.has(&name, self.log)
    }

    /// `os_prefix` counts only where kernel and device tree are there under it.
    fn choose_prefix(&mut self, config: &Config, kernel: &str, device_tree: &str) -> Result<(), Refusal> {
        let Some(prefix) = config.get("os_prefix").filter(|p| !p.is_empty()) else { return Ok(()) };
        prefix.clone_into(&mut self.prefix);
        if !(self.has(kernel)? && self.has(device_tree)?) {
            self.log.note(format_args!(
                "os_prefix={prefix} is dropped: {kernel} or {device_tree} is not there under it"
            ));
            self.prefix.clear();
        }
        Ok(())
    }

    fn initramfs(&mut self, config: &Config, kernel: &str) -> Result<Vec<u8>, Refusal> {
        let automatic = || {
            let name = kernel.strip_prefix("kernel")?.strip_suffix(".img")?;
            (config.number("auto_initramfs") == Some(1)).then(|| vec![format!("initramfs{name}")])
        };
        let named = config.initramfs.clone();
        let named = named
            .or_else(|| config.get("ramfsfile").map(|names| names.split(',').map(str::to_owned).collect()));
        // auto_initramfs takes what it finds; a name that was written down has to be there.
        let required = named.is_some();
        let mut all = Vec::new();
        for name in named.or_else(automatic).unwrap_or_default() {
            match self.read(&name)? {
                Some(content) => all.extend_from_slice(&content),
                None if required => {
                    let name = self.name(&name);
                    return Err(Refusal::new(
                        Kind::Initramfs,
                        format!(
                            "the initramfs {name} of config.txt is not {}; the kernel would start without it and panic",
                            self.disk.place()
                        ),
                    ));
                }
                None => {
                    self.log.note(format_args!("auto_initramfs=1, but {name} is not {}", self.disk.place()))
                }
            }
        }
        Ok(all)
    }

    fn device_tree(&mut self, name: &str) -> Result<Vec<u8>, Refusal> {
        let bad = |why: &str| Refusal::new(Kind::DeviceTree, format!("the device tree {name} {why}"));
        let tree = self.read(name)?;
        let tree = tree.ok_or_else(|| bad(&format!("is not {}", self.disk.place())))?;
        let field = |at: usize| tree.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b));
        if field(0) != Some(0xd00d_feed) {
            return Err(bad("is no flattened device tree (its magic is not d00dfeed)"));
        }
        if field(4).is_none_or(|size| size as usize > tree.len()) {
            return Err(bad("is cut short"));
        }
        Ok(tree)
    }

    fn note_overlays(&mut self, config: &Config) -> Result<(), Refusal> {
        self.has("overlays/overlay_map.dtb")?;
        let prefix = if config.overlays.is_empty() || !self.has("overlays/README")? {
            String::new()
        } else {
            self.prefix.clone()
        };
        for name in &config.overlays {
            if self.disk.has(&format!("{prefix}overlays/{name}.dtbo"), self.log)? {
                self.log.note(format_args!(
                    "dtoverlay={name} is not applied: the virt machine has none of that hardware"
                ));
            } else {
                self.log.note(format_args!("dtoverlay={name} is not {}", self.disk.place()));
            }
        }
        Ok(())
    }

    /// The first line of cmdline.txt, with what the firmware puts before it.
    fn command_line(&mut self, pi: &Pi, config: &Config) -> Result<String, Refusal> {
        let name = config.get("cmdline").unwrap_or("cmdline.txt");
        let text = self.read(name)?.unwrap_or_else(|| {
            self.log.note(format_args!("{name} is not there; the command line is the firmware's alone"));
            Vec::new()
        });
        let text = String::from_utf8_lossy(&text);
        let mut lines = text.lines();
        let line = lines.next().unwrap_or_default().trim().to_owned();
        if lines.any(|rest| !rest.trim().is_empty()) {
            self.log.note(format_args!("{name} has more than one line; only the first counts"));
        }
        let words: Vec<_> = line
            .split(' ')
            .map(|word| word.replace("serial0", "ttyAMA0").replace("serial1", "ttyS0"))
            .collect();
        let mac = pi.mac.to_string().to_uppercase();
        let firmware = format!(
            "coherent_pool=1M 8250.nr_uarts=1 smsc95xx.macaddr={mac} vc_mem.mem_base=0x3eb00000 vc_mem.mem_size=0x3ff00000"
        );
        let line = format!("{firmware}  {}", words.join(" "));
        if line.len() >= COMMAND_LINE_LIMIT {
            self.log.note(format_args!(
                "the command line has {} characters; the kernel cuts it after {}",
                line.len(),
                COMMAND_LINE_LIMIT - 1
            ));
        }
        Ok(line)
    }

    fn kernel(&mut self, name: &str) -> Result<Vec<u8>, Refusal> {
        match self.read(name)? {
            Some(file) => kernel::unpack(name, file),
            None => Err(Refusal::new(
                Kind::NoKernel,
                format!("the kernel {} is not {}", self.name(name), self.disk.place()),
            )),
        }
    }
}
