//! A transfer's task: moves a file's bytes to a socket, and what the client says to the [`Session`], until that ends.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};

use super::content::{Content, NotRead, Reader};
use super::options::Agreed;
use super::packet::{ErrorCode, Packet, Request, data_header};
use super::session::{End, Heard, Session, Wanted, low_half};
use super::socket::{Line, Listener, Route, is_gone};
use super::table::Seat;
use super::{Refusal, Tree};

/// A disk, or a server behind it, that gives no bytes for so long is broken.
const DISK_PATIENCE: Duration = Duration::from_secs(25);

/// What a full queue does not take for so long counts as lost.
const QUEUE_PATIENCE: Duration = Duration::from_secs(1);

/// So many packets of a client are heard at once, if it has no larger window.
const MOST_SAID: u16 = 16;

/// A question that got a place.
pub struct Question {
    /// Who asks where.
    pub route: Route,
    /// What.
    pub request: Request,
    /// The place.
    pub seat: Seat,
    /// What the client says on the socket that it asked; closed when the place is taken away.
    pub inbox: mpsc::Receiver<Heard>,
    /// The socket that it asked, where that is the one to answer on.
    pub shared: Option<Arc<Listener>>,
}

/// Why a transfer ended that did not come to an end with its client.
enum Cut {
    /// The place is needed by others.
    Displaced,
    /// The server stops.
    Stopped,
    /// The bytes cannot be had.
    Read(io::Error),
}

/// Answers a question. `opening`: so many files are opened at a time.
pub async fn run(question: Question, tree: Arc<dyn Tree>, opening: Arc<Semaphore>) {
    let started = Instant::now();
    let Question { route, request, seat, mut inbox, shared } = question;
    let opened = tokio::select! {
        opened = open(&tree, &route, &request, &opening) => opened,
        () = closed(&mut inbox) => return,
    };
    let line = match shared {
        Some(listener) => Line::Shared(listener, route),
        None => match Line::own(&route) {
            Ok(line) => line,
            Err(error) => {
                tracing::warn!(address = %route.peer, local = %route.local, "tftp: making a socket to answer with: {error}");
                return;
            }
        },
    };
    let file = String::from_utf8_lossy(&request.name).into_owned();
    let content = match opened {
        Ok(content) => content,
        Err(refusal) => {
            send_error(&line, refusal.code(), &refusal.to_string()).await;
            let client = tree.describe(route.peer.ip());
            tracing::info!(address = %route.peer, client, ?file, "tftp refused: {refusal}");
            return;
        }
    };
    let size = content.size();
    let agreed = Agreed::on(&request.options, size, line.largest_block());
    let session = Session::new(&agreed, size, Instant::now());
    let reader = Reader::new(content);
    let mut transfer = Transfer { line, agreed, session, reader, seat, inbox, told: false };
    let cut = transfer.turn(&tree, &route, &request).await;
    transfer.log(cut, &LogLine { route, client: tree.describe(route.peer.ip()), file, size, started });
}

async fn open(
    tree: &Arc<dyn Tree>,
    route: &Route,
    request: &Request,
    opening: &Semaphore,
) -> Result<Content, Refusal> {
    let Ok(_permit) = opening.acquire().await else { return Err(Refusal::Failed) };
    let (tree, client, name) = (Arc::clone(tree), route.peer.ip(), request.name.clone());
    let opened = tokio::task::spawn_blocking(move || tree.open(client, &name)).await;
    opened.unwrap_or(Err(Refusal::Failed))
}

async fn closed(inbox: &mut mpsc::Receiver<Heard>) {
    while inbox.recv().await.is_some() {}
}

/// Once: a client that misses it asks again.
async fn send_error(line: &Line, code: ErrorCode, text: &str) {
    let packet = Packet::Error { code, text: text.into() }.to_bytes();
    // A new socket is not known to take packets before its first event.
    line.writable().await;
    let _lost = line.send(&[[IoSlice::new(&packet)]]);
}

struct Transfer {
    line: Line,
    agreed: Agreed,
    session: Session,
    reader: Reader,
    seat: Seat,
    inbox: mpsc::Receiver<Heard>,
    /// The tree knows that the client answered.
    told: bool,
}

impl Transfer {
    /// Until the session ends.
    async fn turn(&mut self, tree: &Arc<dyn Tree>, route: &Route, request: &Request) -> Option<Cut> {
        // Deadlines move on with each packet. The timer is set anew when it fires, which is far more seldom.
        let timer = tokio::time::sleep_until(self.session.deadline().into());
        tokio::pin!(timer);
        loop {
            if let Err(error) = self.send_what_is_wanted().await {
                send_error(&self.line, ErrorCode::OTHER, &Refusal::Failed.to_string()).await;
                return Some(Cut::Read(error));
            }
            if self.session.end().is_some() {
                return None;
            }
            if timer.deadline() > self.session.deadline().into() {
                timer.as_mut().reset(self.session.deadline().into());
            }
            tokio::select! {
                // Mostly it is the line; looking at it first spares looking at the others twice for each block.
                biased;
                heard = self.line.hear() => {
                    self.hear(heard);
                    // Whoever says much must not stop the clock, nor keep a place that others got.
                    if self.waits() {
                        self.session.expire(Instant::now());
                    }
                    if self.session.end().is_none() && self.inbox.is_closed() && self.inbox.is_empty() {
                        return Some(self.give_way().await);
                    }
                }
                () = &mut timer => {
                    // It may have come unheard ([`Line::hear`]).
                    if let Some(heard) = self.line.hear_now() {
                        self.hear(heard);
                    }
                    if self.waits() {
                        self.session.expire(Instant::now());
                    }
                    timer.as_mut().reset(self.session.deadline().into());
                }
                heard = self.inbox.recv() => match heard {
                    Some(heard) => self.hear(heard),
                    None => return Some(self.give_way().await),
                },
            }
            if !self.told && self.session.is_heard() {
                self.told = true;
                tree.heard(route.peer.ip(), &request.name);
            }
        }
    }

    /// The place is taken away: others need it, or the server stops.
    async fn give_way(&self) -> Cut {
        if self.seat.stops() { self.say_that_it_stops().await } else { Cut::Displaced }
    }

    /// To who was heard: an address that was made up gets no more than it has to.
    async fn say_that_it_stops(&self) -> Cut {
        if self.session.is_heard() {
            send_error(&self.line, ErrorCode::OTHER, "the server stops: ask again").await;
        }
        Cut::Stopped
    }

    fn hear(&mut self, heard: Heard) {
        let now = Instant::now();
        self.session.hear(heard, now);
        // Reads on where it has to ([`Line::hear`]). Each of several ACKs could begin a window; only the last one is to.
        let window = self.agreed.window;
        for _ in 0..window.max(MOST_SAID) {
            if window == 1 && !self.waits() {
                break;
            }
            let Some(heard) = self.line.hear_now() else { break };
            self.session.hear(heard, now);
        }
        if self.session.is_heard() {
            self.seat.heard(now);
        }
    }

    /// Whether it is the client's turn.
    fn waits(&self) -> bool {
        self.session.end().is_none() && self.session.wanted() == Wanted::Nothing
    }

    async fn send_what_is_wanted(&mut self) -> io::Result<()> {
        loop {
            let wanted = self.session.wanted();
            if wanted == Wanted::Nothing {
                return Ok(());
            }
            let now = Instant::now();
            let sent = match wanted {
                Wanted::Nothing => return Ok(()),
                Wanted::OptionAck => {
                    let answer = self.agreed.answer().map(|packet| packet.to_bytes()).unwrap_or_default();
                    let sent = self.line.send(&[[IoSlice::new(&answer)]]);
                    sent.map_err(Stuck::Send)
                }
                Wanted::Blocks { first, count } => self.send_blocks(first, count),
            };
            let count = match sent {
                Ok(count) => count,
                Err(Stuck::Send(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    if tokio::time::timeout(QUEUE_PATIENCE, self.line.writable()).await.is_ok() {
                        continue;
                    }
                    1
                }
                Err(Stuck::Send(error)) if is_gone(&error) => {
                    self.session.hear(Heard::Unreachable, now);
                    continue;
                }
                // No route, no buffer, a firewall: as good as lost on the way, where it may be better next time.
                Err(Stuck::Send(_)) => 1,
                Err(Stuck::Read(NotRead::Failed(error))) => return Err(error),
                Err(Stuck::Read(NotRead::NotCached)) => {
                    self.fetch(wanted).await?;
                    continue;
                }
            };
            match wanted {
                Wanted::OptionAck => self.session.sent_option_ack(now),
                _ => self.session.sent(count as u64, now),
            }
        }
    }

    async fn fetch(&mut self, wanted: Wanted) -> io::Result<()> {
        let Wanted::Blocks { first, count } = wanted else { return Ok(()) };
        let (offset, _) = self.session.place(first);
        let (last, length) = self.session.place(first + count - 1);
        let length = usize::try_from(last - offset).unwrap_or(0) + length;
        match tokio::time::timeout(DISK_PATIENCE, self.reader.fetch(offset, length)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(io::Error::other("the disk gives nothing")),
        }
    }

    /// Reads and sends blocks, as many as there is room for; says how many.
    fn send_blocks(&mut self, first: u64, count: u64) -> Result<usize, Stuck> {
        if count == 1 {
            return self.send_block(first);
        }
        PACKETS.with_borrow_mut(|packets| {
            let longest = usize::from(self.agreed.block) + 4;
            let count = usize::try_from(count).unwrap_or(usize::MAX).min(usize::from(self.agreed.window));
            if packets.len() < count * longest {
                packets.resize(count * longest, 0);
            }
            let mut bodies = Vec::with_capacity(count);
            let mut lengths = Vec::with_capacity(count);
            for (block, packet) in (first..).zip(packets.chunks_mut(longest).take(count)) {
                let length = self.session.place(block).1;
                if let Some((header, body)) = packet.split_first_chunk_mut::<4>() {
                    *header = data_header(low_half(block));
                    bodies.push(IoSliceMut::new(body.split_at_mut_checked(length).unwrap_or_default().0));
                }
                lengths.push(length + 4);
            }
            self.reader.read(self.session.place(first).0, &mut bodies).map_err(Stuck::Read)?;
            let ready: Vec<_> = packets
                .chunks(longest)
                .zip(lengths)
                .map(|(packet, length)| [IoSlice::new(packet.get(..length).unwrap_or_default())])
                .collect();
            self.line.send(&ready).map_err(Stuck::Send)
        })
    }

    /// The same for one block, as most clients want them, with nothing to allocate.
    fn send_block(&mut self, block: u64) -> Result<usize, Stuck> {
        PACKETS.with_borrow_mut(|packets| {
            let (offset, length) = self.session.place(block);
            if packets.len() < length + 4 {
                packets.resize(length + 4, 0);
            }
            let (packet, _) = packets.split_at_mut_checked(length + 4).unwrap_or_default();
            if let Some((header, body)) = packet.split_first_chunk_mut::<4>() {
                *header = data_header(low_half(block));
                self.reader.read(offset, &mut [IoSliceMut::new(body)]).map_err(Stuck::Read)?;
            }
            self.line.send(&[[IoSlice::new(packet)]]).map_err(Stuck::Send)
        })
    }

    fn log(&self, cut: Option<Cut>, line: &LogLine) {
        let LogLine { route, client, file, size, started } = line;
        let (address, bytes) = (route.peer, self.session.bytes());
        let (block, window) = (self.agreed.block, self.agreed.window);
        let retransmissions = self.session.retransmissions();
        let seconds = (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        macro_rules! say {
            ($level:ident, $($text:tt)+) => {
                tracing::$level!(%address, client, ?file, bytes, size, block, window, retransmissions, seconds, $($text)+)
            };
        }
        match (cut, self.session.end()) {
            (Some(Cut::Read(error)), _) => say!(error, "tftp cut: {error}"),
            (Some(Cut::Stopped), _) if self.session.is_heard() => say!(warn, "tftp cut: the server stops"),
            (Some(Cut::Stopped), _) => say!(debug, "tftp: a question came when the server stopped"),
            (Some(Cut::Displaced), _) if self.session.is_heard() => {
                say!(warn, "tftp cut: the client was silent and others need the place")
            }
            (Some(Cut::Displaced), _) => say!(debug, "tftp: a question gave way to others"),
            (None, Some(End::Complete)) => say!(info, "tftp"),
            (None, Some(End::Unconfirmed)) => say!(info, "tftp (the last block was not acknowledged)"),
            (None, Some(End::Probe)) => say!(debug, "tftp: a probe"),
            (None, Some(End::GivenUp(code, text))) => say!(warn, "tftp cut: the client says {code} {text:?}"),
            (None, Some(End::Unreachable)) => say!(warn, "tftp cut: the client's port is closed"),
            (None, Some(End::Silent)) => say!(warn, "tftp cut: the client is silent"),
            (None, Some(End::Unheard) | None) => say!(debug, "tftp: a question whose answer nobody took"),
        }
    }
}

struct LogLine {
    route: Route,
    client: String,
    file: String,
    size: u64,
    started: Instant,
}

enum Stuck {
    Send(io::Error),
    Read(NotRead),
}

thread_local! {
    /// A window's packets, between reading and sending. One for each thread, not for each of thousands of transfers.
    static PACKETS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}
