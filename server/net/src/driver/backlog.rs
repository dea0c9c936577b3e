//! Output that a connection could not send yet, and buffers on their way to reuse.

/// Unsent bytes in order: the rest of one buffer, and everything after it in a second.
///
/// The first buffer is never touched while it is being sent, so that the kernel may hold its address.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    front: Vec<u8>,
    sent: usize,
    back: Vec<u8>,
}

impl Backlog {
    pub(super) fn len(&self) -> usize {
        self.front.len() - self.sent + self.back.len()
    }

    /// What another program had not sent.
    pub(super) fn of(unsent: &[u8]) -> Backlog {
        Backlog { front: unsent.to_vec(), sent: 0, back: Vec::new() }
    }

    /// All of it, in order.
    pub(super) fn pieces(&self) -> [&[u8]; 2] {
        [self.front(), &self.back]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes behind the buffer that is being sent.
    #[cfg(target_os = "linux")]
    pub(super) fn waiting(&self) -> usize {
        self.back.len()
    }

    pub(super) fn push(&mut self, data: Vec<u8>, spent: &mut Spent) {
        if self.front.is_empty() {
            self.front = data;
        } else if self.back.is_empty() {
            self.back = data;
        } else {
            self.back.extend_from_slice(&data);
            spent.put(data);
        }
    }

    /// What to send next; empty only when there is nothing.
    pub(super) fn front(&self) -> &[u8] {
        &self.front[self.sent..]
    }

    /// Counts `bytes` of [`Backlog::front`] as sent.
    pub(super) fn advance(&mut self, bytes: usize, spent: &mut Spent) {
        self.sent += bytes;
        assert!(self.sent <= self.front.len(), "more was sent than was asked for");
        if self.sent == self.front.len() {
            self.sent = 0;
            spent.put(std::mem::replace(&mut self.front, std::mem::take(&mut self.back)));
        }
    }
}

/// Emptied buffers, bounded so that a burst does not become a permanent hoard.
#[derive(Debug, Default)]
pub(super) struct Spent {
    buffers: Vec<Vec<u8>>,
}

/// Buffers kept between two visits of the worker; io_uring gives back those of a whole iteration at once.
const SPENT_BUFFERS_MAX: usize = 256;
/// The outbox takes no larger ones.
const SPENT_BUFFER_BYTES_MAX: usize = 16 << 10;

impl Spent {
    pub(super) fn put(&mut self, mut buffer: Vec<u8>) {
        let useful = (1..=SPENT_BUFFER_BYTES_MAX).contains(&buffer.capacity());
        if useful && self.buffers.len() < SPENT_BUFFERS_MAX {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    pub(super) fn buffers(&mut self) -> &mut Vec<Vec<u8>> {
        &mut self.buffers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_the_order_they_came_whatever_the_pieces() {
        let mut spent = Spent::default();
        let mut backlog = Backlog::default();
        let mut expected = Vec::new();
        let mut left = Vec::new();
        for round in 0..200usize {
            let data: Vec<u8> = (0..round % 17).map(|n| (round * 31 + n) as u8).collect();
            expected.extend_from_slice(&data);
            backlog.push(data, &mut spent);
            let take = backlog.front().len().min(round % 11);
            left.extend_from_slice(&backlog.front()[..take]);
            backlog.advance(take, &mut spent);
        }
        while !backlog.is_empty() {
            let take = backlog.front().len().min(5);
            assert_ne!(take, 0);
            left.extend_from_slice(&backlog.front()[..take]);
            backlog.advance(take, &mut spent);
        }
        assert_eq!(left, expected);
        assert!(spent.buffers().len() <= SPENT_BUFFERS_MAX);
    }
}
