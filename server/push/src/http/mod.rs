//! Requests to one origin over connections that are kept: HTTP/2 over TLS, HTTP/1.1 where the peer speaks nothing else.
//!
//! | module | what |
//! | --- | --- |
//! | [`dial`] | a name becomes an address, a connection, TLS |
//! | [`channel`] | the connections to one origin, and a request on them |
//! | [`failure`] | whether a request that failed was processed |

pub(crate) mod channel;
pub(crate) mod dial;
pub(crate) mod failure;

pub(crate) use channel::Channel;
pub(crate) use dial::{Dialer, Origin};

/// Bytes of an answer's head at most.
const HEAD_BYTES_MAX: u32 = 16 << 10;

/// Bytes that are read of an answer's body; what is behind them is thrown away.
const BODY_BYTES_MAX: usize = 16 << 10;
