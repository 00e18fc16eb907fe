//! Leaving: the order of a hand-over to the real OS, and of the machine's end. PID 1 runs this itself, since only it
//! can exec the next PID 1.
//!
//! A hand-over can still fail at each of its steps, the exec included, and PID 1 then goes on from the initramfs as
//! before: nothing of it is deleted until the exec has worked (see [`super::sweep`]).

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, chdir, chroot, execve, fchdir};
use rustix::fs::{Mode, OFlags};
use rustix::system::{RebootCommand, reboot};

use super::control::Destination;
use super::supervisor::End;
use super::watchdog::Watchdog;
use super::{cgroups, mounts, systemd, usr};
use crate::status::{HAND_OVER_FAILED_PATH, REBOOT_ARGUMENT_PATH};

/// How long children have to end by themselves. SSH sessions are told why.
const GRACE: Duration = Duration::from_secs(2);

/// Mounts that the OS takes over as they are (systemd's initrd interface: `/run` is kept).
const KEPT: [&str; 4] = ["/dev", "/proc", "/sys", "/run"];

/// Goes over to the OS. Returns only when it failed, with the reason and the initramfs as root again.
pub fn hand_over(destination: &Destination, began_us: i64, watchdog: &mut Watchdog) -> anyhow::Error {
    tracing::info!("hand-over: switching root to {}, exec {}", destination.root, destination.init);
    stop_children();
    cgroups::remove();
    // A disk that somebody mounted would stay so, out of the OS' sight.
    let kept = ["/run/", usr::USR, &destination.root].map(str::to_owned);
    while_fed(watchdog, move || mounts::unmount_disks(&kept));
    let Err(error) = leave(destination, began_us);
    // The boot must not try the same again and again: each try ends every SSH session.
    let _ = std::fs::write(HAND_OVER_FAILED_PATH, format!("{error:#}"));
    error
}

fn leave(destination: &Destination, began_us: i64) -> Result<std::convert::Infallible> {
    let old_root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context("opening the initramfs")?;
    forget_secrets();
    flush_network();
    let sweeper = start_sweeper()?;
    let Err(error) =
        move_kept_mounts("", &destination.root).and_then(|()| switch_and_exec(destination, began_us));
    if let Err(worse) = go_back(&old_root, sweeper, destination) {
        tracing::error!("returning to the initramfs: {worse:#}");
    }
    Err(error)
}

/// Whether something is taken away is the command line's business: see [`super::flush`]. Nothing else runs any more that
/// could add it again.
fn flush_network() {
    let limit = Instant::now() + GRACE;
    let mut child = match Command::new("/init").arg("flush").stdin(Stdio::null()).spawn() {
        Ok(child) => child,
        Err(error) => return tracing::warn!("starting /init flush: {error}"),
    };
    while child.try_wait().is_ok_and(|ended| ended.is_none()) {
        if Instant::now() > limit {
            tracing::warn!("/init flush hangs: going on without it");
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What `rescue unlock` left in root's keyring, and a kernel that was loaded with it, are not the OS' business: its first
/// reboot would start that kernel (systemctl(1)). `rescue boot` has done the same before a boot into a disk; here it is done
/// whatever the boot goes to.
fn forget_secrets() {
    use nix::libc;
    const KEYCTL_CLEAR: libc::c_long = 7;
    const KEY_SPEC_USER_KEYRING: libc::c_long = -4;
    const NONE: libc::c_long = 0;
    // SAFETY: neither call is given an address (keyctl(2); kexec_load(2): no segments take back what is loaded).
    #[allow(unsafe_code, reason = "neither nix nor rustix has these calls")]
    unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_CLEAR, KEY_SPEC_USER_KEYRING);
        libc::syscall(libc::SYS_kexec_load, NONE, NONE, NONE, NONE);
    }
}

fn move_kept_mounts(from: &str, to: &str) -> Result<()> {
    for kept in KEPT {
        let (from, to) = (format!("{from}{kept}"), format!("{to}{kept}"));
        if mounts::is_mounted(&from) {
            move_mount(&from, &to).with_context(|| format!("moving {from} to {to}"))?;
        }
    }
    Ok(())
}

fn switch_and_exec(destination: &Destination, began_us: i64) -> Result<std::convert::Infallible> {
    chdir(destination.root.as_str()).with_context(|| format!("changing to {}", destination.root))?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .context("moving the new root to /")?;
    chroot(".").context("changing root")?;
    chdir("/").context("changing to the new /")?;
    let environment = [
        c"TERM=linux".to_owned(),
        c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
    ];
    let with_timestamps = systemd::arguments(&destination.init, began_us);
    let arguments = with_timestamps.into_iter().chain(destination.arguments.iter().cloned());
    let argv = std::iter::once(destination.init.clone()).chain(arguments);
    let argv =
        argv.map(|word| CString::new(word).context("a NUL in an argument")).collect::<Result<Vec<_>>>()?;
    let program = CString::new(destination.init.as_str()).context("a NUL in the program's path")?;
    become_ordinary();
    execve(&program, &argv, &environment).with_context(|| format!("executing {}", destination.init))
}

/// What PID 1 is by its own choice, the OS' init is not: it chooses for itself. Both survive an exec.
fn become_ordinary() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    // SAFETY: no handler is installed; the signal gets its default action, as at a program's start. Rust's runtime had
    // it ignored.
    #[allow(unsafe_code, reason = "signal(2) with SIG_DFL")]
    let _ = unsafe { nix::sys::signal::signal(Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl) };
}

/// The sweeper empties the initramfs once its standard input closes, which the exec does (the pipe is close-on-exec).
fn start_sweeper() -> Result<Child> {
    Command::new("/init").arg("sweep").stdin(Stdio::piped()).spawn().context("starting the sweeper")
}

/// Undoes what [`leave`] did, in reverse. The vm tier's test `a_hand_over_that_fails_leads_back` holds it.
fn go_back(old_root: &OwnedFd, mut sweeper: Child, destination: &Destination) -> Result<()> {
    let _ = kill(Pid::from_raw(sweeper.id() as i32), Signal::SIGKILL);
    let _ = sweeper.wait();
    fchdir(old_root).context("changing to the initramfs")?;
    // Where the new root lies on / already, it goes back to its place; where it does not, / is no mount of its own.
    let place = destination.root.trim_start_matches('/');
    let _ = mount(Some("/"), place, None::<&str>, MsFlags::MS_MOVE, None::<&str>);
    chroot(".").context("changing root")?;
    chdir("/").context("changing to /")?;
    let moved = move_kept_mounts(&destination.root, "");
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    // What could not be moved back is mounted anew: /run is then empty, and the boot begins from nothing.
    mounts::mount_early()?;
    moved
}

fn move_mount(from: &str, to: &str) -> Result<()> {
    if !Path::new(to).exists() {
        std::fs::create_dir(to).with_context(|| format!("making {to}"))?;
    }
    mount(Some(from), to, None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    Ok(())
}

/// Ends every process but this one: TERM, then KILL, until none is left.
fn stop_children() {
    let everyone = Pid::from_raw(-1);
    let _ = kill(everyone, Signal::SIGTERM);
    let end = Instant::now() + GRACE;
    let mut killed = false;
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return,
            Ok(WaitStatus::StillAlive) if Instant::now() > end && !killed => {
                killed = true;
                let _ = kill(everyone, Signal::SIGKILL);
            }
            // One that even KILL does not end hangs in the kernel: go on without it.
            Ok(WaitStatus::StillAlive) if Instant::now() > end + GRACE => return,
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(2)),
            _ => {}
        }
    }
}

/// What is written to a slow card may take minutes to arrive; what takes longer never does.
const SYNC_LIMIT: Duration = Duration::from_secs(600);

/// Ends the machine in order: processes, buffers, mounts, then the kernel. The watchdog stays armed: should the way down
/// hang, the hardware ends it. Only another kernel may not know of it.
pub fn end_machine(how: End, watchdog: &mut Watchdog) {
    stop_children();
    while_fed(watchdog, || {
        nix::unistd::sync();
        mounts::unmount_disks(&[]);
        nix::unistd::sync();
    });
    if how == End::Kexec {
        watchdog.leave(false);
    }
    if how == End::Reboot {
        reboot_with_argument();
    }
    let (command, otherwise) = match how {
        End::Reboot => (RebootCommand::Restart, None),
        End::PowerOff => (RebootCommand::PowerOff, None),
        End::Halt => (RebootCommand::Halt, None),
        // Every process is gone: what brings this rescue back is the bootloader.
        End::Kexec => (RebootCommand::Kexec, Some(RebootCommand::Restart)),
    };
    for command in std::iter::once(command).chain(otherwise) {
        if let Err(error) = reboot(command) {
            tracing::error!("{how:?}, by {command:?}: {error}");
        }
    }
}

/// Does what may wait for a disk, in a thread, and feeds the watchdog meanwhile.
fn while_fed(watchdog: &mut Watchdog, work: impl FnOnce() + Clone + Send + 'static) {
    let began = Instant::now();
    let Ok(working) = std::thread::Builder::new().spawn(work.clone()) else { return work() };
    while !working.is_finished() && began.elapsed() < SYNC_LIMIT {
        watchdog.feed();
        let pause = if began.elapsed().as_secs() < 1 { 10 } else { 1000 };
        std::thread::sleep(Duration::from_millis(pause));
    }
}

/// Starts the machine anew with what [`REBOOT_ARGUMENT_PATH`] has for the firmware's driver. Comes back when there is no
/// such thing, or the kernel refuses it.
fn reboot_with_argument() {
    use nix::libc;
    let Ok(argument) = std::fs::read_to_string(REBOOT_ARGUMENT_PATH) else { return };
    let Ok(argument) = CString::new(argument.trim()) else { return };
    tracing::warn!("reboot argument: {argument:?}");
    // SAFETY: reboot(2) reads the argument, which is a string with its NUL and lives until the call is over.
    #[allow(unsafe_code, reason = "neither nix nor rustix has LINUX_REBOOT_CMD_RESTART2")]
    unsafe {
        let (one, two) = (libc::LINUX_REBOOT_MAGIC1, libc::LINUX_REBOOT_MAGIC2);
        libc::syscall(libc::SYS_reboot, one, two, libc::LINUX_REBOOT_CMD_RESTART2, argument.as_ptr());
    }
    tracing::error!("rebooting with this argument: {}", Errno::last());
}
