//! A map that forgets: how memory stays bounded, whoever asks.

use std::collections::HashMap;
use std::hash::Hash;

/// Keeps at least the last `half` keys that were touched, and at most twice as many.
///
/// Two halves: a key that is touched moves into the young one; when that is full, the old one is forgotten, and the young
/// one is old. So nothing is searched for, even in a flood of keys that come but once.
#[derive(Debug)]
pub struct Recent<K, V> {
    half: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash + Clone, V> Recent<K, V> {
    /// An empty map for `half` to 2 × `half` keys.
    pub fn new(half: usize) -> Self {
        Self { half: half.max(1), young: HashMap::new(), old: HashMap::new() }
    }

    /// Looks without touching.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Looks, to change what is there.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.young.get_mut(key).or_else(|| self.old.get_mut(key))
    }

    /// All values, in no order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.young.values().chain(self.old.values())
    }

    /// A key's value, made where there is none.
    pub fn touch(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let kept = self.old.remove(&key);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.entry(key).or_insert_with(|| kept.unwrap_or_else(make))
    }

    /// Forgets a key.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_and_no_more_than_twice_that() {
        let mut recent = Recent::new(100);
        for key in 0..10_000u32 {
            *recent.touch(key, || 0) += 1;
            recent.touch(7, || 70);
            assert!(recent.len() <= 200);
            assert!((key.saturating_sub(98)..=key).all(|key| recent.get(&key).is_some()), "{key}");
        }
        assert_eq!(recent.get(&7), Some(&71), "touched ones stay");
        assert_eq!(recent.remove(&7), Some(71));
        assert_eq!(recent.get(&7), None);
        assert_eq!(recent.get(&3), None);
    }
}
