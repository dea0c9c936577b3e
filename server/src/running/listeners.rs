//! The listening sockets, as far as an upgrade has to know of them.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;

use crate::saved::Owner;
use crate::saved::codec::{Decoder, Encoder};
use crate::saved::error::StateError;
use crate::saved::kind::Kind;

/// What a listening socket is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Serves {
    /// Streams, which may begin TLS (STARTTLS).
    Streams,
    /// Streams, over TLS from the first byte.
    StreamsOverTls,
    /// HTTP, for registration.
    Http,
    /// HTTP, for clients in browsers.
    Web,
}

impl Serves {
    const ALL: [Serves; 4] = [Serves::Streams, Serves::StreamsOverTls, Serves::Http, Serves::Web];

    fn code(self) -> u8 {
        match self {
            Serves::Streams => 0,
            Serves::StreamsOverTls => 1,
            Serves::Http => 2,
            Serves::Web => 3,
        }
    }
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerRecord {
    /// The address as it was configured; its port may be 0.
    pub configured: SocketAddr,
    /// What it is for.
    pub serves: Serves,
    /// Its descriptor.
    pub descriptor: u32,
}

impl ListenerRecord {
    /// Of an open socket.
    #[must_use]
    pub fn of(socket: &TcpListener, configured: SocketAddr, serves: Serves) -> ListenerRecord {
        let descriptor = u32::try_from(socket.as_raw_fd()).unwrap_or(u32::MAX);
        ListenerRecord { configured, serves, descriptor }
    }
}

/// Owns the listening sockets: those of streams are there as often as there are workers.
pub struct Listeners;

impl Owner for Listeners {
    const KIND: Kind = Kind::required("listeners");
    type Record<'a> = ListenerRecord;

    fn write(record: &ListenerRecord, to: &mut Encoder) {
        to.address(record.configured.ip());
        to.number(record.configured.port());
        to.byte(record.serves.code());
        to.number(record.descriptor);
    }

    fn read(from: &mut Decoder<'_>) -> Result<ListenerRecord, StateError> {
        let configured = SocketAddr::new(from.address()?, from.number()?);
        let code = from.byte()?;
        let serves = Serves::ALL.into_iter().find(|serves| serves.code() == code);
        let serves = serves.ok_or(StateError::Damaged("a listener for nothing that is known"))?;
        Ok(ListenerRecord { configured, serves, descriptor: from.number()? })
    }

    fn samples() -> Vec<ListenerRecord> {
        let sample = |configured, serves, descriptor| ListenerRecord { configured, serves, descriptor };
        vec![
            sample(([0, 0, 0, 0], 5222).into(), Serves::Streams, 8),
            sample(([0, 0, 0, 0, 0, 0, 0, 0], 5223).into(), Serves::StreamsOverTls, 9),
            sample(([127, 0, 0, 1], 8443).into(), Serves::Http, 10),
            sample(([127, 0, 0, 1], 5443).into(), Serves::Web, 11),
        ]
    }

    fn descriptors(record: &ListenerRecord, keep: &mut Vec<u32>) {
        keep.push(record.descriptor);
    }
}
