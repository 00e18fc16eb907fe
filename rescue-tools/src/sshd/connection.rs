//! One connection: who logs in, and what their channels ask for.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use anyhow::{Context, Result};
use russh::keys::PublicKey;
use russh::keys::ssh_key::{Algorithm, HashAlg};
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Pty, Sig};

use super::authorized_keys::AuthorizedKeys;
use super::intake::{self, Intake, PROBE, WINDOW};
use super::login::{self, Ends, Task, Wishes};
use super::program::{self, Programs, Running, signal_of};
use super::sessions;
use super::settings::Settings;
use super::terminal::{self, Terminal, Window};
use crate::kernel_log::KernelLog;

/// How many channels a connection may have open.
const CHANNELS: usize = 16;
/// The only one who logs in.
const USER: &str = "root";

/// What `russh` calls while the connection lasts.
#[derive(Debug)]
pub struct Connection {
    settings: Settings,
    log: KernelLog,
    ends: Ends,
    /// To the listener: one byte when someone has logged in.
    control: UnixStream,
    programs: Arc<Programs>,
    channels: HashMap<ChannelId, Open>,
    /// A wrong user name is reported once.
    refused_user: bool,
    /// The fingerprint of the key that logged in.
    key: String,
}

/// A channel that is open.
#[derive(Debug)]
struct Open {
    out: Arc<ChannelWriteHalf<Msg>>,
    wishes: Wishes,
    terminal: Option<Terminal>,
    program: Option<(Arc<Running>, Intake)>,
}

impl Connection {
    /// A connection at its begin.
    pub fn new(settings: Settings, ends: Ends, control: UnixStream, programs: Arc<Programs>) -> Self {
        let log = settings.log();
        let channels = HashMap::new();
        Connection {
            settings,
            log,
            ends,
            control,
            programs,
            channels,
            refused_user: false,
            key: String::new(),
        }
    }

    fn judge(&mut self, user: &str, key: &PublicKey, algorithm: &Algorithm) -> Auth {
        let from = self.ends.peer.ip().to_canonical();
        if user != USER {
            if !self.refused_user {
                self.log.say(format!("refused {user:?} from {from}: only {USER} logs in here"));
            }
            self.refused_user = true;
            return Auth::reject();
        }
        let fingerprint = key.fingerprint(HashAlg::Sha256);
        if matches!(algorithm, Algorithm::Rsa { hash: None }) {
            self.log.say(format!("refused the key {fingerprint} from {from}: its client signs with SHA-1"));
            return Auth::reject();
        }
        match AuthorizedKeys::read(&self.settings.authorized_keys) {
            Ok(keys) if keys.contains(key) => {
                self.key = fingerprint.to_string();
                Auth::Accept
            }
            Ok(_) => {
                let path = self.settings.authorized_keys.display();
                self.log.say(format!("refused the key {fingerprint} from {from}: it is not in {path}"));
                Auth::reject()
            }
            Err(error) => {
                self.log.say(format!("refused the key {fingerprint} from {from}: {error:#}"));
                Auth::reject()
            }
        }
    }

    /// Starts `task` on a channel, and tells the client whether that went well.
    fn start(&mut self, id: ChannelId, task: Task, session: &mut Session) -> Result<(), russh::Error> {
        match self.try_start(id, task, session) {
            Ok(()) => session.channel_success(id),
            Err(error) => {
                self.log.say(format!("{error:#}"));
                session.channel_failure(id)
            }
        }
    }

    fn try_start(&mut self, id: ChannelId, task: Task, session: &mut Session) -> Result<()> {
        let open = self.channels.get_mut(&id).context("starting a program on a channel that is not open")?;
        anyhow::ensure!(open.program.is_none(), "a channel asked for a second program");
        let terminal = open.terminal.take();
        let greeting = match (&task, &terminal) {
            (Task::Shell, Some(_)) => login::greeting(&self.settings.run, &open.wishes),
            _ => Vec::new(),
        };
        let environment = login::environment(&self.settings, self.ends, &open.wishes, terminal.as_ref());
        let program = program::start(&self.settings, task, environment, terminal)?;
        let (intake, outlet) = intake::queue();
        let running = self.programs.attend(program, open.out.clone(), session.handle(), outlet, greeting);
        open.program = Some((running, intake));
        Ok(())
    }

    /// Writes down that someone is logged in.
    fn note_login(&mut self) -> Result<()> {
        self.control.write_all(b"A").context("telling the listener of a login")?;
        sessions::begin(&self.settings.run)
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, russh::Error> {
        Ok(Some(login::banner(&self.settings.run)))
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, russh::Error> {
        Ok(self.judge(user, offer.public_key, offer.algorithm))
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        Ok(self.judge(user, key.public_key, key.algorithm))
    }

    async fn auth_succeeded(&mut self, _: &mut Session) -> Result<(), russh::Error> {
        self.log.say(format!(
            "{USER} logged in from {} with {}",
            self.ends.peer.ip().to_canonical(),
            self.key
        ));
        if let Err(error) = self.note_login() {
            self.log.say(format!("{error:#}"));
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        if self.channels.len() >= CHANNELS {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        // The half to read from goes: data comes through `data` below, for the reason that `intake` has.
        let (_, out) = channel.split();
        let open = Open { out: Arc::new(out), wishes: Wishes::default(), terminal: None, program: None };
        self.channels.insert(open.out.id(), open);
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        if let Some(Open { program: Some((running, _)), .. }) = self.channels.remove(&id) {
            running.hang_up();
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        if let Some(Open { program: Some((_, intake)), .. }) = self.channels.get_mut(&id) {
            intake.end();
        }
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut Session) -> Result<(), russh::Error> {
        if let Some(Open { program: Some((_, intake)), .. }) = self.channels.get(&id) {
            intake.take(data).await;
        }
        Ok(())
    }

    /// `russh` has one target for all windows of a connection: while one queue is high, all clients' windows are
    /// opened by probes only.
    fn adjust_window(&mut self, _: ChannelId, _: u32) -> u32 {
        let high = |open: &Open| open.program.as_ref().is_some_and(|(_, intake)| intake.is_high());
        if self.channels.values().any(high) { PROBE } else { WINDOW }
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let Some(open) = self.channels.get_mut(&id) else { return session.channel_failure(id) };
        match Terminal::open(term, Window { columns, rows, width, height }, modes) {
            Ok(terminal) => {
                open.terminal = Some(terminal);
                session.channel_success(id)
            }
            Err(error) => {
                self.log.say(format!("{error:#}"));
                session.channel_failure(id)
            }
        }
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        let window = Window { columns, rows, width, height };
        if let Some(open) = self.channels.get(&id) {
            let running = open.program.as_ref().and_then(|(running, _)| running.master.as_ref());
            if let Some(master) = running.or(open.terminal.as_ref().map(|terminal| &terminal.master)) {
                terminal::resize(master.get_ref(), window);
            }
        }
        Ok(())
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let set = self.channels.get_mut(&id).is_some_and(|open| open.wishes.set(name, value));
        if set { session.channel_success(id) } else { session.channel_failure(id) }
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        self.start(id, Task::Shell, session)
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        line: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.start(id, Task::Command(line.to_vec()), session)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        match login::sftp_server() {
            Some(path) if name == "sftp" => self.start(id, Task::Sftp(path), session),
            _ => {
                self.log
                    .say(format!("refused the subsystem {name:?}: there is no program for it in this image"));
                session.channel_failure(id)
            }
        }
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(id)
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, _: &mut Session) -> Result<(), russh::Error> {
        if let (Some(Open { program: Some((running, _)), .. }), Some(signal)) =
            (self.channels.get(&id), signal_of(&signal))
        {
            running.signal(signal);
        }
        Ok(())
    }
}
