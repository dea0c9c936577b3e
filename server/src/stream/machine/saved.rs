//! A stream without a resource as it goes to another program.

use whimbrel_storage::directory::CredentialsStamp;

use super::Negotiation;
use crate::proto::sasl::ChannelBindings;
use crate::saved::codec::{Decoder, Encoder, bits};
use crate::saved::error::StateError;

/// A stream without a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NegotiationRecord<'a> {
    /// The client's header has come on the current stream.
    pub header_seen: bool,
    /// The server's header has been sent on the current stream.
    pub header_sent: bool,
    /// Bytes received so far.
    pub bytes_in: u32,
    /// The account, once SASL has succeeded.
    pub user: Option<&'a str>,
    /// The stamp of the credentials it was shown to have.
    pub stamp: Option<u64>,
    /// Channel binding `tls-exporter`.
    pub exporter: Option<[u8; 32]>,
    /// Channel binding `tls-server-end-point`.
    pub end_point: Option<&'a [u8]>,
    /// Failed SASL attempts.
    pub failures: u8,
}

const HEADER_SEEN: u8 = 1;
const HEADER_SENT: u8 = 1 << 1;
const HAS_USER: u8 = 1 << 2;
const HAS_EXPORTER: u8 = 1 << 3;
const HAS_END_POINT: u8 = 1 << 4;
const HAS_STAMP: u8 = 1 << 5;

impl<'a> NegotiationRecord<'a> {
    /// Writes it.
    pub fn write(&self, to: &mut Encoder) {
        to.byte(bits([
            (self.header_seen, HEADER_SEEN),
            (self.header_sent, HEADER_SENT),
            (self.user.is_some(), HAS_USER),
            (self.exporter.is_some(), HAS_EXPORTER),
            (self.end_point.is_some(), HAS_END_POINT),
            (self.stamp.is_some(), HAS_STAMP),
        ]));
        to.number(self.bytes_in);
        to.byte(self.failures);
        if let Some(user) = self.user {
            to.text(user);
        }
        if let Some(stamp) = self.stamp {
            to.raw(&stamp.to_le_bytes());
        }
        if let Some(exporter) = &self.exporter {
            to.raw(exporter);
        }
        if let Some(end_point) = self.end_point {
            to.shared(end_point);
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is damaged.
    pub fn read(from: &mut Decoder<'a>) -> Result<NegotiationRecord<'a>, StateError> {
        let parts = from.byte()?;
        if parts >= HAS_STAMP << 1 {
            return Err(StateError::Damaged("a negotiation with unknown parts"));
        }
        Ok(NegotiationRecord {
            header_seen: parts & HEADER_SEEN != 0,
            header_sent: parts & HEADER_SENT != 0,
            bytes_in: from.number()?,
            failures: from.byte()?,
            user: (parts & HAS_USER != 0).then(|| from.text()).transpose()?,
            stamp: (parts & HAS_STAMP != 0)
                .then(|| from.array().copied().map(u64::from_le_bytes))
                .transpose()?,
            exporter: (parts & HAS_EXPORTER != 0).then(|| from.array::<32>().copied()).transpose()?,
            end_point: (parts & HAS_END_POINT != 0).then(|| from.shared()).transpose()?,
        })
    }
}

impl NegotiationRecord<'static> {
    /// Examples: before anything, and after everything but binding.
    #[must_use]
    pub fn samples() -> [NegotiationRecord<'static>; 2] {
        let authenticated = NegotiationRecord {
            header_seen: true,
            header_sent: true,
            bytes_in: 700,
            user: Some("rosaline"),
            stamp: Some(0x0011_2233_4455_6677),
            exporter: Some([9; 32]),
            end_point: Some(b"certificate hash"),
            failures: 2,
        };
        [NegotiationRecord::default(), authenticated]
    }
}

impl Negotiation {
    /// As it goes to another program; `None` while an exchange or something outside is under way.
    pub(crate) fn save(&self) -> Option<NegotiationRecord<'_>> {
        if self.waiting || self.exchange.is_some() || !self.held.is_empty() {
            return None;
        }
        Some(NegotiationRecord {
            header_seen: self.header_seen,
            header_sent: self.header_sent,
            bytes_in: self.bytes_in,
            user: self.user.as_deref(),
            stamp: self.stamp.map(CredentialsStamp::number),
            exporter: self.bindings.tls_exporter,
            end_point: self.bindings.tls_server_end_point.as_deref(),
            failures: self.failures,
        })
    }

    /// The negotiation of another program.
    pub(crate) fn restored(record: &NegotiationRecord<'_>) -> Negotiation {
        Negotiation {
            header_seen: record.header_seen,
            header_sent: record.header_sent,
            bytes_in: record.bytes_in,
            user: record.user.map(Into::into),
            stamp: record.stamp.map(CredentialsStamp::from_number),
            bindings: ChannelBindings {
                tls_exporter: record.exporter,
                tls_server_end_point: record.end_point.map(Into::into),
            },
            failures: record.failures,
            ..Negotiation::new(None)
        }
    }
}
