//! `http-boot`: the boot server's command line.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use http_boot::dhcp::flags::Flags as DhcpFlags;
use http_boot::server::{self, ListenAddress, ServeOptions, TftpAddress, TftpOptions, TlsListenAddress};
use http_boot::{authority, fleet, log, tls};

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
    /// Make an authority, and a certificate for this server that a Pi 4's bootloader takes.
    Ca(Ca),
    /// Check a fleet's file, and show what each Pi would do.
    Check(Check),
}

#[derive(clap::Args)]
struct Serve {
    /// The folder to serve. Files whose name starts with a dot are never served, nor is anything outside of it.
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Where to listen, as ADDR or ADDR:PORT (IPv6: [ADDR]:PORT); may be given several times. Port 0 takes a free one.
    #[arg(long, value_name = "ADDR[:PORT]", default_value = "127.0.0.1:8080")]
    listen: Vec<ListenAddress>,
    /// Where to listen for TLS, as --listen; port 8443 where only the port is missing.
    #[arg(long, value_name = "ADDR[:PORT]", requires = "tls_certificate")]
    listen_tls: Vec<TlsListenAddress>,
    /// The server's certificate in PEM, with those between it and the authority (`http-boot ca` makes one).
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "listen_tls"])]
    tls_certificate: Option<PathBuf>,
    /// Its private key in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// What each Pi shall do: a `fleet.toml`. It is read again when it changes; a wrong change changes nothing.
    #[arg(long, value_name = "FILE")]
    fleet: Option<PathBuf>,
    /// Serve TFTP too, at port 69 of all addresses or where ADDR[:PORT] says; may be given several times.
    #[arg(long, value_name = "ADDR[:PORT]", num_args = 0..=1, default_missing_value = "[::]:69")]
    tftp: Vec<TftpAddress>,
    /// The folder that TFTP serves. Without it, the folder tftp in --root, which `boot-files build` makes.
    #[arg(long, value_name = "DIR", requires = "tftp")]
    tftp_root: Option<PathBuf>,
    /// Answer TFTP from the port that was asked, not from a new one for each file: for firewalls in between.
    #[arg(long, requires = "tftp")]
    tftp_single_port: bool,
    /// Log one JSON object per line.
    #[arg(long)]
    log_json: bool,
    #[command(flatten)]
    dhcp: DhcpFlags,
}

#[derive(clap::Args)]
struct Ca {
    /// Where ca.key, ca.pem, ca.der, server.key and server.pem go. An authority that is there is used again.
    folder: PathBuf,
    /// A name or IP address of the server, as the EEPROM's HTTP_HOST has it; may be given several times.
    #[arg(long, value_name = "HOST", required = true)]
    name: Vec<String>,
}

#[derive(clap::Args)]
struct Check {
    /// The fleet's file.
    file: PathBuf,
    /// The folder that is served: the files that the fleet names have to be there.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Show JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve(serve) => return run(serve),
        Command::Ca(Ca { folder, name }) => authority::make(&folder, &name).map(|made| made.text(&folder)),
        Command::Check(Check { file, root, json }) => fleet::report::show(&file, root.as_deref(), json),
    };
    match result {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("http-boot: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(serve: Serve) -> ExitCode {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    log::start(if serve.log_json { log::Format::Json } else { log::Format::Text { colour } });
    let files = serve.tls_certificate.zip(serve.tls_key);
    let files = files.map(|(certificate, key)| tls::Files { certificate, key });
    let addresses = serve.listen_tls.into_iter().map(|TlsListenAddress(address)| address).collect();
    let tls = files.map(|files| (addresses, files));
    let tftp = TftpOptions { listen: serve.tftp, root: serve.tftp_root, single_port: serve.tftp_single_port };
    let dhcp = serve.dhcp.settings();
    let options =
        ServeOptions { root: serve.root, fleet: serve.fleet, listen: serve.listen, tls, tftp, dhcp };
    match server::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
