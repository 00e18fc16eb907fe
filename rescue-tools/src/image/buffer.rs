//! Memory that may be handed to a disk past the page cache.

/// What `O_DIRECT` asks of an address, for every disk that there is (a page).
pub const ALIGNMENT: usize = 4096;

/// Bytes that begin at a multiple of [`ALIGNMENT`].
#[derive(Debug)]
pub struct Buffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Buffer {
    /// Zeroes.
    pub fn new(length: usize) -> Self {
        let memory = vec![0; length + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Buffer { memory, start, length }
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        self.memory.get(self.start..self.start + self.length).unwrap_or_default()
    }

    /// All of it, to be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..self.start + self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_where_it_should() {
        for length in [1, 512, 4096, 1 << 20] {
            let mut buffer = Buffer::new(length);
            assert_eq!(buffer.bytes().as_ptr().addr() % ALIGNMENT, 0);
            assert_eq!((buffer.bytes().len(), buffer.bytes_mut().len()), (length, length));
        }
    }
}
