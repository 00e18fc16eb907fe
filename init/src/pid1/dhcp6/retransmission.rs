//! When a question is asked again (RFC 8415 section 15). Times double from question to question, with a tenth more or less by
//! chance, up to a longest one. There is no last question: whoever asks decides when it stops.

use std::time::Duration;

/// The times of one exchange.
#[derive(Clone, Debug)]
pub struct Retransmission {
    first: Duration,
    longest: Duration,
    last: Option<Duration>,
}

impl Retransmission {
    /// The first wait (IRT) and the longest (MRT).
    pub fn new(first: Duration, longest: Duration) -> Self {
        Retransmission { first, longest, last: None }
    }

    /// A server may say that it is to be asked less often.
    pub fn set_longest(&mut self, longest: Duration) {
        self.longest = longest;
    }

    /// How long to wait for an answer to the next question. `chance`: -1 to 1.
    pub fn wait(&mut self, chance: f64) -> Duration {
        // RAND of the RFC: a tenth more or less.
        let vary = |time: Duration, base: f64| time.mul_f64(base + chance.clamp(-1.0, 1.0) / 10.0);
        let wait = match self.last {
            None => vary(self.first, 1.0),
            Some(last) => vary(last, 2.0),
        };
        let wait = if wait > self.longest { vary(self.longest, 1.0) } else { wait };
        self.last = Some(wait);
        wait
    }
}

/// A number between -1 and 1. Without the kernel's help none: machines that start together then ask together.
pub fn chance() -> f64 {
    let mut bytes = [0; 4];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::INSECURE) {
        Ok(_) => f64::from(i32::from_ne_bytes(bytes)) / f64::from(i32::MAX),
        Err(_) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_doubles_up_to_the_longest() {
        let mut times = Retransmission::new(Duration::from_secs(1), Duration::from_secs(5));
        let waits: Vec<u64> = (0..5).map(|_| times.wait(0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        times.set_longest(Duration::from_secs(60));
        assert_eq!(times.wait(0.0).as_secs(), 10);
    }

    proptest! {
        #[test]
        fn chance_changes_a_tenth(chances in proptest::collection::vec(-1.0f64..1.0, 1..40)) {
            let mut times = Retransmission::new(Duration::from_secs(1), Duration::from_secs(120));
            for chance in chances {
                let wait = times.wait(chance);
                prop_assert!(wait >= Duration::from_millis(899) && wait <= Duration::from_millis(132_001));
            }
        }
    }
}
