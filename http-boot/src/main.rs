//! `http-boot`: the boot server's command line.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use http_boot::dhcp::flags::Flags as DhcpFlags;
use http_boot::listen::{ListenAddress, TftpAddress, TlsListenAddress};
use http_boot::people::command::{TokenCommand, UserCommand, token, user};
use http_boot::server::{self, ServeOptions, TftpOptions};
use http_boot::store::prune::Policy;
use http_boot::{authority, doctor, fleet, log, tls};

/// Serve boot files to Raspberry Pis, and show what they report.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a folder over HTTP, and over TLS, TFTP and DHCP where asked to, until SIGINT or SIGTERM.
    Serve(Box<Serve>),
    /// Make an authority, and a certificate for this server that a Pi 4's bootloader takes.
    Ca(Ca),
    /// Check a fleet's file, and show what each Pi would do.
    Check(Check),
    /// Look at a site, and say what keeps Pis from booting and what to do.
    Doctor(Doctor),
    /// Say who may log in on the page.
    #[command(subcommand)]
    User(UserCommand),
    /// Make and remove tokens for programs that use the API.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Print the shell's completion script.
    Completions {
        /// The shell to complete for.
        shell: clap_complete::Shell,
    },
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
    /// The folder for the database of what was seen, of people and their orders; made where it is missing. Without one,
    /// nothing is kept and nobody can log in on the page.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// How many days the database keeps what devices reported.
    #[arg(long, value_name = "N", default_value_t = Policy::default().days, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    keep_days: u32,
    /// Give /metrics to everyone who can reach the port.
    #[arg(long)]
    metrics_open: bool,
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

/// What is named is looked at. The exit status is 1 where something keeps Pis from booting.
#[derive(clap::Args)]
struct Doctor {
    /// The folder that is served.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The folder for TFTP, where it is not tftp in --root.
    #[arg(long, value_name = "DIR")]
    tftp_root: Option<PathBuf>,
    /// The fleet's file.
    #[arg(long, value_name = "FILE")]
    fleet: Option<PathBuf>,
    /// The server's state folder: what it saw. The server may be running.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The server's certificate in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Its private key in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// What EEPROMs have as HTTP_HOST, for which the certificate has to be; may be given several times.
    #[arg(long, value_name = "HOST", requires = "tls_certificate")]
    name: Vec<String>,
    /// The interface that the Pis are on; may be given several times. Without one, all that have an IPv4 address.
    #[arg(long, value_name = "IF")]
    interface: Vec<String>,
    /// Where HTTP is to listen [default: port 80].
    #[arg(long, value_name = "ADDR[:PORT]")]
    listen: Vec<ListenAddress>,
    /// For how many seconds to listen for other servers and the switch. Some look for 3 s whether an address is free.
    #[arg(long, value_name = "SECONDS", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=120))]
    wait: u64,
    /// Show JSON.
    #[arg(long)]
    json: bool,
}

impl Doctor {
    /// Looks, prints, and gives the exit status.
    fn run(self) -> anyhow::Result<ExitCode> {
        let files = self.tls_certificate.zip(self.tls_key);
        let lines = doctor::examine(&doctor::Subject {
            root: self.root,
            tftp_root: self.tftp_root,
            fleet: self.fleet,
            state: self.state,
            tls: files.map(|(certificate, key)| tls::Files { certificate, key }),
            names: self.name,
            interfaces: self.interface,
            listen: self.listen.into_iter().map(|ListenAddress(address)| address).collect(),
            wait: Duration::from_secs(self.wait),
        });
        print!("{}", if self.json { doctor::json(&lines)? } else { doctor::text(&lines) });
        Ok(if doctor::is_ill(&lines) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

impl Serve {
    fn options(self) -> ServeOptions {
        let files = self.tls_certificate.zip(self.tls_key);
        let addresses = self.listen_tls.into_iter().map(|TlsListenAddress(address)| address).collect();
        ServeOptions {
            root: self.root,
            fleet: self.fleet,
            listen: self.listen,
            tls: files.map(|(certificate, key)| (addresses, tls::Files { certificate, key })),
            tftp: TftpOptions { listen: self.tftp, root: self.tftp_root, single_port: self.tftp_single_port },
            dhcp: self.dhcp.settings(),
            state: self.state,
            keep: Policy { days: self.keep_days, ..Policy::default() },
            metrics_open: self.metrics_open,
        }
    }
}

fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let is_json = matches!(&command, Command::Serve(serve) if serve.log_json);
    log::start(if is_json { log::Format::Json } else { log::Format::Text { colour } });
    let done = match command {
        Command::Doctor(doctor) => match doctor.run() {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Serve(serve) => server::run(serve.options()),
        Command::Ca(Ca { folder, name }) => {
            authority::make(&folder, &name).map(|made| print!("{}", made.text(&folder)))
        }
        Command::Check(Check { file, root, json }) => {
            fleet::report::show(&file, root.as_deref(), json).map(|text| print!("{text}"))
        }
        Command::User(command) => user(command),
        Command::Token(command) => token(command),
        Command::Completions { shell } => {
            print_completions(shell);
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what a shell completes. clap_complete 4.6 makes two names of a program's with a hyphen, so that bash finds no flag
/// behind a command (`tests/completions.rs`).
fn print_completions(shell: clap_complete::Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "http-boot", &mut script);
    print!("{}", String::from_utf8_lossy(&script).replace("http__subcmd__boot", "http__boot"));
}
