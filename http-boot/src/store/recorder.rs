//! Records what devices report, behind their backs: a bounded queue and one thread. Nobody waits for it; where it cannot
//! keep up, events are dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rusqlite::{Connection, TransactionBehavior};

use super::Store;
use super::findings::{self, Found};
use super::prune::{Policy, prune};
use super::seen::{self, Seen, Sighting};

/// How many reports wait at most: with [`init::event::EVENT_LIMIT`], 16 MiB.
const QUEUE: usize = 1024;
/// How long reports are gathered into one write.
const GATHER: Duration = Duration::from_millis(50);
/// How many reports one write has at most.
const BATCH: usize = 512;
/// How often what is too old or too much is forgotten, by time and by reports.
const PRUNE_EVERY: Duration = Duration::from_secs(600);
const PRUNE_AFTER: usize = 10_000;

/// How often the log says that events are dropped.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

enum Report {
    Event(Box<Seen>),
    Bootloader(Sighting),
    Finding(Box<Found>),
    Flush(SyncSender<()>),
}

/// The queue's end that takes reports.
#[derive(Debug)]
pub struct Recorder {
    queue: SyncSender<Report>,
    dropped: Arc<AtomicU64>,
}

impl Recorder {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the database cannot be opened once more, or there can be no further thread.
    pub fn start(store: &Store, policy: Policy) -> Result<Self> {
        let connection = store.for_recorder()?;
        let (queue, reports) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer =
            Writer { connection, policy, dropped: dropped.clone(), complained: None, pruned: None, since: 0 };
        thread::Builder::new()
            .name("recorder".into())
            .spawn(move || writer.run(&reports))
            .context("starting the thread that records events")?;
        Ok(Self { queue, dropped })
    }

    /// Records an event, or counts it as dropped.
    pub fn event(&self, seen: Seen) {
        self.send(Report::Event(Box::new(seen)));
    }

    /// Records a bootloader, or counts it as dropped.
    pub fn bootloader(&self, sighting: Sighting) {
        self.send(Report::Bootloader(sighting));
    }

    /// Records what was found to be wrong, or counts it as dropped.
    pub fn finding(&self, found: Found) {
        self.send(Report::Finding(Box::new(found)));
    }

    /// Waits until what was sent so far can be read, but no longer than `timeout`, and not at all where the queue is full.
    pub fn catch_up(&self, timeout: Duration) {
        let (sender, done) = sync_channel(1);
        if self.queue.try_send(Report::Flush(sender)).is_ok() {
            let _late = done.recv_timeout(timeout);
        }
    }

    /// How many reports were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until what was sent so far is written, but no longer than `timeout`.
    pub fn flush(&self, timeout: Duration) {
        let (sender, done) = sync_channel(1);
        if self.queue.send(Report::Flush(sender)).is_ok() {
            let _late = done.recv_timeout(timeout);
        }
    }

    fn send(&self, report: Report) {
        match self.queue.try_send(report) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

struct Writer {
    connection: Connection,
    policy: Policy,
    dropped: Arc<AtomicU64>,
    complained: Option<Instant>,
    pruned: Option<Instant>,
    since: usize,
}

impl Writer {
    /// Writes until the queue's other end is gone.
    fn run(mut self, reports: &Receiver<Report>) {
        while let Ok(first) = reports.recv() {
            let (batch, waiting) = gather(first, reports);
            if !batch.is_empty()
                && let Err(error) = self.write(&batch)
            {
                self.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
                self.complain(&error);
            }
            for sender in waiting {
                let _gone = sender.send(());
            }
        }
    }

    /// Says that events are dropped, but not for each: the log may be on the disk that is full.
    fn complain(&mut self, error: &anyhow::Error) {
        if self.complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
            let dropped = self.dropped.load(Ordering::Relaxed);
            tracing::error!("recording events ({dropped} are dropped so far; serving goes on): {error:#}");
            self.complained = Some(Instant::now());
        }
    }

    fn write(&mut self, batch: &[Report]) -> Result<()> {
        let is_time = self.pruned.is_none_or(|at| at.elapsed() >= PRUNE_EVERY) || self.since >= PRUNE_AFTER;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for report in batch {
            match report {
                Report::Event(seen) => seen::record(&transaction, seen)?,
                Report::Bootloader(sighting) => seen::record_bootloader(&transaction, sighting)?,
                Report::Finding(found) => findings::record(&transaction, found)?,
                Report::Flush(_) => {}
            }
        }
        if is_time {
            prune(&transaction, &self.policy)?;
        }
        transaction.commit()?;
        self.since += batch.len();
        if is_time {
            (self.pruned, self.since) = (Some(Instant::now()), 0);
        }
        Ok(())
    }
}

/// What comes within [`GATHER`] of the first one, and who waits for it to be written.
fn gather(first: Report, reports: &Receiver<Report>) -> (Vec<Report>, Vec<SyncSender<()>>) {
    let until = Instant::now() + GATHER;
    let (mut batch, mut waiting) = (Vec::new(), Vec::new());
    let mut next = Some(first);
    while let Some(report) = next.take() {
        match report {
            Report::Flush(sender) => waiting.push(sender),
            report => batch.push(report),
        }
        if batch.len() >= BATCH {
            break;
        }
        next = reports.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
    }
    (batch, waiting)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use init::event::{EVENT_FORMAT, Event, State};

    use super::*;
    use crate::devices::Devices;
    use crate::store::now;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn seen(boot: &str, sequence: u64, step: &str, state: State) -> Seen {
        let event = Event {
            format: EVENT_FORMAT,
            boot_id: boot.into(),
            sequence,
            uptime_ms: sequence * 100,
            step: step.into(),
            state,
            progress: None,
            error: (state == State::Failed).then(|| "no route".into()),
            retry_in_s: None,
            addresses: vec![],
            host_key: None,
            model: (sequence == 1).then(|| "Raspberry Pi 4".into()),
            bootloader: None,
            last_crash: None,
        };
        Seen { serial: "one".parse().unwrap(), address: HERE, received: now(), event }
    }

    #[test]
    fn what_was_seen_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let live = Devices::default();
        {
            let store = Store::open(folder.path()).unwrap();
            let recorder = Recorder::start(&store, Policy::default()).unwrap();
            for (boot, sequence, step, state) in [
                ("a", 1, "network", State::Started),
                ("a", 3, "network", State::Done),
                ("a", 2, "network", State::Progress),
                ("b", 1, "fetch", State::Started),
                ("b", 2, "fetch", State::Failed),
                ("b", 3, "fetch", State::Started),
                ("b", 4, "fetch", State::Failed),
            ] {
                let seen = seen(boot, sequence, step, state);
                live.record(&seen.serial, HERE, seen.event.clone(), 1);
                recorder.event(seen);
            }
            recorder.flush(Duration::from_secs(60));
            assert_eq!(recorder.dropped(), 0);
        }
        let store = Store::open(folder.path()).unwrap();
        let restored = Devices::default();
        restored.restore(&store).unwrap();
        let (was, is) = (live.summaries().pop().unwrap(), restored.summaries().pop().unwrap());
        assert_eq!((was.boots, was.boot_id, was.step, was.error), (is.boots, is.boot_id, is.step, is.error));
        assert_eq!(is.model.as_deref(), Some("Raspberry Pi 4"));
        assert_eq!(restored.events(&"one".parse().unwrap()).unwrap().len(), 7);
        let boots = store.read(|t| seen::boots(t, None, None, 9)).unwrap();
        assert_eq!(
            boots.iter().map(|b| (b.boot_id.as_str(), b.failures)).collect::<Vec<_>>(),
            [("b", 2), ("a", 0)]
        );
        let timings = store.read(|t| seen::timings(t, boots[1].id)).unwrap();
        assert_eq!((timings[0].started_ms, timings[0].ended_ms), (100, Some(300)));
        assert_eq!(timings[0].state, "done", "the event that came late changes nothing");
        let tried_again = store.read(|t| seen::timings(t, boots[0].id)).unwrap();
        assert_eq!((tried_again[0].started_ms, tried_again[0].ended_ms), (100, Some(400)));
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let recorder = Recorder::start(&store, Policy::default()).unwrap();
        // The writer cannot write while another one does.
        store
            .change(|_| {
                for sequence in 1..=3 * QUEUE as u64 {
                    recorder.event(seen("a", sequence, "fetch", State::Progress));
                }
                Ok(())
            })
            .unwrap();
        assert!(recorder.dropped() > 0);
        recorder.flush(Duration::from_secs(60));
        let kept: u64 =
            store.read(|t| Ok(t.query_row("SELECT count(*) FROM events", [], |r| r.get(0))?)).unwrap();
        assert_eq!(kept + recorder.dropped(), 3 * QUEUE as u64);
    }

    #[test]
    fn who_waits_reads_what_was_sent() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let recorder = Recorder::start(&store, Policy::default()).unwrap();
        for sequence in 1..=9 {
            recorder.event(seen("a", sequence, "fetch", State::Progress));
            recorder.catch_up(Duration::from_secs(60));
            let kept: u64 =
                store.read(|t| Ok(t.query_row("SELECT count(*) FROM events", [], |r| r.get(0))?)).unwrap();
            assert_eq!(kept, sequence);
        }
    }
}
