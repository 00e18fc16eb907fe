//! `http-boot`: the boot server's command line.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use http_boot::dhcp::flags::Flags as DhcpFlags;
use http_boot::log;
use http_boot::server::{self, ListenAddress, ServeOptions};

/// Serve boot files to Raspberry Pis, and show what they report.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a folder over HTTP until SIGINT or SIGTERM.
    Serve(Serve),
}

#[derive(clap::Args)]
struct Serve {
    /// The folder to serve. Files whose name starts with a dot are never served, nor is anything outside of it.
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Where to listen, as ADDR or ADDR:PORT (IPv6: [ADDR]:PORT); may be given several times. Port 0 takes a free one.
    #[arg(long, value_name = "ADDR[:PORT]", default_value = "127.0.0.1:8080")]
    listen: Vec<ListenAddress>,
    /// Log one JSON object per line.
    #[arg(long)]
    log_json: bool,
    #[command(flatten)]
    dhcp: DhcpFlags,
}

fn main() -> ExitCode {
    let Arguments { command: Command::Serve(serve) } = Arguments::parse();
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    log::start(if serve.log_json { log::Format::Json } else { log::Format::Text { colour } });
    let dhcp = serve.dhcp.settings();
    match server::run(ServeOptions { root: serve.root, listen: serve.listen, dhcp }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
