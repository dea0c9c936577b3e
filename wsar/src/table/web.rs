//! Clients in browsers, and the files that clients leave for each other.

use super::Unit::{Bytes, Number};
use super::{Table, column};
use crate::delta::Delta;

/// One row when the server has them.
fn if_there(delta: &Delta<'_>) -> Vec<String> {
    delta.sum("websocket.connections", None).map(|_| String::new()).into_iter().collect()
}

/// Uploads and downloads refused a second, whatever for.
fn refused(delta: &Delta<'_>) -> Option<f64> {
    ["url", "slot", "unlike", "busy", "disk"]
        .iter()
        .try_fold(0.0, |sum, reason| Some(sum + delta.rate(&format!("upload.refused.{reason}"), None)?))
}

pub(super) static WEB: Table = Table {
    name: "web",
    key: "",
    about: "WebSocket, BOSH, and uploaded files",
    rows: if_there,
    columns: &[
        column(
            "ws",
            "websocket",
            Number,
            "Connections of WebSocket; each session of BOSH is one.",
            |d, _| d.sum("websocket.connections", None),
        ),
        column("bosh", "bosh", Number, "Sessions of BOSH.", |d, _| d.sum("http.bosh.sessions", None)),
        column("boshmem", "bosh_bytes", Bytes, "Bytes that they hold.", |d, _| {
            d.sum("http.bosh.bytes", None)
        }),
        column("transf", "transfers", Number, "Uploads and downloads under way.", |d, _| {
            d.sum("upload.transfers", None)
        }),
        column("up B/s", "received", Bytes, "Bytes of uploads a second.", |d, _| {
            d.rate("upload.received", None)
        }),
        column("dn B/s", "sent", Bytes, "Bytes of downloads a second.", |d, _| d.rate("upload.sent", None)),
        column("brk/s", "broken", Number, "Uploads a second that ended in the middle.", |d, _| {
            d.rate("upload.broken", None)
        }),
        column("refus/s", "refused", Number, "Uploads and downloads refused a second.", |d, _| refused(d)),
        column("files", "files", Number, "Files that are kept.", |d, _| d.sum("upload.files", None)),
        column("bytes", "bytes", Bytes, "Bytes of them.", |d, _| d.sum("upload.bytes", None)),
        column("slots", "slots", Number, "Slots that wait for their files.", |d, _| {
            d.sum("upload.slots", None)
        }),
    ],
};
