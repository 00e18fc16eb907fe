//! `bench-server`: the boot server beside dnsmasq, tftpd-hpa and nginx, with the same clients on the same line, in turns.
//! `.ci/bench` prepares what it needs and starts it; docs/bench.md says what the figures mean.

mod http;
mod load;
mod pi;
mod process;
mod servers;
mod site;
mod tftp;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use virtual_pi::figures::{Figure, table};

use load::{Files, LOADS, Load, Run};
use servers::Kind;
use site::Site;

/// Compare the boot server with dnsmasq, tftpd-hpa and nginx. Needs root.
#[derive(Debug, Parser)]
struct Arguments {
    /// The folder for files, settings and logs.
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
    /// Our server.
    #[arg(long, value_name = "PROGRAM")]
    http_boot: PathBuf,
    /// How often each load is put on each server.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Where the figures go, as JSON.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Only these: tftp-1-0ms, tftp-64-20ms, http-1000, pis-tftp …; or the first part of a name.
    #[arg(value_name = "CASE")]
    only: Vec<String>,
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
    for word in &arguments.only {
        anyhow::ensure!(
            LOADS.iter().any(|load| load.to_string().starts_with(word.as_str())),
            "there is no load {word:?}: there are {}",
            LOADS.map(|load| load.to_string()).join(", ")
        );
    }
    let mut site = Site::enter(&arguments.folder, &arguments.http_boot)?;
    let files = Files::put(&site)?;
    let mut places = BTreeMap::new();
    for kind in [Kind::Ours, Kind::Dnsmasq, Kind::Tftpd, Kind::Nginx] {
        places.insert(kind, site.place()?);
    }
    let (mut runs, mut failed) = (Vec::new(), 0);
    let only = |load: &Load| arguments.only.iter().any(|name| load.to_string().starts_with(name.as_str()));
    let loads = LOADS.into_iter().filter(|load| arguments.only.is_empty() || only(load));
    let loads: Vec<_> = loads.collect();
    for round in 0..arguments.rounds {
        for load in &loads {
            // Who comes first changes, so that no server always meets the same.
            let servers = load.servers();
            for turn in 0..servers.len() {
                let Some(kind) = servers.get((turn + round) % servers.len()).copied() else { continue };
                let place = places.get(&kind).context("a server without a place")?;
                match load::run(*load, kind, place, &site, &files) {
                    Ok(run) => {
                        println!("bench: {load}: {}: {run}", kind.name());
                        runs.push(run);
                    }
                    Err(error) => {
                        failed += 1;
                        eprintln!("bench: {load}: {}: {error:#}", kind.name());
                    }
                }
            }
        }
    }
    let figures: Vec<_> = loads.iter().flat_map(|load| figures(*load, &runs)).collect();
    save(&arguments.folder.join("runs.json"), serde_json::to_string_pretty(&runs))?;
    save(&arguments.output, serde_json::to_string_pretty(&figures))?;
    println!("\nMedians (least-most). Rounds: {}.", arguments.rounds);
    print!("{}", table(&figures));
    println!("\nfigures: {}, all runs and logs: {}", arguments.output.display(), site.folder.display());
    Ok(failed)
}

fn save(path: &Path, json: serde_json::Result<String>) -> Result<()> {
    let json = json.context("writing JSON")?;
    std::fs::write(path, json + "\n").with_context(|| format!("writing {}", path.display()))
}

/// Ours against each peer, under one load.
fn figures(load: Load, runs: &[Run]) -> Vec<Figure> {
    let (title, peers) = (load.title(), load.servers().iter().filter(|kind| **kind != Kind::Ours));
    let values = |kind: Kind, read: fn(&Run) -> f64| -> Vec<f64> {
        runs.iter().filter(|run| run.load == load && run.server == kind).map(read).collect()
    };
    let mut figures = Vec::new();
    for peer in peers.copied() {
        let mut compare = |what: &str, unit, aim, read: fn(&Run) -> f64| {
            let name = format!("{title}: {what}, {}", peer.name());
            figures.push(Figure::new(name, unit, aim, values(Kind::Ours, read), values(peer, read)));
        };
        compare("throughput", "MB/s", "at least 1", |run| run.rate);
        if !load.waits_for_the_line() {
            compare("CPU", "s/GB", "at most 1", |run| run.cpu_seconds);
        }
        compare("memory", "MiB", "at most 1", |run| run.memory);
        compare("memory, its own", "MiB", "at most 1", |run| run.own_memory);
        if matches!(load, Load::TftpPis | Load::HttpPis) {
            compare("slowest by mean", "", "ours at most 1.5", |run| run.slowest_by_mean);
        }
    }
    figures
}
