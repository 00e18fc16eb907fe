//! Numbers that differ from Pi to Pi, so that those which were switched on together do not ask together. Not for secrets.

use std::time::Duration;

/// A generator (splitmix64, by Sebastiano Vigna). A test gives it a seed to see the same run again.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Starts from the kernel's generator.
    pub fn new() -> Self {
        let mut seed = [0; 8];
        // Where the kernel has none yet, the time of day and our address must do.
        if rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::INSECURE).is_err() {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            seed = (now.tv_sec as u64).rotate_left(32).wrapping_add(now.tv_nsec as u64).to_ne_bytes();
        }
        Chance(u64::from_ne_bytes(seed))
    }

    /// The same numbers for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Chance(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A time about as long: three quarters of it to five quarters.
    pub fn about(&mut self, time: Duration) -> Duration {
        let part = (self.number() % 1024) as u32;
        time * 3 / 4 + time / 2 * part / 1024
    }
}

impl Default for Chance {
    fn default() -> Self {
        Self::new()
    }
}
