//! The name of a stream that can be resumed (XEP-0198 §5).

/// Names a stream for resumption; never 0. Unguessable.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct StreamId(pub u64);

impl StreamId {
    /// As the client sees it.
    pub fn text(self) -> String {
        format!("{:016x}", self.0)
    }

    /// Reads what [`StreamId::text`] wrote.
    pub fn parse(text: &str) -> Option<StreamId> {
        let number = u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16)?;
        Some(StreamId(number))
    }
}
