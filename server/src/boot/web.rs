//! The HTTP server, with the routes of all features that are on.

use std::sync::Arc;

use super::bind::Sockets;
use crate::http::front::{HttpServer, Setup, Tls};
use crate::registration::Registration;
use crate::registration::api::Listeners;
use crate::running::error::{BootError, system};
use crate::shared::Shared;

/// Starts it on these sockets; `None` when there are none. Unless it is `open`, clients are told to come back until it is.
pub(super) fn start(
    sockets: Sockets,
    shared: &Arc<Shared>,
    registration: Option<&Registration>,
    open: bool,
) -> Result<Option<Arc<HttpServer>>, BootError> {
    let listeners: Vec<_> = sockets.into_iter().flatten().collect();
    if listeners.is_empty() {
        return Ok(None);
    }
    let speaks_tls = shared.config.read().expect("nothing panics while it holds this lock").registration.tls;
    let certificate = shared.clone();
    let tls = speaks_tls.then(|| Arc::new(move || certificate.acceptor.https()) as Tls);
    let routes = registration.iter().map(|registration| registration.routes()).collect();
    let host = Arc::new(Listeners(shared.clone()));
    let server = HttpServer::start(Setup { listeners, tls, host, routes, open });
    Ok(Some(Arc::new(server.map_err(system("cannot start the HTTP server"))?)))
}
