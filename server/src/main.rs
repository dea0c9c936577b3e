//! `whimbreld`: the Whimbrel server.
//!
//! ```text
//! main ── starts the server, then waits for its workers to end
//!  ├─ signals   SIGTERM, SIGINT: drain and stop; SIGHUP: reload
//!  └─ control   the socket DATA/control.sock
//! ```
//!
//! | module | what it does |
//! | --- | --- |
//! | [`cli`] | the command line |
//! | [`check`] | `--check` |
//! | [`handover`] | what it says to a server that wants to become it |
//! | [`manual`] | its manual pages |
//! | [`watchdog`] | signs of life for the service manager |
#![deny(unsafe_code)]

mod check;
mod cli;
mod manual;
mod upgrade_child;
mod watchdog;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::EnvFilter;
use whimbrel_server::boot::Server;
use whimbrel_server::config::Config;
use whimbrel_server::notify;
use whimbrel_server::running::socket::ControlSocket;
use whimbrel_server::runtime::platform;
use whimbrel_server::takeover::Takeover;
use whimbrel_server::takeover::guard::{self, Guard};
use whimbrel_server::takeover::launch::Launch;
use whimbrel_server::upgrade::KINDS;
use whimbrel_storage::plain;

use crate::cli::Cli;

/// Less memory for a session than glibc's; docs/performance.md has the comparison.
#[global_allocator]
static ALLOCATOR: whimbrel_server::allocator::Counted = whimbrel_server::allocator::Counted;

/// What is logged unless WHIMBREL_LOG says otherwise: warnings, the few lines of this file, and what becomes of
/// registrations.
const LOG_DEFAULT: &str = "warn,whimbreld=info,registration=info";

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(text) => {
            guard::fall_back_if_armed(&text);
            // A closed standard error leaves nobody to tell.
            let _ = writeln!(std::io::stderr(), "whimbreld: {}", plain(&text));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode, String> {
    if let Some(shell) = cli.completions {
        clap_complete::generate(shell, &mut Cli::command(), "whimbreld", &mut std::io::stdout());
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(directory) = &cli.man {
        return manual::write(directory).map(|()| ExitCode::SUCCESS);
    }
    if let Some(descriptor) = cli.upgrade_rehearse {
        return upgrade_child::rehearse(descriptor);
    }
    let mut launch =
        Launch::of_this_process().map_err(|error| format!("cannot find my own file: {error}"))?;
    // First of all, so that there is a way back from everything that follows.
    let taken = match cli.upgrade_restore {
        Some(descriptor) => Some(Takeover::open(descriptor, &mut launch, KINDS)?),
        None => None,
    };
    let config = match &taken {
        // The program before goes on as it was, whatever the file says by now.
        Some((takeover, _)) if takeover.fallen_back.is_some() => {
            Config::parse(&takeover.program.config, "the configuration before the upgrade".as_ref())
        }
        _ => cli.config(),
    };
    let config = config.map_err(|error| error.to_string())?;
    if cli.upgrade_probe {
        return upgrade_child::probe(&config);
    }
    if cli.check {
        return Ok(check::check(&config, cli.config.as_deref()));
    }
    start_log()?;
    end_on_panic();
    // Before there are other threads, so that no signal finds its default action.
    let signals =
        Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(|error| format!("cannot take signals: {error}"))?;
    // The program before has held them back; those that have come meanwhile are heard now.
    platform::hold_signals(false).map_err(|error| format!("cannot take signals: {error}"))?;
    let server = Arc::new(start(config, launch, taken)?);
    let config = server.config();
    let source = Arc::new(Source(cli.clone()));
    let control = open_control(&server, &source)?;
    listen_to_signals(signals, server.clone(), source)?;
    notify::ready(&serves(&config));
    watchdog::start(&server).map_err(|error| format!("cannot start the thread of the watchdog: {error}"))?;
    let ended = server.join().map_err(|error| error.to_string());
    drop(control);
    ended?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Begins to answer `whimbrelctl`, beginning with the one who waits for the end of an upgrade, and says in the log what has
/// started.
fn open_control(server: &Arc<Server>, source: &Arc<Source>) -> Result<ControlSocket, String> {
    let control = server.take_control().expect("nobody has taken it before");
    let again = (server.clone(), source.clone());
    let outcome = server.take_outcome();
    let waiting = match &outcome {
        Some((outcome, Some(client))) => client.try_clone().ok().map(|client| (client, outcome.answer())),
        _ => None,
    };
    whimbrel_server::operations::serve(
        &control,
        server.clone(),
        Box::new(move || again.1.reload(&again.0)),
        waiting,
    )
    .map_err(|error| format!("cannot start the control thread: {error}"))?;
    match &outcome {
        Some((outcome, _)) if outcome.fallen_back.is_some() => tracing::error!("{}", outcome.line()),
        Some((outcome, _)) => tracing::info!("{}", outcome.line()),
        None => announce(server, &server.config()),
    }
    Ok(control)
}

/// Starts the server, or goes on with that of the program before.
fn start(config: Config, launch: Launch, taken: Option<(Takeover, Option<Guard>)>) -> Result<Server, String> {
    let Some((mut takeover, guard)) = taken else {
        return Server::launch(config, Some(launch), None).map_err(|error| error.to_string());
    };
    // Errors are told before what was taken over is closed: it belongs to the program before.
    Server::launch(config, Some(launch), Some((&mut takeover, guard))).map_err(|error| {
        let text = error.to_string();
        guard::fall_back_if_armed(&text);
        text
    })
}

fn start_log() -> Result<(), String> {
    let filter = match std::env::var("WHIMBREL_LOG") {
        Ok(text) => EnvFilter::try_new(&text).map_err(|error| {
            format!("WHIMBREL_LOG=`{text}` is not a log filter: {error}; use for example `info` or `debug`")
        })?,
        Err(_) => EnvFilter::new(LOG_DEFAULT),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| PlainWords(std::io::stderr()))
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}

/// Standard error, where the system's errors stand in words, without their numbers.
struct PlainWords(std::io::Stderr);

impl Write for PlainWords {
    /// Is given a whole line at a time.
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        match std::str::from_utf8(line) {
            Ok(text) => self.0.write_all(plain(text).as_bytes())?,
            Err(_) => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// A server that has lost one of its threads must not limp on: the process ends, and whoever watches it starts it
/// again. A control client's thread holds nothing that others need.
fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied().map(str::to_owned);
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        if name == "control-client" {
            tracing::error!("a control client's thread panicked at {place}: {text}; please report this");
            return;
        }
        guard::fall_back_if_armed(&format!("thread {name} panicked at {place}: {text}"));
        tracing::error!("thread {name} panicked at {place}: {text}; the server ends, please report this");
        std::process::exit(1);
    }));
}

/// One line that says what runs, and a warning for what is risky.
fn announce(server: &Server, config: &Config) {
    let list = |addresses: &[std::net::SocketAddr]| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let mut places = Vec::new();
    if !server.listening.is_empty() {
        places.push(format!("STARTTLS on {}", list(&server.listening)));
    }
    if !server.listening_tls.is_empty() {
        places.push(format!("direct TLS on {}", list(&server.listening_tls)));
    }
    if let Some(web) = &server.web {
        let scheme = if config.http.tls { "wss" } else { "ws" };
        places.push(format!("WebSocket ({scheme}) on {}", list(&web.listening)));
    }
    if let Some(registration) = &server.registration {
        let scheme = if config.registration.tls { "https" } else { "http" };
        let place = match &server.http {
            None => "in-band".to_owned(),
            Some(http) => format!("by {scheme} on {}", list(&http.listening)),
        };
        places.push(format!("registration {place}, gateway {}", registration.gateway));
    }
    let certificate = if config.tls.certificate.as_os_str().is_empty() {
        "self-signed certificate".to_owned()
    } else {
        format!("certificate {}", config.tls.certificate.display())
    };
    let workers = server.workers();
    tracing::info!(
        "whimbreld {} serves {}: {}; driver {}, {workers} {}, {certificate}",
        env!("CARGO_PKG_VERSION"),
        config.domain,
        places.join(", "),
        server.driver,
        if workers == 1 { "worker" } else { "workers" },
    );
    if config.allow_plaintext {
        let open: Vec<_> = server.listening.iter().filter(|address| !address.ip().is_loopback()).collect();
        if open.is_empty() {
            tracing::warn!("allow_plaintext is set: clients may log in without TLS");
        } else {
            tracing::warn!(
                "allow_plaintext is set and {open:?} can be reached from elsewhere: passwords and messages cross \
                 the network in the clear"
            );
        }
    }
}

/// What the service manager is told.
fn serves(config: &Config) -> String {
    format!("whimbreld {} serves {}", env!("CARGO_PKG_VERSION"), config.domain)
}

/// Where the configuration came from, to read it again.
struct Source(Cli);

impl Source {
    /// Reads configuration and certificate again; on an error everything stays as it was.
    fn reload(&self, server: &Server) -> Result<(), String> {
        notify::reloading("reading the configuration");
        let done = self.try_reload(server);
        notify::ready(&serves(&server.config()));
        done
    }

    fn try_reload(&self, server: &Server) -> Result<(), String> {
        let config = match &self.0.config {
            Some(_) => Some(self.0.config().map_err(|error| error.to_string())?),
            None => None,
        };
        server.reload(config).map_err(|error| error.to_string())?;
        tracing::info!("certificate and configuration are read again");
        Ok(())
    }
}

fn listen_to_signals(mut signals: Signals, server: Arc<Server>, source: Arc<Source>) -> Result<(), String> {
    let listen = move || {
        let mut stopping = false;
        for signal in signals.forever() {
            if signal == SIGHUP {
                if let Err(text) = source.reload(&server) {
                    tracing::error!("not reloaded, everything stays as it was: {text}");
                }
            } else if stopping {
                tracing::warn!("a second signal to stop: ending at once");
                std::process::exit(1);
            } else {
                stopping = true;
                tracing::info!("stopping: all streams are ended; a second signal stops at once");
                server.stop();
            }
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(listen)
        .map_err(|error| format!("cannot start the thread for signals: {error}"))?;
    Ok(())
}
