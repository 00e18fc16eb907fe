//! One connection: who logs in, and what their channels ask for.

use std::collections::HashMap;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use anyhow::{Context, Result};
use russh::keys::ssh_key::{Algorithm, HashAlg};
use russh::keys::{Certificate, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Pty, Sig};

use super::authorized_keys::AuthorizedKeys;
use super::forward;
use super::intake::{self, Intake, PROBE, WINDOW};
use super::login::{self, Ends, Task, Wishes};
use super::permissions::Permissions;
use super::priority::Priority;
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
    priority: Priority,
    channels: HashMap<ChannelId, Open>,
    /// A wrong user name is reported once.
    refused_user: bool,
    /// The fingerprint of the key that logged in.
    key: String,
    /// What it may do.
    permissions: Permissions,
}

/// A channel that is open.
#[derive(Debug)]
struct Open {
    out: Arc<ChannelWriteHalf<Msg>>,
    wishes: Wishes,
    terminal: Option<Terminal>,
    work: Option<(Work, Intake)>,
}

/// What a channel does.
#[derive(Debug)]
enum Work {
    Program(Arc<Running>),
    Forward(tokio::task::AbortHandle),
}

impl Open {
    fn new(out: ChannelWriteHalf<Msg>) -> Self {
        Open { out: Arc::new(out), wishes: Wishes::default(), terminal: None, work: None }
    }

    fn program(&self) -> Option<&Arc<Running>> {
        match &self.work {
            Some((Work::Program(running), _)) => Some(running),
            _ => None,
        }
    }
}

impl Connection {
    /// A connection at its begin.
    pub fn new(
        settings: Settings,
        ends: Ends,
        control: UnixStream,
        programs: Arc<Programs>,
        priority: Priority,
    ) -> Self {
        let log = settings.log();
        let channels = HashMap::new();
        Connection {
            settings,
            log,
            ends,
            control,
            programs,
            priority,
            channels,
            refused_user: false,
            key: String::new(),
            permissions: Permissions::default(),
        }
    }

    /// Whether `user` may log in with what is named `name`, as `permissions` of the keys and the client's address say.
    fn judge(
        &mut self,
        user: &str,
        name: &str,
        permissions: impl Fn(&AuthorizedKeys, IpAddr) -> Result<Permissions, String>,
    ) -> Option<Permissions> {
        let from = self.ends.peer.ip().to_canonical();
        if user != USER {
            if !self.refused_user {
                self.log.say(format!("refused {user:?} from {from}: only {USER} logs in here"));
            }
            self.refused_user = true;
            return None;
        }
        let path = &self.settings.authorized_keys;
        let judged = AuthorizedKeys::read(path)
            .map_err(|error| format!("{error:#}"))
            .and_then(|keys| permissions(&keys, from).map_err(|why| format!("{}: {why}", path.display())));
        judged.map_err(|why| self.log.say(format!("refused {name} from {from}: {why}"))).ok()
    }

    /// The same for a key that signs with `algorithm`.
    fn judge_key(&mut self, user: &str, key: &PublicKey, algorithm: &Algorithm) -> Option<Permissions> {
        let name = format!("the key {}", key.fingerprint(HashAlg::Sha256));
        self.judge(user, &name, |keys, from| match algorithm {
            Algorithm::Rsa { hash: None } => Err("its client signs with SHA-1".into()),
            _ => keys.permissions(key, from),
        })
    }

    fn grant(&mut self, name: String, permissions: Option<Permissions>) -> Auth {
        let Some(permissions) = permissions else { return Auth::reject() };
        self.key = name;
        self.permissions = permissions;
        Auth::Accept
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
        anyhow::ensure!(open.work.is_none(), "a channel asked for a second program");
        let terminal = open.terminal.take();
        let (task, original) = task.forced(self.permissions.command.as_deref());
        let greeting = match (&task, &terminal) {
            (Task::Shell, Some(_)) => login::greeting(&self.settings.run, &open.wishes),
            _ => Vec::new(),
        };
        let mut environment = login::environment(&self.settings, self.ends, &open.wishes, terminal.as_ref());
        environment.extend(original.map(|line| ("SSH_ORIGINAL_COMMAND".into(), line)));
        let program = program::start(&self.settings, task, environment, terminal, self.programs.way_in())?;
        let (intake, outlet) = intake::queue();
        let running = self.programs.attend(program, open.out.clone(), session.handle(), outlet, greeting);
        open.work = Some((Work::Program(running), intake));
        Ok(())
    }

    /// Whether there may be one channel more. Forwardings that came to nothing are forgotten here: their client never
    /// closes them.
    fn has_room(&mut self) -> bool {
        self.channels
            .retain(|_, open| !matches!(&open.work, Some((Work::Forward(task), _)) if task.is_finished()));
        self.channels.len() < CHANNELS
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

    /// `russh` does not say here whether the key came in a certificate. Where there are authorities, any key may have:
    /// the answer is then given to the signature.
    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, russh::Error> {
        let has_authorities =
            AuthorizedKeys::read(&self.settings.authorized_keys).is_ok_and(|keys| keys.has_authorities());
        let sha1 = matches!(offer.algorithm, Algorithm::Rsa { hash: None });
        if has_authorities && user == USER && !sha1 {
            return Ok(Auth::Accept);
        }
        let permissions = self.judge_key(user, offer.public_key, offer.algorithm);
        Ok(if permissions.is_some() { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        let permissions = self.judge_key(user, key.public_key, key.algorithm);
        Ok(self.grant(key.public_key.fingerprint(HashAlg::Sha256).to_string(), permissions))
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, russh::Error> {
        let name = format!(
            "the certificate {:?}, number {}, signed by {}",
            certificate.key_id(),
            certificate.serial(),
            certificate.signature_key().fingerprint(HashAlg::Sha256)
        );
        let permissions =
            self.judge(user, &name, |keys, from| keys.certificate_permissions(certificate, user, from));
        Ok(self.grant(name, permissions))
    }

    async fn auth_succeeded(&mut self, _: &mut Session) -> Result<(), russh::Error> {
        self.priority.restore();
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
        if !self.has_room() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        // The half to read from goes: data comes through `data` below, for the reason that `intake` has.
        let open = Open::new(channel.split().1);
        self.channels.insert(open.out.id(), open);
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        let port = u16::try_from(port).unwrap_or(0);
        if !self.permissions.forwarding.permits(host, port) {
            self.log.say(format!("refused to forward to {host:?}, port {port}: its key does not permit it"));
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        }
        let addresses = forward::addresses(host, port);
        if addresses.is_empty() {
            self.log.say(format!("refused to forward to {host:?}: names are not looked up, give an address"));
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return Ok(());
        }
        if !self.has_room() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let mut open = Open::new(channel.split().1);
        let (intake, outlet) = intake::queue();
        let task = tokio::spawn(forward::carry(addresses, reply, open.out.clone(), outlet));
        open.work = Some((Work::Forward(task.abort_handle()), intake));
        self.channels.insert(open.out.id(), open);
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        match self.channels.remove(&id).and_then(|open| open.work) {
            Some((Work::Program(running), _)) => running.hang_up(),
            Some((Work::Forward(task), _)) => task.abort(),
            None => {}
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        if let Some((_, intake)) = self.channels.get_mut(&id).and_then(|open| open.work.as_mut()) {
            intake.end();
        }
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut Session) -> Result<(), russh::Error> {
        if let Some((_, intake)) = self.channels.get(&id).and_then(|open| open.work.as_ref()) {
            intake.take(data).await;
        }
        Ok(())
    }

    /// `russh` has one target for all windows of a connection: while one queue is high, all clients' windows are
    /// opened by probes only.
    fn adjust_window(&mut self, _: ChannelId, _: u32) -> u32 {
        let high = |open: &Open| open.work.as_ref().is_some_and(|(_, intake)| intake.is_high());
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
        let Some(open) = self.channels.get_mut(&id).filter(|_| self.permissions.pty) else {
            return session.channel_failure(id);
        };
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
            let running = open.program().and_then(|running| running.master.as_ref());
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
        let running = self.channels.get(&id).and_then(Open::program);
        if let (Some(running), Some(signal)) = (running, signal_of(&signal)) {
            running.signal(signal);
        }
        Ok(())
    }
}
