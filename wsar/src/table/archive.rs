//! Archives of messages: what there is, what is asked for, what is to be erased.

use super::Unit::{Bytes, Micros, Number, Percent, Seconds};
use super::{Table, column};
use crate::delta::Delta;

/// One row when the server has archives.
fn if_there(delta: &Delta<'_>) -> Vec<String> {
    let has_room = delta.max("queue.archive.limit", None).is_some_and(|room| room > 0.0);
    has_room.then(String::new).into_iter().collect()
}

/// How much of `archive.mib_max` is used; `None`: there is no such limit.
fn used(delta: &Delta<'_>) -> Option<f64> {
    let limit = delta.max("archive.bytes_limit", None).filter(|limit| *limit > 0.0)?;
    Some(100.0 * delta.sum("archive.bytes", None)? / limit)
}

/// A quantile of the time of pages, in microseconds.
fn latency(delta: &Delta<'_>, part: f64) -> Option<f64> {
    Some(1000.0 * delta.quantile("archive.latency", part, None)?)
}

pub(super) static ARCHIVE: Table = Table {
    name: "archive",
    key: "",
    about: "archives of messages: size, age, pages, latency, erasures",
    rows: if_there,
    columns: &[
        column("msgs", "messages", Number, "Messages that the index has.", |d, _| {
            d.sum("archive.kept", None)
        }),
        column("bytes", "bytes", Bytes, "Bytes of the logs that they need.", |d, _| {
            d.sum("archive.bytes", None)
        }),
        column("%used", "used", Percent, "How much that is of what they may need.", |d, _| used(d)),
        column("oldest", "oldest", Seconds, "Age of the oldest message at least.", |d, _| {
            d.sum("archive.oldest", None)
        }),
        column("rows", "rows", Number, "Rows of the index.", |d, _| d.sum("archive.index_rows", None)),
        column("new/s", "added", Number, "Copies of messages archived a second.", |d, _| {
            d.rate("archive.messages", None)
        }),
        column("query/s", "queries", Number, "Queries a second.", |d, _| d.rate("archive.queries", None)),
        column("page/s", "pages", Number, "Pages given to their ends a second.", |d, _| {
            d.rate("archive.pages", None)
        }),
        column("given/s", "given", Number, "Messages given a second.", |d, _| {
            d.rate("archive.returned", None)
        }),
        column("page50", "page_p50", Micros, "Half of the pages took no longer.", |d, _| latency(d, 0.5)),
        column("page99", "page_p99", Micros, "99 of 100 pages took no longer.", |d, _| latency(d, 0.99)),
        column("lost/s", "lost", Number, "Messages a second that a page lacks: gone or damaged.", |d, _| {
            Some(d.rate("archive.gone", None)? + d.rate("archive.damaged", None)?)
        }),
        column("erase", "to_erase", Number, "Erasures whose texts may be on the disk still.", |d, _| {
            d.sum("archive.to_erase", None)
        }),
    ],
};
