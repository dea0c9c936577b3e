//! Buffers for what is read and written within an event, kept for their memory, so that in the long run none is allocated.

/// Buffers that are kept: more of them than one event uses at the same time.
const KEPT_MAX: usize = 8;

/// Bytes of a buffer that is kept. One that had to be larger is given back to the system.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// A worker's spare buffers. Whoever needs one borrows it and gives it back; one that is not given back is only lost memory's
/// reuse, so that an early return is no fault.
#[derive(Default)]
pub struct Buffers {
    spare: Vec<Vec<u8>>,
}

impl Buffers {
    /// An empty buffer.
    #[inline]
    pub fn lend(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// An empty text.
    #[inline]
    pub fn lend_text(&mut self) -> String {
        // An empty buffer is UTF-8.
        String::from_utf8(self.lend()).unwrap_or_default()
    }

    /// Takes a buffer back, whatever it holds.
    #[inline]
    pub fn give_back(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < KEPT_MAX && (1..=KEPT_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Takes a text back, whatever it holds.
    #[inline]
    pub fn give_back_text(&mut self, text: String) {
        self.give_back(text.into_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_with_its_memory() {
        let mut buffers = Buffers::default();
        let mut buffer = buffers.lend();
        buffer.extend_from_slice(&[1; 100]);
        let memory = buffer.as_ptr();
        buffers.give_back(buffer);
        let text = buffers.lend_text();
        assert!(text.is_empty());
        assert_eq!(text.as_ptr(), memory);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut buffers = Buffers::default();
        buffers.give_back(Vec::with_capacity(KEPT_BYTES_MAX + 1));
        buffers.give_back(Vec::new());
        assert!(buffers.spare.is_empty());
        for _ in 0..2 * KEPT_MAX {
            buffers.give_back(Vec::with_capacity(1));
        }
        assert_eq!(buffers.spare.len(), KEPT_MAX);
    }
}
