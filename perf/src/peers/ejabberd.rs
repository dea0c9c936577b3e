//! ejabberd as a peer: Mnesia or PostgreSQL, SCRAM passwords, its own defaults otherwise.
//!
//! With PostgreSQL every module keeps its tables there; the accounts stay in Mnesia in either case.
//! It is started by `erl` itself rather than by `ejabberdctl`, which wants the system's folders and user. The accounts
//! come from a file in the format of XEP-0227, which ejabberd imports at its first start.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::account::Accounts;
use crate::engine::target::{Hint, WEBSOCKET_PATH};
use crate::peers::postgres::{Cluster, DATABASE, USER};
use crate::peers::running::{find_program, free_port};
use crate::peers::{Eventing, Peer, Rooms, Setup, Shapers, Tables, archive_fact, packaged, packaged_version};

/// The tables that ejabberd wants of PostgreSQL, as Debian installs them.
const SCHEMA: &str = "/usr/share/ejabberd/sql/pg.sql";

/// The driver that ejabberd loads for it, and its package.
const DRIVER: (&str, &str) = ("p1_pgsql", "erlang-p1-pgsql");

/// Writes configuration and accounts.
///
/// # Errors
/// ejabberd or Erlang is not installed, or a file cannot be written.
pub(super) fn prepare(setup: &Setup<'_>, shapers: Shapers, tables: Tables) -> Result<Peer, String> {
    let folder = setup.folder;
    let control = find_program("ejabberdctl", "ejabberd")?;
    let erl = find_program("erl", "ejabberd")?;
    let libraries = libraries(&control)?;
    let port = free_port()?;
    let failed =
        |error: std::io::Error| format!("cannot write ejabberd's files in {}: {error}", folder.display());
    let config = folder.join("ejabberd.yml");
    let database = match tables {
        Tables::Mnesia => None,
        Tables::Postgresql => Some(database(&erl)?),
    };
    let listener = if setup.is_web() { web_listener(port) } else { listener(port, shapers) };
    std::fs::write(&config, configuration(&listener, shapers, &optional(setup), database.as_ref()))
        .map_err(failed)?;
    let import = folder.join("accounts.xml");
    write_accounts(&import, setup.accounts).map_err(failed)?;
    let (ready, own) = (folder.join("ready"), folder.to_owned());
    let ready_path = ready.clone();
    let command = move || {
        // The import leaves accounts that exist alone, so it runs at each start.
        let after_start = format!(
            "case filelib:is_file(\"{0}.done\") of true -> ok; false -> ejabberd_piefxis:import_file(<<\"{0}\">>), \
             file:write_file(\"{0}.done\", <<>>) end, file:write_file(\"{1}\", <<>>).",
            import.display(),
            ready_path.display()
        );
        let mut command = Command::new(&erl);
        command
            .env("ERL_LIBS", &libraries)
            .env("EJABBERD_CONFIG_PATH", &config)
            .env("EJABBERD_LOG_PATH", own.join("ejabberd.log"))
            .env("ERL_MAX_ETS_TABLES", "1400")
            .env("ERL_CRASH_DUMP", own.join("crash.dump"))
            .env("HOME", &own)
            .current_dir(&own)
            .args(["-noinput", "+K", "true", "+P", "250000", "+Q", "262144", "-mnesia", "dir"])
            .arg(format!("\"{}\"", own.join("mnesia").display()))
            .args(["-s", "ejabberd", "-eval", &after_start]);
        command
    };
    let mut facts = packaged("ejabberd");
    facts.insert("archive".into(), archive_fact(setup.archives()));
    let storage = match tables {
        Tables::Mnesia => "Mnesia".into(),
        Tables::Postgresql => {
            packaged_version("postgresql").map_or("PostgreSQL".into(), |v| format!("PostgreSQL {v}"))
        }
    };
    facts.insert("storage".into(), storage);
    Ok(Peer {
        name: match (shapers, tables) {
            (Shapers::Off, Tables::Mnesia) => "ejabberd".into(),
            (Shapers::Off, Tables::Postgresql) => "ejabberd, PostgreSQL".into(),
            (Shapers::AsPackaged, _) => "ejabberd, shapers of its package".into(),
        },
        command: Box::new(command),
        port,
        tls: false,
        ready_file: Some(ready),
        transport: setup.transport,
        folder: folder.to_owned(),
        database,
        hint: Hint::None,
        facts,
        broker: None,
    })
}

/// A cluster with ejabberd's tables.
fn database(erl: &Path) -> Result<Cluster, String> {
    let (driver, package) = DRIVER;
    let asks = format!("case code:lib_dir({driver}) of {{error, _}} -> halt(1); _ -> halt(0) end.");
    let there = Command::new(erl)
        .args(["-noinput", "-boot", "start_clean", "-eval", &asks])
        .status()
        .map_err(|error| format!("cannot start {}: {error}", erl.display()))?;
    if !there.success() {
        return Err(format!(
            "ejabberd cannot speak to PostgreSQL: install Debian's package {package}, or leave it out with --servers"
        ));
    }
    Cluster::create(Path::new(SCHEMA))
}

/// Where the Debian package keeps its Erlang libraries, as its own script says.
fn libraries(control: &Path) -> Result<PathBuf, String> {
    let text = std::fs::read_to_string(control)
        .map_err(|error| format!("cannot read {}: {error}", control.display()))?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("ERL_LIBS="));
    let path = line.map(|path| PathBuf::from(path.trim_matches(['\'', '"'])));
    path.ok_or_else(|| {
        format!("{} does not say where ejabberd's libraries are (ERL_LIBS)", control.display())
    })
}

fn write_accounts(path: &Path, accounts: u64) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    let derived = Accounts::new("whimbrel", "localhost", false);
    write!(out, "<?xml version='1.0'?><server-data xmlns='urn:xmpp:pie:0'><host jid='localhost'>")?;
    for number in 0..accounts {
        write!(out, "<user name='{}' password='{}'/>", Accounts::name(number), derived.password(number))?;
    }
    write!(out, "</host></server-data>")?;
    out.flush()
}

/// The shapers of Debian's configuration, which it gives to everybody who is no administrator.
const SHAPERS: &str = "shaper:\n  normal:\n    rate: 3000\n    burst_size: 20000\n  fast: 200000\n\
    shaper_rules:\n  max_user_sessions: 10\n  max_user_offline_messages:\n    100: all\n  c2s_shaper:\n    normal: all\n";

/// Rooms for at least 1,000 occupants; whether they have an archive goes in.
fn rooms(archives: bool) -> String {
    format!(
        "  mod_muc:\n    host: conference.localhost\n    max_users: 2000\n    max_user_conferences: 10000\n    \
         default_room_options:\n      max_users: 2000\n      mam: {archives}\n"
    )
}

/// Modules that not every run has.
fn optional(setup: &Setup<'_>) -> String {
    let archive = if setup.archives() { "  mod_mam:\n    default: always\n" } else { "" };
    let eventing = match setup.eventing {
        Eventing::On | Eventing::WithContacts => {
            "  mod_pubsub:\n    plugins:\n      - flat\n      - pep\n    last_item_cache: false\n"
        }
        Eventing::Off => "",
    };
    let rooms = if setup.rooms != Rooms::Off { rooms(setup.archives()) } else { String::new() };
    [archive, eventing, &rooms].concat()
}

/// Clients over TCP.
fn listener(port: u16, shapers: Shapers) -> String {
    let shaper = if shapers == Shapers::AsPackaged { "    shaper: c2s_shaper\n" } else { "" };
    format!(
        "listen:\n  -\n    port: {port}\n    ip: \"127.0.0.1\"\n    module: ejabberd_c2s\n    backlog: 4096\n    \
         max_stanza_size: 262144\n    access: all\n{shaper}"
    )
}

/// Clients over WebSocket.
fn web_listener(port: u16) -> String {
    format!(
        "listen:\n  -\n    port: {port}\n    ip: \"127.0.0.1\"\n    module: ejabberd_http\n    backlog: 4096\n    \
         request_handlers:\n      {WEBSOCKET_PATH}: ejabberd_http_ws\n"
    )
}

fn configuration(listener: &str, shapers: Shapers, optional: &str, database: Option<&Cluster>) -> String {
    let rules = if shapers == Shapers::AsPackaged { SHAPERS } else { "" };
    let tables = database.map_or_else(
        || "default_db: mnesia\n".to_owned(),
        |cluster| {
            format!(
                "default_db: sql\nsql_type: pgsql\nsql_server: \"127.0.0.1\"\nsql_port: {}\n\
                 sql_database: {DATABASE}\nsql_username: {USER}\nsql_password: \"{}\"\n",
                cluster.port(),
                cluster.password()
            )
        },
    );
    format!(
        "hosts:\n  - localhost\n\
         loglevel: error\n\
         auth_method: internal\n\
         auth_password_format: scram\n\
         auth_scram_hash: sha\n\
         {tables}\
         {listener}{rules}\
         acl: {{}}\n\
         access_rules: {{}}\n\
         modules:\n  mod_roster: {{}}\n  mod_disco: {{}}\n  mod_ping: {{}}\n  mod_offline: {{}}\n  \
         mod_carboncopy: {{}}\n  mod_blocking: {{}}\n  mod_privacy: {{}}\n  mod_private: {{}}\n  mod_caps: {{}}\n  \
         mod_last: {{}}\n  mod_vcard: {{}}\n  mod_version: {{}}\n  mod_time: {{}}\n{optional}"
    )
}
