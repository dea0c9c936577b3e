//! The HTTP servers, with the routes of all features that are on.

use std::net::TcpListener;
use std::sync::Arc;

use super::bind::Sockets;
use crate::http::front::{BeginTls, Host, HttpServer, Setup};
use crate::http::routes::Routes;
use crate::registration::Registration;
use crate::registration::api::Listeners;
use crate::running::error::{BootError, system};
use crate::shared::Shared;
use crate::upload::Uploads;
use crate::web::bosh::Bosh;
use crate::web::{self, Front};
use crate::worker::command::CommandQueue;

/// The listening sockets of each.
pub(super) struct HttpSockets {
    pub(super) registration: Sockets,
    pub(super) web: Sockets,
}

/// Starts the one of registration on these sockets; `None` when there are none. Unless it is `open`, clients are told to
/// come back until it is.
pub(super) fn start_registration(
    sockets: Sockets,
    shared: &Arc<Shared>,
    registration: Option<&Registration>,
    open: bool,
) -> Result<Option<Arc<HttpServer>>, BootError> {
    let speaks_tls = shared.config.read().expect("nothing panics while it holds this lock").registration.tls;
    let routes = registration.iter().map(|registration| registration.routes()).collect();
    let host: Arc<dyn Host> = Arc::new(Listeners(shared.clone()));
    start_on(sockets, "http", speaks_tls.then(|| begin_tls(shared)), (host, routes), open)
}

/// As [`start_registration`], the one of clients in browsers. `uploads` are taken from when it is there.
pub(super) fn start(
    sockets: Sockets,
    shared: &Arc<Shared>,
    commands: &[Arc<CommandQueue>],
    (bosh, uploads): (&Arc<Bosh>, Option<&Uploads>),
    open: bool,
) -> Result<Option<Arc<HttpServer>>, BootError> {
    let speaks_tls = shared.config.read().expect("nothing panics while it holds this lock").http.tls;
    let mut routes = web::routes(shared, commands, bosh);
    routes.extend(uploads.map(Uploads::routes));
    let host: Arc<dyn Host> = Arc::new(Front(shared.clone()));
    let server = start_on(sockets, "web", speaks_tls.then(|| begin_tls(shared)), (host, routes), open)?;
    if server.is_none() {
        bosh.give_up();
    }
    if let (Some(server), Some(uploads)) = (&server, uploads) {
        uploads.open(server.listening[0].port());
    }
    Ok(server)
}

/// TLS with the server's certificate, always the one read last.
fn begin_tls(shared: &Arc<Shared>) -> BeginTls {
    let certificate = shared.clone();
    Arc::new(move || certificate.acceptor.begin_https())
}

fn start_on(
    sockets: Sockets,
    name: &'static str,
    tls: Option<BeginTls>,
    (host, routes): (Arc<dyn Host>, Vec<Routes>),
    open: bool,
) -> Result<Option<Arc<HttpServer>>, BootError> {
    let listeners: Vec<TcpListener> = sockets.into_iter().flatten().collect();
    if listeners.is_empty() {
        return Ok(None);
    }
    let server = HttpServer::start(Setup { name, listeners, tls, host, routes, open });
    Ok(Some(Arc::new(server.map_err(system("cannot start an HTTP server"))?)))
}
