//! Requests to the service of registration from other threads, as plain data: workers send them for streams, the control
//! socket for the operator. [`super::dispatch`] takes them on the other side.

use std::net::IpAddr;
use std::sync::mpsc::SyncSender;

use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::runtime::driver::ConnId;

use super::form::Fields;
use super::number::Number;
use super::refusal::PhoneRefusal;

/// Requests that wait at most; further ones are refused.
pub const REQUESTS_MAX: usize = 64;

/// Something for the service to do.
pub enum Request {
    /// A form that a client has sent on its stream.
    InBand(InBand),
    /// Make void the PIN under way for a number, and its key.
    Revoke(Number, SyncSender<Result<Revoked, PhoneRefusal>>),
    /// Send a message that has no PIN in it.
    TestSms(Number, SyncSender<Result<(), PhoneRefusal>>),
}

/// A form that a client has sent on its stream, and where the answer goes.
pub struct InBand {
    /// The worker of its connection.
    pub worker: usize,
    /// The connection.
    pub conn: ConnId,
    /// The address that the client connects from.
    pub peer: IpAddr,
    /// The iq's id.
    pub id: String,
    /// The form.
    pub fields: Fields,
}

/// The effect of a revocation by the operator.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// A PIN was under way.
    pub pin: bool,
    /// There is an account, whose key is void now.
    pub account: bool,
    /// Sessions that were ended.
    pub sessions: usize,
}

/// The way to the service; clones lead to the same one. It has room for [`REQUESTS_MAX`], and nobody waits at it.
#[derive(Clone)]
pub struct Requests(Sender<Request>);

impl Requests {
    /// A new way, and its other end.
    pub fn new() -> (Requests, Receiver<Request>) {
        let (sender, receiver) = channel(REQUESTS_MAX);
        (Requests(sender), receiver)
    }

    /// Submits a request. `false`: too many wait, or the service has ended; the request is dropped.
    #[must_use]
    pub fn submit(&self, request: Request) -> bool {
        self.0.try_send(request).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_beyond_the_limit_are_refused() {
        let (requests, mut receiver) = Requests::new();
        let request = |conn: u32| {
            let fields = Fields { phone: "+49".into(), device: "device-1".into(), pin: None };
            let peer = [127, 0, 0, 1].into();
            Request::InBand(InBand {
                worker: 0,
                conn: ConnId { index: conn, generation: 0 },
                peer,
                id: String::new(),
                fields,
            })
        };
        for n in 0..REQUESTS_MAX as u32 {
            assert!(requests.submit(request(n)));
        }
        assert!(!requests.submit(request(0)));
        drop(receiver.try_recv().unwrap());
        assert!(requests.submit(request(0)));
        drop(receiver);
        assert!(!requests.submit(request(0)));
    }
}
