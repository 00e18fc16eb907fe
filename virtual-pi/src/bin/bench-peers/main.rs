//! `bench-peers`: boots Pi Lifeboat and the systems to beat side by side, and compares. `.ci/bench` prepares what it needs
//! and starts it; docs/bench.md says what the figures mean, and what they do not say.

mod banner;
mod boot;
mod case;
mod console;
mod fetch;
mod figures;
mod server;
mod site;
mod ssh_throughput;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use boot::Run;
use case::Case;
use fetch::Fetched;
use server::Server;
use site::Site;
use ssh_throughput::Throughput;

/// Compare Pi Lifeboat with dracut, live-boot and dropbear-initramfs.
#[derive(Debug, Parser)]
struct Arguments {
    /// The folder with the peers' initramfs files and the OS images.
    #[arg(long, value_name = "DIR")]
    peers: PathBuf,
    /// The folder with ours: initramfs, initramfs-peers, ssh_key, site/ (the OS images with their manifests).
    #[arg(long, value_name = "DIR")]
    ours: PathBuf,
    /// The kernel that all of them boot.
    #[arg(long, value_name = "FILE")]
    kernel: PathBuf,
    /// How often each is booted.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How often with the large image.
    #[arg(long, default_value_t = 2)]
    large_rounds: u32,
    /// Where the figures go, as JSON.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Only these: ours-small, live-boot-large, dracut-small, dropbear-ssh, ours-fetch, ours-ssh-throughput …; or the first part of a name.
    #[arg(value_name = "CASE")]
    only: Vec<String>,
}

/// All that was measured.
#[derive(Debug, Default, serde::Serialize)]
struct Measured {
    runs: Vec<Run>,
    fetched: Vec<Fetched>,
    throughput: Vec<Throughput>,
}

fn main() -> ExitCode {
    match bench(&Arguments::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("bench: {failed} runs failed (above): the figures are without them");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Everything in order. Returns how many runs failed.
fn bench(arguments: &Arguments) -> Result<usize> {
    let server = Server::start(&arguments.ours.join("site"), &arguments.ours.join("http"))?;
    let site = Site::new(arguments, server.port())?;
    let mut measured = Measured::default();
    let mut failed = 0;
    let only = |case: &Case| arguments.only.iter().any(|name| case.to_string().starts_with(name.as_str()));
    for case in case::order(arguments.rounds, arguments.large_rounds) {
        if !arguments.only.is_empty() && !only(&case) {
            continue;
        }
        match measure(&site, case, &mut measured) {
            Ok(line) => println!("bench: {case}: {line}"),
            Err(error) => {
                failed += 1;
                eprintln!("bench: {case}: {error:#}");
            }
        }
    }
    let figures = figures::of(&measured, &site);
    let save = |path: &PathBuf, json: serde_json::Result<String>| {
        let json = json.context("writing JSON")?;
        std::fs::write(path, json + "\n").with_context(|| format!("writing {}", path.display()))
    };
    save(&site.log.join("runs.json"), serde_json::to_string_pretty(&measured))?;
    save(&arguments.output, serde_json::to_string_pretty(&figures))?;
    println!("\nMedians (least-most). Rounds: {}, large {}.", arguments.rounds, arguments.large_rounds);
    print!("{}", virtual_pi::figures::table(&figures));
    println!("\nfigures: {}, all runs and consoles: {}", arguments.output.display(), site.log.display());
    Ok(failed)
}

/// One run. Returns what it gave, for people.
fn measure(site: &Site, case: Case, measured: &mut Measured) -> Result<String> {
    if case.goal == case::Goal::Fetch {
        let fetched = fetch::run(site, case)?;
        let line = fetched.to_string();
        measured.fetched.push(fetched);
        return Ok(line);
    }
    if case.goal == case::Goal::SshThroughput {
        let throughput = ssh_throughput::run(site, case)?;
        let line = throughput.to_string();
        measured.throughput.push(throughput);
        return Ok(line);
    }
    let run = boot::run(site, case)?;
    let line = run.to_string();
    measured.runs.push(run);
    Ok(line)
}
