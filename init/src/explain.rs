//! `init --explain 'CMDLINE'`: what a boot with that line would do, on any host.

use std::fmt::Write;

use crate::cmdline::CommandLine;
use crate::ip::Method;
use crate::plan::{Console, Goal, Hold, Plan};
use crate::steps;

/// The explanation, and whether every word was understood.
pub fn explain(command_line: &str) -> (String, bool) {
    let plan = Plan::parse(&CommandLine::parse(command_line));
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_plan(&plan, &mut text);
    (text, plan.problems.is_empty())
}

fn write_plan(plan: &Plan, text: &mut String) -> std::fmt::Result {
    for problem in &plan.problems {
        writeln!(text, "not understood: {problem}")?;
    }
    write_goal(plan, text)?;
    write_network(plan, text)?;
    if let Some(server) = &plan.server {
        writeln!(text, "events: to {server}")?;
    }
    match plan.reboot_after {
        Some(0) => writeln!(text, "a failed boot: is never started anew")?,
        Some(seconds) => {
            writeln!(text, "a failed boot: starts anew after {seconds} s with neither progress nor a login")?;
        }
        None => {}
    }
    match plan.console {
        Console::Key => {}
        Console::Open => writeln!(text, "console: a shell for whoever asks")?,
        Console::Off => writeln!(text, "console: no shell")?,
    }
    for (step, times) in &plan.fail {
        writeln!(text, "test: {step} fails {times} times")?;
    }
    let further: &[&str] = match plan.goal {
        Goal::Rescue => &[steps::RESCUE],
        Goal::RamBoot(_) => &steps::RAM_BOOT,
        Goal::DiskBoot(_) => &steps::DISK_BOOT,
    };
    let names: Vec<&str> = steps::COMMON.iter().chain(further).copied().collect();
    writeln!(text, "steps: {}", names.join(", "))
}

fn write_goal(plan: &Plan, text: &mut String) -> std::fmt::Result {
    match &plan.goal {
        Goal::Rescue if !plan.problems.is_empty() => {
            writeln!(text, "goal: rescue, since the words above were not understood")?;
        }
        Goal::Rescue => writeln!(text, "goal: rescue (SSH, until somebody ends it)")?,
        Goal::RamBoot(boot) => {
            writeln!(text, "goal: an OS in RAM")?;
            writeln!(text, "  image: {}, checked {}", boot.url, boot.trust.describe())?;
            match boot.overlay {
                Some(size) => writeln!(text, "  overlay: up to {size}")?,
                None => writeln!(text, "  overlay: all that image and floor leave")?,
            }
            writeln!(text, "  kept free for the OS: {}", boot.floor)?;
            let arguments = boot.init_arguments.iter().map(|word| format!(" {word}")).collect::<String>();
            writeln!(text, "  then: exec {}{arguments}", boot.init)?;
            match boot.hold {
                None => {}
                Some(Hold::BeforeRoot) => writeln!(text, "  but: is held before anything is fetched")?,
                Some(Hold::BeforeHandOver) => writeln!(text, "  but: is held before the hand-over")?,
            }
        }
        Goal::DiskBoot(boot) => {
            writeln!(text, "goal: the OS on a disk")?;
            writeln!(text, "  root: {}", boot.root.as_deref().unwrap_or("the only Linux that is found"))?;
            for uuid in &boot.luks {
                writeln!(text, "  waits until somebody opens the LUKS device {uuid} (rescue unlock)")?;
            }
            if boot.kexec {
                writeln!(text, "  then: kexec of the disk's own kernel, with its own command line")?;
            } else {
                writeln!(text, "  then: exec {}", boot.init)?;
            }
            if boot.hold.is_some() {
                writeln!(text, "  but: is held on the way")?;
            }
        }
    }
    Ok(())
}

fn write_network(plan: &Plan, text: &mut String) -> std::fmt::Result {
    if plan.network.interfaces.is_empty() {
        writeln!(text, "network: DHCP on every wired interface")?;
    }
    for interface in &plan.network.interfaces {
        let device = interface.device.as_deref().unwrap_or("every wired interface");
        match &interface.method {
            Method::Dhcp => writeln!(text, "network: DHCP on {device}")?,
            Method::Off => writeln!(text, "network: no IPv4 address on {device}")?,
            Method::Static { address, prefix, gateway } => {
                let gateway = gateway.map_or("no gateway".into(), |gateway| format!("gateway {gateway}"));
                writeln!(text, "network: {address}/{prefix} on {device}, {gateway}")?;
            }
        }
    }
    for server in &plan.network.nameservers {
        writeln!(text, "name server: {server}")?;
    }
    if let Some(hostname) = &plan.hostname {
        writeln!(text, "host name: {hostname}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explains_a_ram_boot() {
        let (text, understood) =
            explain("root=live:http://192.0.2.1/d.squashfs ip=192.0.2.7::192.0.2.1:24:cm4:eth0:off -- -s");
        assert!(understood);
        for part in
            ["an OS in RAM", "signed manifest", "192.0.2.7/24 on eth0", "exec /sbin/init -s", "hand-over"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn says_what_it_does_not_understand() {
        let (text, understood) = explain("lifeboat.typo=1");
        assert!(!understood);
        assert!(text.starts_with("not understood: lifeboat.typo=1: no such parameter"), "{text}");
    }
}
