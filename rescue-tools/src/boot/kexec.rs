//! Loading the disk's own kernel, for PID 1 to start it with (kexec(8)).

use std::fs::File;
use std::io::{IsTerminal, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use init::control::{KEXEC_LOADED_PATH, is_kernel_loaded};
use rustix::fs::{MemfdFlags, memfd_create};

use super::kernel::{self, Kernel};
use super::keys::{self, Line, Lock};
use super::prepare;
use super::root::Root;
use crate::disk::inventory::Inventory;
use crate::refusal::refused;
use crate::tool::Tool;
use crate::unlock::passphrase::Passphrase;
use crate::unlock::{keyring, open};

/// Whether it can be done here at all.
///
/// # Errors
/// When there is no kexec(8), the kernel has none, or its processors cannot be stopped.
pub fn possible() -> Result<()> {
    Tool::new("kexec")?;
    if !Path::new(KEXEC_LOADED_PATH).exists() {
        return Err(refused("the running kernel was built without kexec (CONFIG_KEXEC)"));
    }
    // cpus_are_stuck_in_kernel() in arch/arm64/kernel/smp.c: those that a spin table started cannot be taken back.
    let method = std::fs::read("/proc/device-tree/cpus/cpu@1/enable-method").unwrap_or_default();
    let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    if method.starts_with(b"spin-table") && possible.trim() != "0" {
        return Err(refused(
            "this board's firmware lets no kernel stop its processors: it takes a rescue that was started with nr_cpus=1, \
             or `rescue boot` without --kexec",
        ));
    }
    Ok(())
}

/// Takes back what is loaded, with the passphrases in it. Where nothing is, it does nothing.
pub fn unload() {
    if is_kernel_loaded() {
        let done = Tool::new("kexec").map(|tool| tool.arg("--unload").output());
        if !matches!(&done, Ok(Ok(output)) if output.status.success()) {
            eprintln!("the kernel that was loaded could not be taken back: {done:?}");
        }
    }
}

/// Finds the disk's kernel and loads it, with the passphrases that it will need, which are asked for before anything else is
/// done. Nothing stays mounted. Gives lines on what was done.
///
/// # Errors
/// With the first thing that is in the way.
pub fn prepare(
    inventory: &Inventory,
    root: &Root,
    mount: &prepare::Wish,
    wish: &kernel::Wish,
    pass_keys: bool,
) -> Result<Vec<String>> {
    let locks = if pass_keys { keys::locks(inventory, &root.device) } else { Vec::new() };
    let keys = locks.into_iter().map(|lock| Ok((key(&lock)?, lock))).collect::<Result<Vec<_>>>()?;
    let mut said = prepare::with_kernels(inventory, root, mount)?;
    let loaded = find_and_load(inventory, root, wish, keys);
    prepare::release();
    said.extend(loaded.map_err(prepare::failure)?);
    Ok(said)
}

fn find_and_load(
    inventory: &Inventory,
    root: &Root,
    wish: &kernel::Wish,
    keys: Vec<(Option<Passphrase>, Lock)>,
) -> Result<Vec<String>> {
    let folder = Path::new(prepare::ROOT);
    let kernel = kernel::find(folder, root, wish)?;
    let mut said = Vec::new();
    let mut to_pass: Vec<(Line, Option<Passphrase>)> = Vec::new();
    for (key, lock) in keys {
        let Some(line) = keys::lines(inventory, std::slice::from_ref(&lock), folder).pop() else { continue };
        let device = lock.device.display();
        match &key {
            Some(_) => said.push(format!("the passphrase of {device} goes with it")),
            // Whoever is far away would not see that question.
            None if !lock.below_root => bail!(
                "the OS opens {device} ({}) as well, and its passphrase is not known: `cryptsetup close` and `rescue \
                 unlock` it, or say --no-keys, and its own system asks on its console",
                line.name
            ),
            None => said.push(format!("its own system will ask for the passphrase of {device}")),
        }
        to_pass.push((line, key));
    }
    if to_pass.iter().all(|(_, key)| key.is_none()) {
        to_pass.clear();
    }
    load(&kernel, &to_pass)?;
    let initramfs = kernel.initramfs.as_ref();
    let initramfs = initramfs.map_or("no initramfs".into(), |(path, _)| path.display().to_string());
    said.push(format!("loaded: {}, {initramfs}", kernel.path.display()));
    said.push(format!("command line: {}", kernel.command_line));
    Ok(said)
}

/// The passphrase that is known from `rescue unlock`, or, for what the root stands on, from whoever is at the terminal;
/// `None` where they give none.
fn key(lock: &Lock) -> Result<Option<Passphrase>> {
    if let Some(known) = keyring::known(&lock.uuid)? {
        return Ok(Some(known));
    }
    if !lock.below_root {
        return Ok(None);
    }
    let device = lock.device.display();
    if !std::io::stdin().is_terminal() {
        return Err(refused(format!(
            "the passphrase of {device} is not known any more: `ssh -t … rescue boot --kexec` asks for it, and with --no-keys \
             the disk's own system does"
        )));
    }
    loop {
        let prompt = format!("Passphrase for {device}, or Enter to let its own system ask: ");
        let Some(passphrase) = Passphrase::ask(&prompt)? else { return Ok(None) };
        eprintln!("trying (this may take some seconds) ...");
        if open::fits(&lock.device, &passphrase)? {
            return Ok(Some(passphrase));
        }
        eprintln!("wrong passphrase");
    }
}

/// Loads it, with the keys in its initramfs. What is loaded takes the place of what was.
fn load(kernel: &Kernel, keys: &[(Line, Option<Passphrase>)]) -> Result<()> {
    let path = kernel.path.display();
    let initramfs = match &kernel.initramfs {
        None if !keys.is_empty() => {
            bail!("{path} has no initramfs that could open the disk (--initramfs names one)");
        }
        None => None,
        Some((path, file)) if keys.is_empty() => {
            Some(file.try_clone().with_context(|| format!("opening {} again", path.display()))?)
        }
        Some((path, file)) => {
            Some(with_keys(file, keys).with_context(|| format!("adding the keys to {}", path.display()))?)
        }
    };
    let mut tool = Tool::new("kexec")?.args(["--load", "--kexec-syscall"]);
    tool = tool.arg(of_ours(&kernel.file)).arg(format!("--command-line={}", kernel.command_line));
    if let Some(initramfs) = &initramfs {
        tool = tool.arg(format!("--initrd={}", of_ours(initramfs)));
    }
    let output = tool.unbroken()?;
    if !output.status.success() {
        bail!("kexec could not load {path} ({}): {}", output.status, output.last_line());
    }
    Ok(())
}

/// A name for an open file of this process that its child can open.
fn of_ours(file: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())
}

/// The initramfs and the archive behind it, in memory that no file system shows.
fn with_keys(initramfs: &File, keys: &[(Line, Option<Passphrase>)]) -> Result<File> {
    let archive = keys::archive(keys)?;
    let mut initramfs = initramfs;
    let mut both =
        File::from(memfd_create("initramfs", MemfdFlags::CLOEXEC).context("making a file in memory")?);
    initramfs.seek(SeekFrom::Start(0))?;
    let size = std::io::copy(&mut initramfs, &mut both).context("copying")?;
    // The kernel looks for the next archive at a multiple of four.
    let padding = [0; 3];
    both.write_all(padding.get(..(4 - size as usize % 4) % 4).unwrap_or_default()).context("padding")?;
    both.write_all(&archive).context("writing the archive")?;
    Ok(both)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn the_archive_begins_where_the_kernel_looks_for_it() {
        let key = || Passphrase::from(Zeroizing::new(b"secret".to_vec()));
        let line = Line { name: "x".into(), uuid: "1".into(), options: "luks".into() };
        for size in 100..105 {
            let mut initramfs = tempfile::tempfile().unwrap();
            initramfs.write_all(&vec![b'i'; size]).unwrap();
            let mut both = with_keys(&initramfs, &[(line.clone(), Some(key()))]).unwrap();
            let mut bytes = Vec::new();
            both.rewind().unwrap();
            both.read_to_end(&mut bytes).unwrap();
            let start = size.next_multiple_of(4);
            assert!(
                bytes[..size].iter().all(|byte| *byte == b'i')
                    && bytes[size..start].iter().all(|byte| *byte == 0)
            );
            assert!(bytes[start..].starts_with(b"070701"), "{size}");
        }
    }
}
