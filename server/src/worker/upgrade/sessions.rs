//! One session in the state: a connection, and the stream or the resource that it belongs to, each in the record of its
//! owner.

use crate::saved::Owner;
use crate::saved::codec::{Decoder, Encoder, bits};
use crate::saved::counts::Counts;
use crate::saved::error::StateError;
use crate::saved::kind::Kind;
use crate::session::saved::{ConnectionRecord, TlsRecord};
use crate::stream::machine::saved::NegotiationRecord;
use crate::takeover::outcome::counted;
use crate::user::saved::ResourceRecord;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord<'a> {
    /// Its connection; `None` while it waits to be resumed (XEP-0198).
    pub connection: Option<ConnectionRecord<'a>>,
    /// How far it has come.
    pub standing: Standing<'a>,
}

/// How far a session has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing<'a> {
    /// No resource yet, and no SASL exchange under way.
    Negotiating(NegotiationRecord<'a>),
    /// Bound.
    Bound(Box<ResourceRecord<'a>>),
}

/// Bits of a record's first byte.
const CONNECTED: u8 = 1;
const BOUND: u8 = 1 << 1;

/// Owns the sessions. Those of one user follow each other, oldest first.
pub struct Sessions;

impl Owner for Sessions {
    // The second version has references into archives of rooms, the third one into spools.
    const KIND: Kind = Kind { newest: 3, ..Kind::required("sessions") };
    type Record<'a> = SessionRecord<'a>;

    fn write(record: &SessionRecord<'_>, to: &mut Encoder) {
        let bound = matches!(record.standing, Standing::Bound(_));
        to.byte(bits([(record.connection.is_some(), CONNECTED), (bound, BOUND)]));
        if let Some(connection) = &record.connection {
            connection.write(to);
        }
        match &record.standing {
            Standing::Negotiating(negotiation) => negotiation.write(to),
            Standing::Bound(resource) => resource.write(to),
        }
    }

    fn read<'a>(from: &mut Decoder<'a>) -> Result<SessionRecord<'a>, StateError> {
        let parts = from.byte()?;
        if parts & !(CONNECTED | BOUND) != 0 || parts == 0 {
            return Err(StateError::Damaged("a session of an unknown kind"));
        }
        let connection = (parts & CONNECTED != 0).then(|| ConnectionRecord::read(from)).transpose()?;
        let standing = match parts & BOUND != 0 {
            true => Standing::Bound(Box::new(ResourceRecord::read(from)?)),
            false => Standing::Negotiating(NegotiationRecord::read(from)?),
        };
        Ok(SessionRecord { connection, standing })
    }

    /// Each connection with a resource and with a stream that has none, and each resource with a connection and,
    /// where it can be resumed, without one.
    fn samples() -> Vec<SessionRecord<'static>> {
        let connections = ConnectionRecord::samples();
        let mut samples = Vec::new();
        let mut add = |connection, standing| samples.push(SessionRecord { connection, standing });
        let resources = ResourceRecord::samples();
        for (connection, resource) in connections.iter().zip(resources.iter().cycle()) {
            add(Some(connection.clone()), Standing::Bound(Box::new(resource.clone())));
        }
        for resource in resources.into_iter().filter(|resource| resource.expiry_ms.is_some()) {
            add(None, Standing::Bound(Box::new(resource)));
        }
        let negotiations = NegotiationRecord::samples();
        for (connection, negotiation) in connections.into_iter().zip(negotiations.iter().cycle()) {
            add(Some(connection), Standing::Negotiating(negotiation.clone()));
        }
        samples
    }

    fn count(record: &SessionRecord<'_>, counts: &mut Counts) {
        let standing = match (&record.standing, &record.connection) {
            (Standing::Bound(_), Some(_)) => counted::BOUND,
            (Standing::Bound(_), None) => counted::WAITING,
            (Standing::Negotiating(_), _) => counted::NEGOTIATING,
        };
        counts.add(standing, 1);
        let connection = record.connection.as_ref();
        let tls = connection.is_some_and(|connection| !matches!(connection.tls, TlsRecord::Plain));
        counts.add(counted::TLS, u64::from(tls));
        if let Standing::Bound(resource) = &record.standing
            && let Some(sm) = &resource.sm
        {
            counts.add(counted::UNACKED, sm.unacked.len() as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_takes_less_than_300_bytes() {
        let samples = Sessions::samples();
        let under_tls = |session: &&SessionRecord<'_>| {
            let tls = session.connection.as_ref().map(|connection| &connection.tls);
            matches!(tls, Some(TlsRecord::Established(_)))
        };
        // A plain one, and one with the largest keys there are under TLS 1.3.
        for (session, most) in [(&samples[0], 100), (samples.iter().find(under_tls).unwrap(), 300)] {
            let mut encoder = Encoder::new(1);
            Sessions::write(session, &mut encoder);
            let bytes = encoder.bytes().len();
            assert!(bytes < most, "{bytes} bytes");
        }
    }

    #[test]
    fn the_examples_have_sessions_of_every_standing() {
        let mut counts = Counts::default();
        Sessions::samples().iter().for_each(|session| Sessions::count(session, &mut counts));
        for name in [counted::BOUND, counted::WAITING, counted::NEGOTIATING, counted::TLS, counted::UNACKED] {
            assert!(counts.of(name) > 0, "{name}");
        }
    }
}
