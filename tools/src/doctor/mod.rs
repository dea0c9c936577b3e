//! `doctor`: what should be mended before or while a server runs, each finding with the command that mends it.
//!
//! | module | what it looks at |
//! | --- | --- |
//! | [`kernel`] | sysctls, by system |
//! | [`resources`] | descriptors, memory, clock |
//! | [`certificate`] | expiry, names, who may read the key |
//! | [`place`] | the data directory |
//! | [`ports`] | whether the addresses are free |
//! | [`system`] | reading sysctls and asking other programs |

mod certificate;
mod kernel;
mod place;
mod ports;
mod resources;
pub(crate) mod system;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::control::Client;
use crate::problem::Problem;
use crate::report::Report;

/// How a finding is meant.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Good,
    /// Worth knowing; nothing breaks.
    Note,
    /// To be mended.
    Mend,
}

/// One finding.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    /// What was looked at.
    pub(crate) check: String,
    pub(crate) level: Level,
    /// What was found.
    pub(crate) text: String,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
}

impl Finding {
    pub(crate) fn good(check: &str, text: impl Into<String>) -> Finding {
        Finding { check: check.into(), level: Level::Good, text: text.into(), command: None }
    }

    pub(crate) fn note(check: &str, text: impl Into<String>) -> Finding {
        Finding { check: check.into(), level: Level::Note, text: text.into(), command: None }
    }

    pub(crate) fn mend(check: &str, text: impl Into<String>, command: impl Into<String>) -> Finding {
        Finding { check: check.into(), level: Level::Mend, text: text.into(), command: Some(command.into()) }
    }

    pub(crate) fn with_command(mut self, command: impl Into<String>) -> Finding {
        self.command = Some(command.into());
        self
    }
}

/// What is known of the server: from itself when it runs, else from its configuration file, else the defaults.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Patient {
    /// Its process, when it runs.
    pub(crate) pid: Option<u32>,
    pub(crate) domain: Option<String>,
    #[serde(default)]
    pub(crate) listen: Vec<SocketAddr>,
    #[serde(default)]
    pub(crate) listen_tls: Vec<SocketAddr>,
    /// Empty: a self-signed one in the data directory.
    #[serde(default)]
    pub(crate) certificate: PathBuf,
    /// Its key; empty with it.
    #[serde(default)]
    pub(crate) key: PathBuf,
    /// The key's group may read it.
    #[serde(default)]
    pub(crate) key_group_readable: bool,
}

/// The keys of the configuration file that matter here; the server checks all of them.
#[derive(Default, Deserialize)]
struct ConfigPart {
    domain: Option<String>,
    listen: Option<Vec<SocketAddr>>,
    listen_tls: Option<Vec<SocketAddr>>,
    #[serde(default)]
    tls: TlsPart,
}

#[derive(Default, Deserialize)]
struct TlsPart {
    #[serde(default)]
    certificate: PathBuf,
    #[serde(default)]
    key: PathBuf,
    #[serde(default)]
    key_group_readable: bool,
}

/// Looks at everything, prints the findings; exit code 1 when something must be mended.
pub(crate) fn run(
    data: &Path,
    connections: u64,
    config: Option<&Path>,
    report: &Report,
) -> Result<ExitCode, Problem> {
    let patient = patient(data, config)?;
    let mut findings = vec![server_state(data, &patient)];
    findings.extend(resources::check(connections, patient.pid));
    findings.extend(kernel::check(connections));
    findings.extend(place::check(data));
    findings.extend(certificate::check(data, &patient));
    findings.extend(ports::check(&patient));
    let mend = findings.iter().filter(|finding| finding.level == Level::Mend).count();
    report.result(&json!({ "connections": connections, "mend": mend, "findings": findings }), || {
        let mut text: String = findings.iter().map(show).collect();
        text.push_str(&match mend {
            0 => format!("ready for {connections} connections"),
            1 => "1 finding to mend".to_owned(),
            n => format!("{n} findings to mend"),
        });
        text
    });
    Ok(if mend == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(crate) fn show(finding: &Finding) -> String {
    let mark = match finding.level {
        Level::Good => "good",
        Level::Note => "note",
        Level::Mend => "MEND",
    };
    let mut text = format!("{mark}  {}: {}\n", finding.check, finding.text);
    if let Some(command) = &finding.command {
        text.push_str(&format!("      {command}\n"));
    }
    text
}

pub(crate) fn patient(data: &Path, config: Option<&Path>) -> Result<Patient, Problem> {
    // A server of another user is no reason to look at nothing.
    if let Ok(Some(mut client)) = Client::connect(data) {
        return client.ask("status", json!({}));
    }
    let part = match config {
        None => ConfigPart::default(),
        Some(path) => {
            let shown = path.display();
            let text = std::fs::read_to_string(path)
                .map_err(|error| Problem::new(format!("cannot read {shown}: {error}")))?;
            // The server explains what is wrong, with line and column.
            toml::from_str(&text).map_err(|_| {
                Problem::new(format!(
                    "the server cannot use {shown}; this says why: whimbreld --config {shown} --check"
                ))
            })?
        }
    };
    let loopback = |port| vec![SocketAddr::from(([127, 0, 0, 1], port))];
    Ok(Patient {
        pid: None,
        domain: part.domain,
        listen: part.listen.unwrap_or_else(|| loopback(5222)),
        listen_tls: part.listen_tls.unwrap_or_else(|| loopback(5223)),
        certificate: part.tls.certificate,
        key: part.tls.key,
        key_group_readable: part.tls.key_group_readable,
    })
}

fn server_state(data: &Path, patient: &Patient) -> Finding {
    match patient.pid {
        Some(pid) => Finding::good("server", format!("process {pid} runs in {}", data.display())),
        None => Finding::note("server", format!("none runs in {}", data.display())),
    }
}
