//! A connection that speaks another protocol behind its answer, which is 101 (RFC 9110 §7.8).

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::Request;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use whimbrel_http::Door;

use super::stream::{HttpStream, Released};

/// Takes the connection.
type Takes = Box<dyn FnOnce(Released) + Send>;

/// Of one connection; clones are the same one.
#[derive(Clone, Default)]
pub(super) struct Switch(Arc<Mutex<Option<(OnUpgrade, Takes)>>>);

impl Switch {
    /// The answer to this request will be 101, and then `takes` has the connection.
    pub(super) fn prepare(&self, request: &mut Request, takes: Takes) {
        let prepared = (hyper::upgrade::on(request), takes);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(prepared);
    }

    /// hyper has done with the connection. If another protocol is spoken from now on, it goes to where that is served;
    /// only then does the answer count as written, so that a drain does not overtake it.
    pub(super) async fn carry_out(&self) {
        let prepared = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((upgrade, takes)) = prepared else { return };
        let Ok(upgraded) = upgrade.await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<Door<HttpStream>>>() else { return };
        let door = parts.io.into_inner().into_parts();
        // The door hands on nothing but heads and bodies, so this is empty unless hyper has kept something.
        let came = [&parts.read_buf[..], &door.came].concat();
        match door.stream.release(came) {
            Ok(released) => takes(released),
            Err(error) => tracing::debug!(%error, "a connection to the HTTP server ended"),
        }
        drop(door.end);
    }
}
