//! Objects in a store that speaks the protocol of S3. What comes goes there part by part, and what is fetched comes piece by
//! piece, so that memory has a bound that does not grow with the objects.
//!
//! ```text
//! caller's threads                         thread "objects": one runtime
//!   Incoming::write ──piece──▶ part of 5 MiB ──▶ UploadPart … CompleteMultipartUpload      (hyper, rustls)
//!   Outgoing        ◀─piece── one ahead    ◀── GetObject, a range of it
//!   Store::remove, list, abort_unfinished  ──▶ DeleteObject, ListObjectsV2, ListMultipartUploads
//! ```
//! Nothing here blocks its caller: each call answers through a channel. There is no table of what is under way in the store: an
//! upload that nobody finished is found by asking for those ([`Store::abort_unfinished`]).
//!
//! | module | what |
//! | --- | --- |
//! | `settings` | where the store is, and who asks |
//! | `store` | the thread, the bound of memory, what is asked for at once |
//! | `incoming` | an object that comes |
//! | `outgoing` | an object that is fetched |
//! | `unfinished` | uploads that were begun and not completed |
//! | `connect`, `http` | connections, and requests on them |
//! | `failure` | why something was not done |

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod connect;
mod failure;
mod http;
mod incoming;
mod outgoing;
mod settings;
mod store;
mod unfinished;

pub use failure::{Failure, Reason};
pub use incoming::{Incoming, OBJECT_BYTES_MAX, PART_BYTES};
pub use outgoing::Outgoing;
pub use settings::{Credentials, Settings, WrongSettings, roots};
pub use store::{Counts, Store};
