//! What waits to be told to the boot server. It is bounded, and keeps what is worth most: the newest.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::event::{Event, State};

/// So many events wait at most: more than any boot has without a failure, and less than a megabyte.
const LIMIT: usize = 128;

/// Events in their order, from the boot's threads to the sender's.
#[derive(Default)]
pub struct EventQueue {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    is_closed: bool,
}

impl EventQueue {
    /// Adds an event. One of a transfer's progress takes the place of the one before. Where there is no room, the oldest
    /// progress goes, and where there is none, the oldest event.
    pub fn push(&self, event: Event) {
        self.lock().push(event);
        self.changed.notify_all();
    }

    /// Waits for the oldest event, and gives a copy: it may still be pushed out. None: the queue was closed.
    pub fn first(&self) -> Option<Event> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(event) = state.events.front() {
                return Some(event.clone());
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The event with this number is done with.
    pub fn done(&self, sequence: u64) {
        self.lock().events.retain(|event| event.sequence != sequence);
    }

    /// No event comes any more, and nobody waits for those that are here.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Waits for a while; whether the queue was closed meanwhile.
    pub fn closed_within(&self, time: Duration) -> bool {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, time, |state| !state.is_closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_closed
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn push(&mut self, event: Event) {
        if event.state == State::Progress {
            self.events.retain(|other| other.state != State::Progress || other.step != event.step);
        }
        if self.events.len() >= LIMIT {
            let progress = self.events.iter().position(|event| event.state == State::Progress);
            self.events.remove(progress.unwrap_or(0));
        }
        self.events.push_back(event);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::event::EVENT_FORMAT;
    use proptest::prelude::*;

    pub(crate) fn event(sequence: u64, step: &str, state: State) -> Event {
        Event {
            format: EVENT_FORMAT,
            boot_id: "b".into(),
            sequence,
            uptime_ms: sequence,
            step: step.into(),
            state,
            progress: None,
            error: None,
            retry_in_s: None,
            addresses: Vec::new(),
            host_key: None,
            model: None,
            bootloader: None,
            last_crash: None,
        }
    }

    fn numbers(queue: &EventQueue) -> Vec<u64> {
        queue.lock().events.iter().map(|event| event.sequence).collect()
    }

    #[test]
    fn progress_of_a_step_takes_the_place_of_what_it_was_before() {
        let queue = EventQueue::default();
        for (sequence, step, state) in [
            (1, "fetch", State::Started),
            (2, "fetch", State::Progress),
            (3, "fetch", State::Failed),
            (4, "other", State::Progress),
            (5, "fetch", State::Progress),
        ] {
            queue.push(event(sequence, step, state));
        }
        assert_eq!(numbers(&queue), [1, 3, 4, 5]);
        assert_eq!(queue.first().unwrap().sequence, 1);
        queue.done(1);
        assert_eq!(queue.first().unwrap().sequence, 3);
    }

    #[test]
    fn the_oldest_progress_goes_first_and_then_the_oldest() {
        let queue = EventQueue::default();
        queue.push(event(0, "network", State::Started));
        queue.push(event(1, "fetch", State::Progress));
        let limit = LIMIT as u64;
        (2..limit + 1).for_each(|sequence| queue.push(event(sequence, "manifest", State::Failed)));
        assert_eq!(numbers(&queue)[..2], [0, 2], "the progress went");
        queue.push(event(limit + 1, "manifest", State::Failed));
        assert_eq!((numbers(&queue)[0], numbers(&queue).len()), (2, LIMIT));
    }

    #[test]
    fn a_closed_queue_lets_everyone_go() {
        let queue = EventQueue::default();
        std::thread::scope(|scope| {
            scope.spawn(|| queue.close());
            assert!(queue.closed_within(Duration::from_secs(60)));
        });
        assert!(queue.first().is_none());
    }

    proptest! {
        #[test]
        fn it_is_bounded_in_order_and_has_the_newest(kinds in proptest::collection::vec((0..3_usize, 0..5_usize), 1..400)) {
            let (steps, states) = (["a", "b", "c"], [
                State::Started, State::Progress, State::Waiting, State::Done, State::Failed,
            ]);
            let queue = EventQueue::default();
            for ((step, state), sequence) in kinds.iter().zip(1..) {
                queue.push(event(sequence, steps[*step], states[*state]));
            }
            let numbers = numbers(&queue);
            prop_assert!(numbers.len() <= LIMIT && numbers.is_sorted());
            prop_assert_eq!(numbers.last().copied(), Some(kinds.len() as u64));
        }
    }
}
