//! One transfer, as a machine without sockets, files or a clock: packets and the time go in; what is to be sent, and when to
//! look again, comes out. [`super::transfer`] runs it on sockets; the tests below run it on a network that they made up.

use std::time::{Duration, Instant};

use super::options::Agreed;
use super::packet::ErrorCode;
use super::round_trip::RoundTrip;

/// A client that was heard may say nothing for so long: a bootloader tries for a file no longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// One that says the same again and again is there, on a line that loses much. But it may not keep its place for ever.
const PATIENCE_WITHOUT_PROGRESS: Duration = Duration::from_secs(120);
/// One that never was may not exist: its address could be anybody's.
const PATIENCE_UNHEARD: Duration = Duration::from_secs(8);

/// What a client says in a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It has all blocks up to this one.
    Ack(u16),
    /// It asks for the same again: our answer was lost, or its question doubled.
    AskedAgain,
    /// It gives up, or has what it wanted.
    Error(ErrorCode, String),
    /// Nobody listens at its port any more.
    Unreachable,
}

/// What is to be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing before the deadline.
    Nothing,
    /// The OACK.
    OptionAck,
    /// Blocks, `first` and those behind it. They are counted from 1 and do not wrap.
    Blocks {
        /// The first one.
        first: u64,
        /// How many.
        count: u64,
    },
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The client has all of it.
    Complete,
    /// All was sent, and the client left without a word: its last ACK was lost, or it sends none.
    Unconfirmed,
    /// The client learnt that the file is there, and how large: normal for a bootloader.
    Probe,
    /// The client gave up.
    GivenUp(ErrorCode, String),
    /// Nobody listens at the client's port.
    Unreachable,
    /// Nothing new was heard for too long.
    Silent,
    /// Nothing was ever heard.
    Unheard,
}

/// A transfer.
#[derive(Clone, Debug)]
pub struct Session {
    size: u64,
    block: u64,
    window: u64,
    /// The OACK waits for its answer.
    offered: bool,
    option_ack_due: bool,
    /// How often the OACK was sent.
    offers: u32,
    /// The last block that the client has; 0 before the first.
    acked: u64,
    /// The next one to send.
    next: u64,
    /// The highest that was ever sent.
    highest: u64,
    /// The window was sent once more because of an ACK that said nothing new. Once is enough until there is progress.
    rewound: bool,
    round_trip: RoundTrip,
    /// What is being measured: the number, and when it was sent. Nothing that was sent twice (Karn's algorithm).
    measuring: Option<(u64, Instant)>,
    sent_at: Instant,
    deadline: Instant,
    heard: bool,
    /// When it began, or the client last said anything about blocks.
    heard_at: Instant,
    /// When it began, or the client last said something new.
    moved: Instant,
    retransmissions: u64,
    end: Option<End>,
}

impl Session {
    /// A transfer of `size` bytes that begins now.
    pub fn new(agreed: &Agreed, size: u64, now: Instant) -> Self {
        let offered = agreed.answer().is_some();
        let round_trip = RoundTrip::new(agreed.timeout);
        Self {
            size,
            block: u64::from(agreed.block.max(1)),
            window: u64::from(agreed.window.max(1)),
            offered,
            option_ack_due: offered,
            offers: 0,
            acked: 0,
            next: 1,
            highest: 0,
            rewound: false,
            deadline: now + round_trip.timeout(),
            round_trip,
            measuring: None,
            sent_at: now,
            heard: false,
            heard_at: now,
            moved: now,
            retransmissions: 0,
            end: None,
        }
    }

    /// The number of the last block. It is shorter than the others, maybe empty.
    pub fn last(&self) -> u64 {
        self.size / self.block + 1
    }

    /// Where a block's bytes are in the file: offset and length.
    pub fn place(&self, block: u64) -> (u64, usize) {
        let offset = block.saturating_sub(1).saturating_mul(self.block).min(self.size);
        (offset, usize::try_from(self.block.min(self.size - offset)).unwrap_or(0))
    }

    /// What is to be sent now.
    pub fn wanted(&self) -> Wanted {
        if self.end.is_some() {
            return Wanted::Nothing;
        }
        if self.offered {
            return if self.option_ack_due { Wanted::OptionAck } else { Wanted::Nothing };
        }
        let count = (self.window_end() + 1).saturating_sub(self.next);
        if count == 0 { Wanted::Nothing } else { Wanted::Blocks { first: self.next, count } }
    }

    fn window_end(&self) -> u64 {
        (self.acked + self.window).min(self.last())
    }

    /// The OACK was sent.
    pub fn sent_option_ack(&mut self, now: Instant) {
        // Measured by the first one alone.
        self.measuring = if self.offers == 0 { Some((0, now)) } else { None };
        self.offers += 1;
        self.option_ack_due = false;
        self.rest(now);
    }

    /// The first `count` of the wanted blocks were sent.
    pub fn sent(&mut self, count: u64, now: Instant) {
        if count == 0 {
            return;
        }
        let last_sent = self.next + count - 1;
        let known = (self.highest + 1).saturating_sub(self.next).min(count);
        self.retransmissions += known;
        if last_sent > self.highest {
            self.measuring = Some((last_sent, now));
            self.highest = last_sent;
        }
        self.next = last_sent + 1;
        self.rest(now);
    }

    fn rest(&mut self, now: Instant) {
        self.sent_at = now;
        self.deadline = now + self.round_trip.timeout();
    }

    /// Takes what the client says.
    pub fn hear(&mut self, what: Heard, now: Instant) {
        if self.end.is_some() {
            return;
        }
        match what {
            Heard::AskedAgain => self.asked_again(),
            Heard::Ack(number) => {
                self.heard = true;
                self.heard_at = now;
                self.ack(number, now);
            }
            Heard::Error(code, text) => {
                self.heard = true;
                let probe = self.acked == 0 && code == ErrorCode::OTHER;
                self.end = Some(if probe { End::Probe } else { End::GivenUp(code, text) });
            }
            Heard::Unreachable => {
                self.end = Some(if self.all_sent() { End::Unconfirmed } else { End::Unreachable });
            }
        }
    }

    /// The same first packet as before. In the middle of a transfer it is an old copy of the question.
    fn asked_again(&mut self) {
        if self.offered {
            self.option_ack_due = true;
        } else if !self.heard {
            self.rewind();
        }
    }

    fn ack(&mut self, number: u16, now: Instant) {
        if self.offered {
            if number == 0 {
                self.offered = false;
                self.moved = now;
                self.measure(0, now);
                self.round_trip.recovered();
            }
            return;
        }
        match u64::from(number.wrapping_sub(low_half(self.acked))) {
            0 => self.nothing_new(now),
            new if new <= self.highest - self.acked => self.progress(self.acked + new, now),
            // Of a window before this one.
            _ => {}
        }
    }

    /// An ACK that was there already. Where one block is sent at a time, nothing follows from it: to answer it is the
    /// Sorcerer's Apprentice (RFC 1123, section 4.2.3.1). Of a window it says that its first block was lost (RFC 7440,
    /// section 4), unless it comes sooner than an answer could; `doubles_are_not_answered_twice` holds that.
    fn nothing_new(&mut self, now: Instant) {
        let soon = now.saturating_duration_since(self.sent_at) < self.round_trip.soonest();
        if self.window > 1 && self.highest > self.acked && !self.rewound && !soon {
            self.rewound = true;
            self.rewind();
        }
    }

    fn progress(&mut self, acked: u64, now: Instant) {
        self.measure(acked, now);
        self.round_trip.recovered();
        self.acked = acked;
        self.moved = now;
        self.rewound = false;
        if acked == self.last() {
            self.end = Some(End::Complete);
        } else if acked + 1 < self.next {
            // Behind it one of the window was lost (RFC 7440, section 4).
            self.rewind();
        } else {
            self.next = acked + 1;
        }
    }

    fn measure(&mut self, acked: u64, now: Instant) {
        if let Some((_, at)) = self.measuring.filter(|(number, _)| acked >= *number) {
            self.round_trip.measured(now.saturating_duration_since(at));
            self.measuring = None;
        }
    }

    fn rewind(&mut self) {
        self.measuring = None;
        self.next = self.acked + 1;
    }

    /// Looks at the time. Call it at [`Session::deadline`].
    pub fn expire(&mut self, now: Instant) {
        if self.end.is_some() || now < self.deadline {
            return;
        }
        let patience = if self.heard { PATIENCE } else { PATIENCE_UNHEARD };
        let is_over = |since, patience| now.saturating_duration_since(since) >= patience;
        if is_over(self.moved.max(self.heard_at), patience) || is_over(self.moved, PATIENCE_WITHOUT_PROGRESS)
        {
            self.end = Some(match self.heard {
                true if self.all_sent() => End::Unconfirmed,
                true => End::Silent,
                false => End::Unheard,
            });
            return;
        }
        self.round_trip.back_off();
        if self.offered {
            self.option_ack_due = true;
            self.retransmissions += 1;
        }
        self.rewind();
        self.deadline = now + self.round_trip.timeout();
    }

    fn all_sent(&self) -> bool {
        self.highest == self.last()
    }

    /// When to call [`Session::expire`].
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How it ended, if it has.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Whether the client was heard after its question: then its address is its own.
    pub fn is_heard(&self) -> bool {
        self.heard
    }

    /// How many bytes the client said that it has.
    pub fn bytes(&self) -> u64 {
        self.acked.saturating_mul(self.block).min(self.size)
    }

    /// How many packets were sent again.
    pub fn retransmissions(&self) -> u64 {
        self.retransmissions
    }
}

/// The number that a block has on the wire.
pub fn low_half(block: u64) -> u16 {
    (block & 0xffff) as u16
}
