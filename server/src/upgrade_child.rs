//! What this program says, as a child, to a running server that wants to become it.

use std::fs::File;
use std::io::Write;
use std::os::fd::{FromRawFd, RawFd};
use std::process::ExitCode;

use serde::Serialize;
use whimbrel_server::config::Config;
use whimbrel_server::runtime::platform;
use whimbrel_server::saved::kind::readable;
use whimbrel_server::takeover::absolute;
use whimbrel_server::takeover::mapped::Mapped;
use whimbrel_server::tls::certificate;
use whimbrel_server::upgrade::probe::Probed;
use whimbrel_server::upgrade::{KINDS, STATE_VERSION_NEWEST, STATE_VERSION_OLDEST, rehearse};

fn say(what: &impl Serialize) -> Result<ExitCode, String> {
    let text = serde_json::to_string(what).map_err(|error| error.to_string())?;
    writeln!(std::io::stdout(), "{text}").map_err(|error| format!("cannot answer: {error}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Says what this program is and what it can read. The configuration, which was read to come here, is one that it can
/// run with; so must the certificate be.
pub(crate) fn probe(config: &Config) -> Result<ExitCode, String> {
    certificate::facts(&config.tls_settings()).map_err(|error| error.to_string())?;
    say(&Probed {
        whimbreld: env!("CARGO_PKG_VERSION").into(),
        states: [STATE_VERSION_OLDEST, STATE_VERSION_NEWEST],
        kinds: readable(KINDS),
        domain: config.domain.clone(),
        data: absolute(&config.data),
        workers: config.workers,
    })
}

/// Reads the state in a descriptor, all of it, and says what it has found.
pub(crate) fn rehearse(descriptor: u32) -> Result<ExitCode, String> {
    let number = RawFd::try_from(descriptor).ok().filter(|number| platform::is_inherited(*number));
    let number = number.ok_or_else(|| format!("there is no descriptor {descriptor}"))?;
    // SAFETY: it is open and came along with the exec, and nothing else in this process knows of it.
    #[expect(unsafe_code, reason = "a descriptor of the program before")]
    let file = unsafe { File::from_raw_fd(number) };
    let mapped = Mapped::new(&file).map_err(|error| format!("cannot map the state: {error}"))?;
    say(&rehearse::read_all(mapped.as_ref(), KINDS).map_err(|error| error.to_string())?)
}
