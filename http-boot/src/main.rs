//! `http-boot`: the boot server's command line.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use http_boot::log;
use http_boot::people::command::{TokenCommand, UserCommand, token, user};
use http_boot::server::{self, ListenAddress, ServeOptions};
use http_boot::store::prune::Policy;

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
    /// Say who may log in on the page.
    #[command(subcommand)]
    User(UserCommand),
    /// Make and remove tokens for programs that use the API.
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(clap::Args)]
struct Serve {
    /// The folder to serve. Files whose name starts with a dot are never served, nor is anything outside of it.
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Where to listen, as ADDR or ADDR:PORT (IPv6: [ADDR]:PORT); may be given several times. Port 0 takes a free one.
    #[arg(long, value_name = "ADDR[:PORT]", default_value = "127.0.0.1:8080")]
    listen: Vec<ListenAddress>,
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
}

impl Serve {
    fn options(self) -> ServeOptions {
        ServeOptions {
            root: self.root,
            listen: self.listen,
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
        Command::Serve(serve) => server::run(serve.options()),
        Command::User(command) => user(command),
        Command::Token(command) => token(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
