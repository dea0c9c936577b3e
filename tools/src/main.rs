//! `whimbrelctl`: administration of a Whimbrel server.
//!
//! ```text
//! whimbrelctl ──▶ DATA/control.sock ──▶ the running server, the only writer of its directory
//!            └──▶ DATA/directory         when no server runs there
//! ```
//!
//! | module | what it does |
//! | --- | --- |
//! | [`cli`] | the command line |
//! | [`locate`] | which data directory is meant |
//! | [`control`] | the client side of the control socket (docs/control.md) |
//! | [`accounts`] | accounts, through the server or in the directory |
//! | [`user`] | `user add`, `del`, `list`, `passwd`; [`import`] is `user import`, [`migrate`] is `user migrate`; [`prompt`] asks for passwords |
//! | [`busiest`] | the accounts and addresses that cause most |
//! | [`server`] | `status`, `queues`, `sessions`, `kick`, `drain`, `stop`, `reload` |
//! | [`registration`] | `registration status`, `pending`, `revoke`, `test-sms` |
//! | [`push`] | `push list`, `test`, `remove` |
//! | [`room`] | `room list`, `show`, `create`, `destroy`, `member`, `hat`, `config` |
//! | [`node`] | `node list`, `show`, `create`, `config`, `delete`, `affiliation` |
//! | [`upgrade`] | `upgrade`: another program in the same process |
//! | [`log`], [`backup`] | the log of messages: looking at it, and copying it together with the directory |
//! | [`archive`] | the archives of messages: figures, export, erasure, a new index |
//! | [`doctor`] | what should be mended before or while a server runs |
//! | [`dns`] | the records by which clients find the server |
//! | [`report`] | human and JSON output |
#![deny(unsafe_code)]

mod accounts;
mod archive;
mod backup;
mod busiest;
mod cli;
mod control;
mod dns;
mod doctor;
mod import;
mod locate;
mod log;
mod migrate;
mod node;
mod problem;
mod prompt;
mod push;
mod registration;
mod report;
mod room;
mod server;
mod upgrade;
mod upload;
mod user;

use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command, PasswordArgs, UserCommand};
use crate::problem::Problem;
use crate::report::Report;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let report = Report::new(cli.json);
    match run(&cli, &report) {
        Ok(code) => code,
        Err(problem) => {
            report.problem(&problem);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli, report: &Report) -> Result<ExitCode, Problem> {
    match &cli.command {
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "whimbrelctl", &mut std::io::stdout());
            return Ok(ExitCode::SUCCESS);
        }
        Command::Man { dir } => {
            let failed =
                |error| Problem::new(format!("cannot write man pages into {}: {error}", dir.display()));
            std::fs::create_dir_all(dir).map_err(failed)?;
            clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::User {
            command: UserCommand::Add { password, .. } | UserCommand::Passwd { password, .. },
        } => {
            insist_on_password(password);
        }
        _ => {}
    }
    let located = locate::locate(cli.data.as_deref())?;
    if let Some(text) = located.told().filter(|_| !report.is_json()) {
        report.note(&text);
    }
    on_data(&located.path, &cli.command, report)
}

/// Wrong usage when there is neither a password nor anybody to ask for one.
fn insist_on_password(password: &PasswordArgs) {
    if password.is_asked_for() && !prompt::is_possible() {
        let text = "no password is given, and there is no terminal to ask for one: use --password-stdin, --generate or \
                    --password P";
        Cli::command().error(clap::error::ErrorKind::MissingRequiredArgument, text).exit();
    }
}

/// The commands that concern a data directory.
fn on_data(data: &Path, command: &Command, report: &Report) -> Result<ExitCode, Problem> {
    match command {
        Command::User { command } => match command {
            UserCommand::Add { jid, password, iterations, create } => {
                user::add(data, jid, password, (*iterations, *create), report)?;
            }
            UserCommand::Del { jid } => user::del(data, jid, report)?,
            UserCommand::List => user::list(data, report)?,
            UserCommand::Config { jid, set } => user::config(data, jid, set, report)?,
            UserCommand::Passwd { jid, password, iterations } => {
                user::passwd(data, jid, password, *iterations, report)?;
            }
            UserCommand::Migrate(args) => return migrate::run(data, args, report),
            UserCommand::Export(args) => migrate::leave::run(data, args, report)?,
            UserCommand::Import { file, iterations, create } => {
                return import::run(data, file, (*iterations, *create), report);
            }
        },
        Command::Status => server::status(data, report)?,
        Command::Queues => server::queues(data, report)?,
        Command::Busiest => busiest::run(data, report)?,
        Command::Sessions { user, max } => server::sessions(data, user.as_deref(), *max, report)?,
        Command::Kick { jid } => server::kick(data, jid, report)?,
        Command::Drain => server::drain(data, report)?,
        Command::Stop => server::stop(data, report)?,
        Command::Reload => server::reload(data, report)?,
        Command::Room { command } => room::run(data, command, report)?,
        Command::Node { command } => node::run(data, command, report)?,
        Command::Registration { command } => registration::run(data, command, report)?,
        Command::Push { command } => push::run(data, command, report)?,
        Command::Upload { command } => upload::run(data, command, report)?,
        Command::Upgrade { binary } => upgrade::run(data, binary.as_deref(), report)?,
        Command::Log { command } => return log::run(data, command, report),
        Command::Archive { command } => return archive::run(data, command, report),
        Command::Backup(args) => backup::run(data, args, report)?,
        Command::Doctor { connections, config } => {
            return doctor::run(data, *connections, config.as_deref(), report);
        }
        Command::Dns(args) => return dns::run(data, args, report),
        // These need no data directory: `run` has done them.
        Command::Completions { .. } | Command::Man { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}
