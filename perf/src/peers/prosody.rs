//! Prosody as a peer: its internal storage or SQLite, hashed passwords, epoll.

use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::path::Path;
use std::process::Command;

use crate::account::Accounts;
use crate::engine::keys::{Hash, Secret, derive};
use crate::engine::target::Hint;
use crate::peers::running::{find_program, free_port};
use crate::peers::{Eventing, Peer, ROSTERS, Rooms, Setup, Shapers, Storage, archive_fact, packaged};

/// The same iterations as our own accounts have.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("4096 is not zero");

const SALT: &str = "whimbrel-perf";

/// The module of an archive, and its settings: messages of all are kept, and its limits are past what is asked for.
const ARCHIVE: (&str, &str) = (
    "\"mam\"; ",
    "default_archive_policy = true\nmax_archive_query_results = 250\narchive_expires_after = \"never\"\n\
     storage_archive_item_limit = 100000000\n",
);

/// Rooms, behind the host.
const ROOMS: &str = "Component \"conference.localhost\" \"muc\"\n";

/// The same with an archive.
const ROOMS_WITH_ARCHIVE: &str = "Component \"conference.localhost\" \"muc\"\nmodules_enabled = { \"muc_mam\" }\n\
    muc_log_by_default = true\n";

/// Nodes of a service, behind the host.
fn nodes() -> String {
    format!("Component \"pubsub.localhost\" \"pubsub\"\nadmins = {{ \"{}@localhost\" }}\n", Accounts::name(0))
}

/// Writes configuration and accounts.
///
/// # Errors
/// Prosody is not installed, or a file cannot be written.
pub(super) fn prepare(setup: &Setup<'_>, shapers: Shapers, storage: Storage) -> Result<Peer, String> {
    let folder = setup.folder;
    let program = find_program("prosody", "prosody")?;
    let port = free_port()?;
    let data = folder.join("data");
    let users = data.join("localhost/accounts");
    let failed =
        |error: std::io::Error| format!("cannot write Prosody's files in {}: {error}", folder.display());
    std::fs::create_dir_all(&users).map_err(failed)?;
    let config = folder.join("prosody.cfg.lua");
    let rooms = match (setup.rooms != Rooms::Off, setup.archives()) {
        (false, _) => "",
        (true, false) => ROOMS,
        (true, true) => ROOMS_WITH_ARCHIVE,
    };
    let (archive, settings) = if setup.archives() { ARCHIVE } else { ("", "") };
    let (eventing, nodes) =
        if setup.eventing != Eventing::Off { ("\"pep\"; ", nodes()) } else { ("", String::new()) };
    let (module, ports) = if setup.is_web() { web_listener(port) } else { listener(port) };
    let optional = (&*[archive, eventing, module].concat(), &*[settings, &ports].concat());
    let text = configuration(folder, shapers, optional) + stored(storage) + rooms + &nodes;
    std::fs::write(&config, text).map_err(failed)?;
    let derived = Accounts::new("whimbrel", "localhost", false);
    for number in 0..setup.accounts {
        let password = derived.password(number);
        let secret =
            Secret { account: number, password: &password, salt: SALT.as_bytes(), iterations: ITERATIONS };
        let path = users.join(format!("{}.dat", Accounts::name(number)));
        std::fs::write(path, account(&secret)).map_err(failed)?;
    }
    if setup.eventing == Eventing::WithContacts {
        write_rosters(&data.join("localhost/roster"), setup.accounts).map_err(failed)?;
    }
    let command = move || {
        let mut command = Command::new(&program);
        command.arg("--config").arg(&config).arg("-F");
        command
    };
    let name = match (shapers, storage) {
        (Shapers::Off, Storage::Internal) => "Prosody",
        (Shapers::Off, Storage::Sqlite) => "Prosody, SQLite",
        (Shapers::AsPackaged, _) => "Prosody, limits of its package",
    };
    let mut facts = packaged("prosody");
    facts.insert("archive".into(), archive_fact(setup.archives()));
    if setup.eventing == Eventing::WithContacts {
        facts.insert(ROSTERS.into(), "written before the start".into());
    }
    let storage = match storage {
        Storage::Internal => "files",
        Storage::Sqlite => "SQLite, accounts in files",
    };
    facts.insert("storage".into(), storage.into());
    Ok(Peer {
        name: name.into(),
        command: Box::new(command),
        port,
        tls: false,
        ready_file: None,
        transport: setup.transport,
        folder: folder.to_owned(),
        database: None,
        hint: Hint::None,
        facts,
        broker: None,
    })
}

/// An account as Prosody's internal storage keeps it.
fn account(secret: &Secret<'_>) -> String {
    let pair = derive(Hash::Sha1, secret);
    let stored = Hash::Sha1.digest(&pair.client[..20]);
    format!(
        "return {{ [\"iteration_count\"] = {ITERATIONS}; [\"salt\"] = \"{SALT}\"; [\"stored_key\"] = \"{}\"; \
         [\"server_key\"] = \"{}\"; }};\n",
        hex(stored.as_ref()),
        hex(&pair.server[..20])
    )
}

/// Writes rosters in which the first account and those from the third on see each other's presence. Prosody writes the whole file
/// of a roster for each step of each subscription, so a thousand contacts of one account take hours.
fn write_rosters(folder: &Path, accounts: u64) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let write = |account: u64, contacts: &mut dyn Iterator<Item = u64>| {
        let path = folder.join(format!("{}.dat", Accounts::name(account)));
        std::fs::write(path, roster(contacts))
    };
    write(0, &mut (2..accounts))?;
    (2..accounts).try_for_each(|account| write(account, &mut std::iter::once(0)))
}

/// A roster as Prosody's internal storage keeps it.
fn roster(contacts: &mut dyn Iterator<Item = u64>) -> String {
    let mut text = String::from("return {\n\t[false] = { [\"version\"] = 1; [\"pending\"] = {}; };\n");
    for contact in contacts {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "\t[\"{}@localhost\"] = {{ [\"subscription\"] = \"both\"; [\"groups\"] = {{}}; }};",
            Accounts::name(contact)
        );
    }
    text + "};\n"
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// What clients over TCP need: no module, and these settings.
fn listener(port: u16) -> (&'static str, String) {
    ("", format!("c2s_ports = {{ {port} }}\nhttp_ports = {{ }}\n"))
}

/// What clients over WebSocket need: a module, and these settings. Its path is [`WEBSOCKET_PATH`] as it comes.
///
/// [`WEBSOCKET_PATH`]: crate::engine::target::WEBSOCKET_PATH
fn web_listener(port: u16) -> (&'static str, String) {
    let settings = format!(
        "c2s_ports = {{ }}\nhttp_ports = {{ {port} }}\nhttp_interfaces = {{ \"127.0.0.1\" }}\n\
         http_default_host = \"localhost\"\nconsider_websocket_secure = true\n"
    );
    ("\"websocket\"; ", settings)
}

fn configuration(folder: &Path, shapers: Shapers, optional: (&str, &str)) -> String {
    let (module, limits) = match shapers {
        Shapers::Off => ("", ""),
        // As the package's configuration has it.
        Shapers::AsPackaged => ("\"limits\"; ", "limits = { c2s = { rate = \"10kb/s\"; }; }\n"),
    };
    let (optional_modules, settings) = optional;
    let folder = folder.display();
    format!(
        "run_as_root = true\n\
         pidfile = \"{folder}/prosody.pid\"\n\
         data_path = \"{folder}/data\"\n\
         log = {{ warn = \"{folder}/prosody.log\" }}\n\
         network_backend = \"epoll\"\n\
         network_settings = {{ tcp_backlog = 4096 }}\n\
         interfaces = {{ \"127.0.0.1\" }}\n\
         c2s_direct_tls_ports = {{ }}\n\
         s2s_ports = {{ }}\n\
         s2s_direct_tls_ports = {{ }}\n\
         https_ports = {{ }}\n\
         c2s_require_encryption = false\n\
         allow_unencrypted_plain_auth = true\n\
         authentication = \"internal_hashed\"\n\
         modules_enabled = {{ \"roster\"; \"saslauth\"; \"disco\"; \"ping\"; \"offline\"; \"carbons\"; \
         \"blocklist\"; \"private\"; \"vcard\"; \"version\"; \"time\"; {optional_modules}{module}}}\n\
         {settings}{limits}\
         modules_disabled = {{ \"s2s\"; \"tls\"; }}\n\
"
    )
}

/// The end of the configuration: where things are stored, and the host.
fn stored(storage: Storage) -> &'static str {
    match storage {
        Storage::Internal => "storage = \"internal\"\nVirtualHost \"localhost\"\n",
        // The accounts are files, whoever makes them.
        Storage::Sqlite => {
            "default_storage = \"sql\"\nsql = { driver = \"SQLite3\"; database = \"prosody.sqlite\"; }\n\
             storage = { accounts = \"internal\"; }\nVirtualHost \"localhost\"\n"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rosters_are_lua_with_a_row_for_each_contact() {
        let text = roster(&mut (2..4));
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!((rows.len(), rows[0], rows[4]), (5, "return {", "};"));
        for (row, account) in rows[2..4].iter().zip([2, 3]) {
            assert!(row.contains(&format!("[\"{}@localhost\"]", Accounts::name(account))), "{row}");
            assert!(row.contains("\"both\"") && row.ends_with("};"), "{row}");
        }
    }

    #[test]
    fn an_account_holds_the_keys_of_rfc_5802() {
        // The example of RFC 5802 §5: user, pencil, 4096 iterations; the salt is ours.
        let secret = Secret { account: 0, password: "pencil", salt: SALT.as_bytes(), iterations: ITERATIONS };
        let text = account(&secret);
        assert!(text.contains("[\"iteration_count\"] = 4096;"), "{text}");
        let key = text.split("[\"stored_key\"] = \"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(key.len(), 40);
        assert!(!text.contains("pencil"));
    }
}
